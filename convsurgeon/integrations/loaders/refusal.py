"""What a library raises while it loads: an answer about the file, or a failure around it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from convsurgeon.errors import ModelError
from convsurgeon.integrations.loaders.loaded import Attempt

_AROUND = (ImportError, OSError, MemoryError)
"""Something that the library needs is not there; a socket that is shut raises an OSError too."""
_MAX_MESSAGE = 300


def refusal(
    error: Exception, folder: str, attempt: Attempt, build: Callable[[], object]
) -> Attempt:
    """Return a load that ended in an exception as an answer about the file.

    Args:
        error: what was raised.
        folder: that was loaded. Its name is another one every time, and left out of the answer.
        attempt: the load, as far as it came.
        build: builds the model without weights; if that fails too, it is not the file's fault.

    Raises:
        ModelError: CS062 where the library lacks something; or whatever `build` raises.
    """
    message = " ".join(str(error).replace(folder, "the folder").split())[:_MAX_MESSAGE]
    text = f"{type(error).__name__}: {message}".rstrip(": ")
    if isinstance(error, _AROUND):
        hint = "give the library what it asks for"
        raise ModelError("CS062", f"the model cannot be loaded: {text}", hint=hint) from None
    build()
    return replace(attempt, failed=(f"the library refuses the file: {text}",))
