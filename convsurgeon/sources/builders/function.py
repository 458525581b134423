"""`file.py:function` and `package.module:function`: code that the user named."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from convsurgeon.errors import ModelError
from convsurgeon.sources.builders.guard import Way, guarded, without_memory
from convsurgeon.sources.model import ModelSpeaker, need_torch


def build(spec: str) -> ModelSpeaker:
    """Call a function that makes a model, without memory, and read the model.

    Args:
        spec: `file.py:function` or `package.module:function`. The function takes no argument,
            and is called again where it fails for want of a tensor's values.

    Raises:
        ModelError: CS052 without torch; CS062 where the function cannot be found, fails, or
            returns something else than an nn.Module.
    """
    return ModelSpeaker.of(called(spec, without_memory), spec)


def called(spec: str, way: Way) -> Any:
    """Return the nn.Module that the function makes.

    Raises:
        ModelError: CS052 or CS062, see `build`.
    """
    target, _, name = spec.rpartition(":")
    torch = need_torch()
    # What the user's code prints must not end up in the JSON on stdout.
    with _importing(target), redirect_stdout(sys.stderr):
        function = _function(target, name, spec)
        model = way(torch, function, spec)
    if not isinstance(model, torch.nn.Module):
        text = f"the function returned a {type(model).__name__}, not an nn.Module"
        raise ModelError("CS062", text, where=spec)
    return model


@contextmanager
def _importing(target: str) -> Iterator[None]:
    """Let imports find the working folder and the file's own, and leave no trace beside them."""
    folders = [str(Path.cwd())]
    if target.endswith(".py"):
        folders.insert(0, str(Path(target).resolve().parent))
    path, written = list(sys.path), sys.dont_write_bytecode
    sys.path[:0] = folders
    sys.dont_write_bytecode = True
    try:
        yield
    finally:
        sys.path[:] = path
        sys.dont_write_bytecode = written


def _function(target: str, name: str, spec: str) -> Callable[[], object]:
    if target.endswith(".py"):
        module = guarded(lambda: _run_file(Path(target)), spec)
    else:
        module = guarded(lambda: importlib.import_module(target), spec)
    function = getattr(module, name, None)
    if not callable(function):
        raise ModelError("CS062", f"{target} has no function {name}", where=spec)
    found: Callable[[], object] = function
    return found


def _run_file(path: Path) -> ModuleType:
    # A name of its own: `model.py` must not become the module `model` of later imports.
    name = f"_convsurgeon_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up here
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module
