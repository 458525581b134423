"""`load_through`: a checkpoint, its config and the name of a library -> a model and complaints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

from convsurgeon.errors import ConvsurgeonError, ModelError, UsageError
from convsurgeon.integrations.loaders import diffusers, timm, transformers
from convsurgeon.integrations.loaders.folder import Place, blank, linked
from convsurgeon.integrations.loaders.loaded import Attempt, Loaded, complaints
from convsurgeon.integrations.loaders.provenance import left_over, made_up, repeatable
from convsurgeon.sources.builders.guard import refuse_code, sealed
from convsurgeon.sources.config_file import read_object
from convsurgeon.store import Checkpoint, ReadOptions, SafetensorsFile, only_path, read_checkpoint

Loader = Callable[[Checkpoint, Mapping[str, Any], Place, str], Attempt]

_LOADERS: Mapping[str, Loader] = {
    "transformers": transformers.load,
    "diffusers": diffusers.load,
    "timm": timm.load,
}
LOADERS = tuple(_LOADERS)
"""The libraries whose loaders are known."""

_UNKNOWN = "the library refuses the same file with zeros in it: nobody knows what it made up"


def load_through(library: str, path: Path) -> Loaded:
    """Load a checkpoint as its users do, and hear what the library hides.

    The `config.json` beside the file decides what is built. Nothing is downloaded, no code of the
    checkpoint's repository is run, and nothing that the config asks for stays behind in the
    library. The file is loaded twice, see `provenance`; one model is in memory at a time.

    Args:
        library: one of `LOADERS`.
        path: a safetensors file, an index, or a folder with one of them.

    Raises:
        UsageError: CS090 for another library, or a folder with several checkpoints.
        ModelError: CS052 without torch; CS062 where there is no config, the library is not
            installed or lacks something, or it cannot build the model that the config names.
        RefusedError: CS063 where the config cannot be read; where the file cannot be read.
    """
    if library not in _LOADERS:
        text = f"{library!r} is none of {', '.join(LOADERS)}"
        raise UsageError("CS090", text, where="--loader")
    checkpoint = read_checkpoint(only_path(path), ReadOptions())
    if not all(isinstance(source, SafetensorsFile) for source in checkpoint.sources):
        text, hint = "only safetensors files are loaded", "convsurgeon swap writes one"
        raise UsageError("CS090", text, where=checkpoint.path, hint=hint)
    config_path = checkpoint.path.parent / "config.json"
    if not config_path.is_file():
        text, hint = "no config.json to build the model from", "put it beside the checkpoint"
        raise ModelError("CS062", text, where=config_path, hint=hint)
    config = read_object(config_path)
    refuse_code(config, config_path)
    try:
        return _loaded(_LOADERS[library], checkpoint, config, str(config_path))
    except ConvsurgeonError as error:
        raise error.at(config_path) from None


def _loaded(
    loader: Loader, checkpoint: Checkpoint, config: Mapping[str, Any], where: str
) -> Loaded:
    with sealed(), redirect_stderr(StringIO()):  # progress bars go there
        with repeatable():
            empty = loader(checkpoint, config, blank, where)
        left = None if empty.model is None else left_over(empty.model)
        del empty  # before the next one is made
        with repeatable():
            attempt = loader(checkpoint, config, linked, where)
    model = attempt.model
    if model is None:
        return Loaded(None, attempt.source, complaints(attempt, ()))
    if left is None:
        attempt, left = replace(attempt, failed=(*attempt.failed, _UNKNOWN)), {}
    return Loaded(model, attempt.source, complaints(attempt, made_up(model, left)))
