"""A model built without memory from code that the user named: `file.py:function`."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from convsurgeon.errors import ModelError, UsageError
from convsurgeon.sources.model import ModelSpeaker, need_torch

_MAX_MESSAGE = 300


def build(spec: str) -> ModelSpeaker:
    """Call a function that makes a model, on the meta device, and read the model.

    Args:
        spec: `file.py:function` or `package.module:function`. The function takes no argument.

    Raises:
        UsageError: CS090 where the spec has another form.
        ModelError: CS052 without torch; CS062 where the function cannot be found, fails, or
            returns something else than an nn.Module.
    """
    target, _, name = spec.rpartition(":")
    if not target or not name.isidentifier():
        hint = "write file.py:function or package.module:function"
        raise UsageError("CS090", f"{spec!r} names no function", where="--model", hint=hint)
    torch = need_torch()
    # What the user's code prints must not end up in the JSON on stdout.
    with _importing(target), redirect_stdout(sys.stderr):
        function = _function(target, name, spec)
        with torch.device("meta"), torch.no_grad():
            model = _guarded(function, spec)
    if not isinstance(model, torch.nn.Module):
        text = f"the function returned a {type(model).__name__}, not an nn.Module"
        raise ModelError("CS062", text, where=spec)
    return ModelSpeaker.of(model, spec)


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
        module = _guarded(lambda: _run_file(Path(target)), spec)
    else:
        module = _guarded(lambda: importlib.import_module(target), spec)
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


def _guarded(step: Callable[[], Any], spec: str) -> Any:
    """Run the user's code; whatever it raises becomes one line."""
    try:
        return step()
    except (Exception, SystemExit) as error:  # noqa: BLE001 (any code may stand there)
        message = " ".join(str(error).split())[:_MAX_MESSAGE]
        text = f"the model cannot be built: {type(error).__name__}: {message}".rstrip(": ")
        hint = "call the function in Python to see its traceback"
        raise ModelError("CS062", text, where=spec, hint=hint) from None
