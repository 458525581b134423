"""Loading through `from_pretrained` of transformers.

Read in version 5.23. `output_loading_info` returns the names that are missing, unexpected or of
another shape, where `ignore_mismatched_sizes` keeps it from raising first. It does not return which
conversions failed: it raises and leaves that to the log. And of two tensors of a file that are one
tensor of the model, it takes one and says nothing of the other.

Values are loaded as users load them: in the dtype that the config states, else in the file's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from functools import partial
from importlib import import_module
from traceback import walk_tb
from typing import Any

from convsurgeon.integrations.loaders.folder import FileNames, Place, laid_out
from convsurgeon.integrations.loaders.loaded import Attempt
from convsurgeon.integrations.loaders.refusal import refusal
from convsurgeon.integrations.transformers import ignored
from convsurgeon.sources.builders.transformers import (
    KERNELS,
    installed,
    model_class,
    of_config,
    without,
)
from convsurgeon.sources.names import Renamed, meanings
from convsurgeon.store import Checkpoint

_FILES = FileNames("model.safetensors", "model.safetensors.index.json")
_LEFT_OUT = KERNELS | {"transformers_weights"}
"""Fields that name kernels, which might be loaded from a hub, or another file of weights."""
_TABLES = (
    ("transformers.monkey_patching", "_monkey_patch_mapping_cache"),
    ("transformers.conversion_mapping", "_checkpoint_conversion_mapping_cache"),
    ("transformers.fusion_mapping", "_REGISTERED_FUSION_SOURCE_PATTERNS"),
)


def load(checkpoint: Checkpoint, config: Mapping[str, Any], place: Place, where: str) -> Attempt:
    """Load a checkpoint with the class that its config names.

    Args:
        checkpoint: its files.
        config: its `config.json`.
        place: puts the weights into the folder that the library loads.
        where: the config, for errors.

    Raises:
        ModelError: CS062, see `refusal`; or the config names no class of transformers.
    """
    transformers = installed(where)
    found = model_class(transformers, config, where)
    version = f"transformers {transformers.__version__}"
    plain = without(config, _LEFT_OUT)
    with laid_out(checkpoint, _FILES, plain, place) as folder, _tables_restored():
        try:
            model, info = found.from_pretrained(
                folder,
                dtype="auto",
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
            )
        except Exception as error:  # noqa: BLE001 (a library may raise anything)
            failed = tuple(_conversions(error))
            refused = Attempt(f"{version}: {found.__name__}", None, failed=failed)
            if failed:
                return refused
            return refusal(error, folder, refused, partial(of_config, config, where))
        return _attempt(f"{version}: {type(model).__name__}", model, info, checkpoint)


def _attempt(source: str, model: Any, info: Mapping[str, Any], checkpoint: Checkpoint) -> Attempt:
    keys = [key for file in checkpoint.sources for key in file.header.by_name]
    meaning = meanings(model, keys, set(model.state_dict()))
    key_of = {one.name: one.key for one in meaning.values() if one.pattern is None}
    return Attempt(
        source,
        model,
        missing=tuple(info["missing_keys"]),
        unexpected=tuple(key_of.get(name, name) for name in info["unexpected_keys"]),
        mismatched=tuple((n, tuple(file), tuple(own)) for n, file, own in info["mismatched_keys"]),
        failed=(*info["error_msgs"], *_doubles(model, meaning.values())),
        may_lack=ignored(model)[0],
    )


def _doubles(model: Any, meaning: Iterable[Renamed]) -> Iterator[str]:
    """Yield the tensors of a file that stand for one tensor of the model, under several names."""
    keys: dict[str, dict[str, str]] = {}
    for one in meaning:
        # What goes into one conversion together is meant to be one tensor.
        keys.setdefault(one.name, {})["" if one.pattern else one.key] = one.key
    for name in model.state_dict():
        several = sorted(keys.get(name, {}).values())
        if several[1:]:
            yield f"{' and '.join(several)} in the file are both {name}: the model takes one"


def _conversions(error: Exception) -> Iterator[str]:
    """Yield which conversions failed: the record of them stands where the library raises."""
    for frame, _ in walk_tb(error.__traceback__):
        record = getattr(frame.f_locals.get("loading_info"), "conversion_errors", None)
        if record:
            for name, text in sorted(record.items()):
                reason = " ".join(" ".join(text.splitlines()[-2:]).split())
                yield f"{name} cannot be converted: {reason}"
            return


@contextmanager
def _tables_restored() -> Iterator[None]:
    """Keep what a config asks for from reaching the next model.

    The library registers a fusion for the whole process, under the names of classes that it
    searches for in the names of all its classes.
    """
    before = []
    for path, name in _TABLES:
        with suppress(ImportError, AttributeError):  # older versions know no fusion
            module = import_module(path)
            before.append((module, name, copy(getattr(module, name))))
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)
