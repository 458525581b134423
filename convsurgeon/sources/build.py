"""`--model SPEC` and `--evidence model`: from what names a model to what the model says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from convsurgeon.errors import ModelError, UsageError
from convsurgeon.sources.builders import diffusers, exported, function, timm, torchvision
from convsurgeon.sources.builders import transformers as hugging_face
from convsurgeon.sources.config_file import read_object
from convsurgeon.sources.model import ModelSpeaker

Builder = Callable[[str], ModelSpeaker]

BUILDERS: Mapping[str, Builder] = {
    "timm": timm.by_name,
    "torchvision": torchvision.by_name,
    "transformers": hugging_face.by_path,
    "diffusers": diffusers.by_path,
}
"""What stands before the colon -> what builds from the rest; everything else names a function."""

PROGRAM, FUNCTION = "FILE.pt2", "function"

FORMS = "timm:NAME, torchvision:NAME, transformers:PATH, diffusers:PATH, FILE.pt2, file.py:function"


def build(spec: str) -> ModelSpeaker:
    """Build the model that a SPEC names, without memory and without any download.

    Args:
        spec: `timm:NAME`, `torchvision:NAME`, `transformers:PATH`, `diffusers:PATH`, `FILE.pt2`,
            `file.py:function` or `package.module:function`.

    Raises:
        UsageError: CS090 where the spec has another form.
        ModelError: CS052 without torch; CS062 where the model cannot be built.
        RefusedError: CS063 where a config cannot be read.
    """
    kind, rest = parted(spec)
    return {**BUILDERS, PROGRAM: exported.by_path, FUNCTION: function.build}[kind](rest)


def parted(spec: object) -> tuple[str, str]:
    """Return what kind of model a SPEC names, and which one.

    Returns:
        A key of `BUILDERS` with what stands behind the colon, or PROGRAM or FUNCTION with it all.

    Raises:
        UsageError: CS090 where the spec has another form.
    """
    if not isinstance(spec, str):  # of Python callers, whose models are alive already
        text = f"a {type(spec).__name__} is no text that says what builds a model"
        raise UsageError("CS090", text, where="--model", hint=f"write {FORMS}")
    kind, colon, rest = spec.partition(":")
    if colon and rest and kind in BUILDERS:
        return kind, rest
    if spec.endswith(".pt2"):
        return PROGRAM, spec
    target, _, name = spec.rpartition(":")
    if kind in BUILDERS or not target or not name.isidentifier():
        text = f"{spec!r} names no model"
        raise UsageError("CS090", text, where="--model", hint=f"write {FORMS}")
    return FUNCTION, spec


def build_beside(config_path: Path) -> ModelSpeaker:
    """Build the model of a checkpoint's own `config.json` with the library that wrote it.

    Raises:
        ModelError: CS052 without torch; CS062 where there is no config, it names no library, or
            the library is missing or cannot build the model.
        RefusedError: CS063 where the config cannot be read.
    """
    if not config_path.is_file():
        text, hint = "no config.json to build the model from", "use --model SPEC instead"
        raise ModelError("CS062", text, where=config_path, hint=hint)
    config = read_object(config_path)
    for field, (library, make) in _BY_FIELD.items():
        if isinstance(config.get(field), str):
            return make(config, f"{config_path.name}, built by {library}")
    text = f"it has none of the fields {', '.join(_BY_FIELD)}"
    raise ModelError("CS062", text, where=config_path, hint="use --model SPEC instead")


_BY_FIELD = {
    "_class_name": ("diffusers", diffusers.of_config),
    "model_type": ("transformers", hugging_face.of_config),
    "architecture": ("timm", timm.of_config),
}
"""The field by which a config tells the library that wrote it."""
