"""What surrounds every builder: no noise, no network, and one line for whatever is raised."""

from __future__ import annotations

import logging
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import Any, Protocol, TypeVar

from convsurgeon.errors import ConvsurgeonError, ModelError

_MAX_MESSAGE = 300
_CALL_IT = "call the function in Python to see its traceback"
T = TypeVar("T")


class Way(Protocol):
    """How what makes a model is called: `without_memory` or `with_memory`."""

    def __call__(self, torch: Any, make: Callable[[], Any], spec: str, hint: str = ..., /) -> Any:
        """Return what it makes."""


def guarded(step: Callable[[], T], spec: str, hint: str = _CALL_IT) -> T:
    """Run code that somebody else wrote; whatever it raises becomes one line.

    Raises:
        ModelError: CS062.
    """
    try:
        return step()
    except ConvsurgeonError:
        raise
    except (Exception, SystemExit) as error:  # noqa: BLE001 (any code may stand there)
        message = " ".join(str(error).split())[:_MAX_MESSAGE]
        text = f"the model cannot be built: {type(error).__name__}: {message}".rstrip(": ")
        raise ModelError("CS062", text, where=spec, hint=hint) from None


def without_memory(torch: Any, make: Callable[[], Any], spec: str, hint: str = _CALL_IT) -> Any:
    """Call what makes a model, in such a way that its weights take no memory.

    Some constructors read numbers off a tensor of their own (torchvision's RegNet computes its
    widths), which a tensor without memory cannot tell. For them only `torch.empty` gives tensors
    without memory: torch's layers make their weights with it.

    Raises:
        ModelError: CS062 with whatever the code raises.
    """

    def attempt() -> Any:
        try:
            with torch.device("meta"), torch.no_grad():
                return make()
        except RuntimeError:
            with _empty_on_meta(torch), torch.no_grad():
                return make()

    return guarded(attempt, spec, hint)


def with_memory(torch: Any, make: Callable[[], Any], spec: str, hint: str = _CALL_IT) -> Any:
    """Call what makes a model, as users do.

    Raises:
        ModelError: CS062 with whatever the code raises.
    """

    def attempt() -> Any:
        with torch.no_grad():
            return make()

    return guarded(attempt, spec, hint)


def _empty_on_meta(torch: Any) -> Any:
    def redirect(_: Any, function: Any, __: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = dict(kwargs or {})
        if function is torch.empty and given.get("device") is None:
            given["device"] = "meta"
        return function(*args, **given)

    mode = torch.overrides.TorchFunctionMode
    return type("EmptyOnMeta", (mode,), {"__torch_function__": redirect})()


def library(name: str, load: Callable[[], Any], spec: str) -> Any:
    """Import a model library, in silence.

    Raises:
        ModelError: CS062 where it is not installed, or its import fails.
    """
    try:
        with quiet():
            return load()
    except ModuleNotFoundError as error:
        if error.name != name:
            return guarded(_raise(error), spec, f"repair the installation of {name}")
        text, hint = f"the library {name} is not installed", f"pip install {name}"
        raise ModelError("CS062", text, where=spec, hint=hint) from None
    except Exception as error:  # noqa: BLE001 (an import runs whatever stands in the module)
        return guarded(_raise(error), spec, f"repair the installation of {name}")


@contextmanager
def sealed() -> Iterator[None]:
    """Build a library's model: in silence, and with no way to a network.

    A field of a config can name a second model, which a library's constructor would fetch.
    """
    known = vars(socket)["getaddrinfo"]
    vars(socket)["getaddrinfo"] = _refuse  # every client asks it first, also for a plain address
    try:
        with quiet():
            yield
    finally:
        vars(socket)["getaddrinfo"] = known


@contextmanager
def quiet() -> Iterator[None]:
    """Drop what a library prints, warns and logs."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def refuse_code(config: Mapping[str, Any], where: object) -> None:
    """Refuse a config that names code of its own, at any depth.

    Raises:
        ModelError: CS062.
    """
    pending: list[Any] = [config]
    while pending:
        value = pending.pop()
        if isinstance(value, list):
            pending += value
        if not isinstance(value, Mapping):
            continue
        for name in ("auto_map", "trust_remote_code"):
            if value.get(name):
                text = f"{name} in the config asks for code of the repository, which is never run"
                hint = "name the code yourself: --model file.py:function"
                raise ModelError("CS062", text, where=where, hint=hint)
        pending += value.values()


def _refuse(*_: object, **__: object) -> object:
    raise ConnectionRefusedError("it asks for a download, and nothing is downloaded")


def _raise(error: Exception) -> Callable[[], Any]:
    def step() -> Any:
        raise error

    return step
