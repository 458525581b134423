"""Loading through `from_pretrained` of diffusers.

Read in version 0.42: the names that are missing, unexpected or of another shape are returned, where
`ignore_mismatched_sizes` keeps it from raising first. Missing weights are not even initialised: the
library turns initialisers off, and leaves them unwritten or without memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from importlib.util import find_spec
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.integrations.loaders.folder import FileNames, Place, laid_out
from convsurgeon.integrations.loaders.loaded import Attempt
from convsurgeon.integrations.loaders.refusal import refusal
from convsurgeon.sources.builders.diffusers import installed, model_class, of_config
from convsurgeon.store import Checkpoint

_STEM = "diffusion_pytorch_model.safetensors"
_FILES = FileNames(_STEM, f"{_STEM}.index.json")


def load(checkpoint: Checkpoint, config: Mapping[str, Any], place: Place, where: str) -> Attempt:
    """Load a checkpoint with the class that its config names.

    Args:
        checkpoint: its files.
        config: its `config.json`.
        place: puts the weights into the folder that the library loads.
        where: the config, for errors.

    Raises:
        ModelError: CS062, see `refusal`; or the config names no model of diffusers.
    """
    diffusers = installed(where)
    found = model_class(diffusers, config, where)
    source = f"diffusers {diffusers.__version__}: {found.__name__}"
    if getattr(found, "_keep_in_fp32_modules", None) and find_spec("accelerate") is None:
        # Without it the library raises an error about an argument that nobody gave.
        text = f"diffusers loads {found.__name__} with the library accelerate only"
        raise ModelError("CS062", text, where=where, hint="pip install accelerate")
    with laid_out(checkpoint, _FILES, config, place) as folder:
        try:
            model, info = found.from_pretrained(
                folder,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                local_files_only=True,
            )
        except Exception as error:  # noqa: BLE001 (a library may raise anything)
            build = partial(of_config, config, where)
            return refusal(error, folder, Attempt(source, None), build)
    return Attempt(
        source,
        model,
        missing=tuple(info["missing_keys"]),
        unexpected=tuple(info["unexpected_keys"]),
        mismatched=tuple((n, tuple(file), tuple(own)) for n, file, own in info["mismatched_keys"]),
        failed=tuple(info["error_msgs"]),
    )
