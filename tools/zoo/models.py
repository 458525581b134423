"""What every library has in common: candidates, and building one on the meta device."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from types import FrameType
from typing import Any

Changes = dict[str, Any]
"""Path of a field -> the value to build with instead of the default."""


@dataclass(frozen=True, slots=True)
class Built:
    """A model with what it was built from.

    Attributes:
        model: the nn.Module.
        config: what the library would write into config.json; None where it writes none.
        values: path of a field of the configuration -> the value that was built with.
        model_types: path of a nested configuration ("" for the outermost) -> its model type.
    """

    model: Any
    config: Any
    values: dict[str, Any]
    model_types: dict[str, str]


@dataclass(frozen=True, slots=True)
class Candidate:
    """An architecture that can be tried.

    Attributes:
        name: in its library.
        build: from changed fields to the model; raises whatever the library raises.
        family: the package that defines it; empty for the file that defines the model's class.
    """

    name: str
    build: Callable[[Changes], Built]
    family: str = ""


@dataclass(frozen=True, slots=True)
class Library:
    """One of the libraries.

    Attributes:
        name: the `source` of its rows.
        version: of the installed one.
        candidates: everything that it defines.
        variants: what else to build of an architecture, after its name; empty for most.
    """

    name: str
    version: str
    candidates: tuple[Candidate, ...]
    variants: Callable[[dict[str, Any]], list[Candidate]] = lambda _: []


_INITIALISERS = frozenset({
    "normal_", "uniform_", "clamp_", "erfinv_", "mul_", "add_", "sub_", "div_", "fill_", "zero_",
    "copy_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_",
    "xavier_normal_", "orthogonal_", "constant_",
})  # fmt: skip


@contextmanager
def meta() -> Iterator[None]:
    """Let every tensor be made without memory, and leave out filling it: most of the time."""
    torch = import_module("torch")

    class Unfilled(import_module("torch.overrides").TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            named = kwargs or {}
            filled = args[0] if args else named.get("tensor")  # torch.nn.init passes it by name
            if func.__name__ in _INITIALISERS and getattr(filled, "is_meta", False):
                return filled
            return func(*args, **named)

    with torch.device("meta"), Unfilled():
        yield


@contextmanager
def meta_parameters() -> Iterator[None]:
    """Let only parameters be without memory: for code that computes with other tensors."""
    base = import_module("torch.nn").Module
    original = base.register_parameter

    def register(self: Any, name: str, parameter: Any) -> None:
        # One that lies there already may be shared: it must stay the same object.
        if parameter is not None and parameter.device.type != "meta":
            moved = parameter.detach().to("meta")
            parameter = type(parameter)(moved, requires_grad=parameter.requires_grad)
        original(self, name, parameter)

    base.register_parameter = register
    try:
        yield
    finally:
        base.register_parameter = original


def made(make: Callable[[], Any]) -> Any:
    """Return the model, made on the meta device, or as much of it as its code allows."""
    try:
        with meta():
            return make()
    except Exception as first:  # noqa: BLE001 - the code wants numbers of a tensor that has none
        try:
            with meta_parameters():
                return make()
        except Exception:  # noqa: BLE001 - it was not that
            raise first from None


@contextmanager
def replaced(table: dict[str, Any], name: str, value: Any) -> Iterator[None]:
    """Put another value under a name for the length of the block."""
    before, table[name] = table[name], value
    try:
        yield
    finally:
        table[name] = before


def overriding(kind: Any, fields: Mapping[str, Any]) -> Callable[..., Any]:
    """Return a maker of the class that puts some arguments in the place of those it is given."""

    def make(*args: Any, **kwargs: Any) -> Any:
        passed = inspect.signature(kind).bind_partial(*args, **kwargs)
        return kind(**{**passed.arguments, **fields})

    return make


class TooLongError(BaseException):
    """The time limit has passed. Not an Exception, so that no library can swallow it."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise TooLongError in the block after so many seconds of wall time; not on Windows."""

    def ring(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TooLongError(f"took more than {seconds} s")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


_KEPT: list[Any] = []


def prepare() -> None:
    """Keep the libraries off the network and quiet, and let torchvision import without its ops.

    A torchvision that was built for another torch lacks `torchvision::nms`; declaring its schema
    is enough to import it, and no model here is ever called.
    """
    os.environ |= {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
    warnings.simplefilter("ignore")
    if _KEPT or "torchvision" in sys.modules:
        return
    library = import_module("torch").library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    _KEPT.append(library)
