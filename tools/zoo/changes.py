"""Build a known architecture from a configuration that nobody published: one function a library.

The numbers stand in tables beside this module; what becomes of them is the libraries' own doing.
"""

from __future__ import annotations

import copy
import json
import pkgutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import Any

from tools.zoo.models import made, meta, overriding, replaced
from tools.zoo.of_transformers import configs, cut

Fields = dict[str, Any]
"""Name of a field -> its new value; a dict for a nested configuration."""

_TEXT = frozenset({"text_config", "decoder", "decoder_config", "language_config", "llm_config"})


@dataclass(frozen=True, slots=True)
class Change:
    """One row of a table.

    Attributes:
        base: the architecture that is changed, by its name in the library.
        word: what is changed, in a word.
        fields: the new values.
        full: whether a configuration is written with its defaults; else only what differs.
    """

    base: str
    word: str
    fields: Fields
    full: bool


@dataclass(frozen=True, slots=True)
class Changed:
    """A model that was built from changed fields.

    Attributes:
        model: the nn.Module, without memory.
        family: the file or package that defines it.
        config: what the library would write into config.json; as in the census where none.
        again: builds the model once more, from nothing but `config`; None where the library
            reads no such file.
        default: builds the unchanged architecture.
    """

    model: Any
    family: str
    config: Any
    again: Callable[[], Any] | None
    default: Callable[[], Any]


def _file_of(model: Any) -> str:
    return type(model).__module__.rpartition(".")[2]


def of_transformers(change: Change) -> Changed:
    """Build a class from its own configuration class, as `save_pretrained` would record it."""
    # Losses ask for scipy when they are made; none is ever computed here.
    import_module("transformers.utils.import_utils").BACKENDS_MAPPING["scipy"] = (lambda: True, "")
    package, _, name = change.base.partition(".")
    kind = _kind(package, name)
    config = _configured(kind.config_class(), change.fields)
    for path, each in configs(config):
        if path.rpartition(".")[2] in _TEXT:
            cut(each)
    model = _on_meta(kind, config)
    model.config.architectures, model.config.dtype = [name], "float32"
    written = json.loads(model.config.to_json_string(use_diff=not change.full))
    again = partial(_from_written, kind, written)
    return Changed(model, package, written, again, lambda: _on_meta(kind, kind.config_class()))


def _kind(package: str, name: str) -> Any:
    """Return a class of the modeling files of a package of transformers."""
    prefix = f"transformers.models.{package}"
    for file in pkgutil.iter_modules(import_module(prefix).__path__):
        if file.name.startswith("modeling_"):
            module = import_module(f"{prefix}.{file.name}")
            if name in vars(module):
                return vars(module)[name]
    raise LookupError(f"{prefix} has no {name}")


def _on_meta(kind: Any, config: Any) -> Any:
    with meta():
        return kind(config)


def _from_written(kind: Any, written: Fields) -> Any:
    # The library writes into the dict, which is still to be recorded.
    return _on_meta(kind, kind.config_class.from_dict(copy.deepcopy(written)))


def _configured(default: Any, fields: Fields) -> Any:
    """Return a configuration with changed fields, derived ones computed anew by its class."""
    base = import_module("transformers").PreTrainedConfig
    values: Fields = {}
    for name, value in fields.items():
        nested = getattr(default, name)
        inner = isinstance(nested, base)
        values[name] = _nested(nested, value) if inner else value
    return type(default)(**values)


def _nested(default: Any, fields: Fields) -> Any:
    """Return the same, keeping what the outer class sets otherwise than the inner one."""
    base = import_module("transformers").PreTrainedConfig
    derived = {"model_type", "transformers_version", "stage_names"}
    kept = {k: v for k, v in default.to_diff_dict().items() if k not in derived}
    deeper = {
        name: _nested(getattr(default, name), value)
        if isinstance(getattr(default, name), base)
        else value
        for name, value in fields.items()
    }
    return type(default)(**(kept | deeper))


def of_timm(change: Change) -> Changed:
    """Build with other arguments; the configuration is what timm exports to a hub."""
    create = partial(import_module("timm").create_model, change.base)
    model = made(partial(create, **tupled(change.fields)))
    config = _exported(model)
    rebuild = partial(create, num_classes=config["num_classes"])
    arguments = {k: v for k, v in config.get("model_args", {}).items() if k != "num_classes"}
    again = partial(made, partial(rebuild, **arguments))
    return Changed(model, _file_of(model), config, again, partial(made, create))


def _exported(model: Any) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.json"
        import_module("timm.models._hub").save_config_for_hf(model, str(path))
        return json.loads(path.read_text())


def tupled(fields: Mapping[str, Any]) -> Fields:
    """Return the arguments with tuples for lists: constructors default to tuples."""
    return {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}


def of_diffusers(change: Change) -> Changed:
    """Build with other arguments of the constructor; the configuration is the registered one."""
    candidate = _diffusers()[change.base]
    built = candidate.build(tupled(change.fields))
    rebuild = partial(type(built.model).from_config, copy.deepcopy(built.config))
    again = partial(made, rebuild)
    family = _file_of(built.model)
    return Changed(built.model, family, built.config, again, lambda: candidate.build({}).model)


@cache
def _diffusers() -> dict[str, Any]:
    found = import_module("tools.zoo.of_diffusers").library()
    return {each.name: each for each in found.candidates}


def of_open_clip(change: Change) -> Changed:
    """Build from the shipped JSON with other fields; it is not called config.json in a file."""
    factory = import_module("open_clip.factory")
    shipped = factory._MODEL_CONFIGS  # noqa: SLF001 - where open_clip looks a name up
    quiet = {"pretrained_image": False, "pretrained_text": False, "load_weights": False}
    create = partial(factory.create_model, change.base, device="meta", **quiet)
    config = copy.deepcopy(shipped[change.base])
    for section, fields in change.fields.items():
        config[section] |= fields
    with replaced(shipped, change.base, config):
        model = made(create)
    written = {key: value for key, value in config.items() if key != "custom_text"}
    return Changed(model, "open_clip", written, None, partial(made, create))


def of_torchvision(change: Change) -> Changed:
    """Build the class behind a builder with other arguments than the builder passes."""
    build = partial(import_module("torchvision.models").get_model_builder(change.base))
    default = made(build)
    kind = type(default)
    fields = dict(change.fields)
    if "block_setting" in fields:
        fields["block_setting"] = _blocks(fields["block_setting"])
    with replaced(vars(import_module(kind.__module__)), kind.__name__, overriding(kind, fields)):
        model = made(build)
    return Changed(model, _file_of(model), {}, None, lambda: default)


def _blocks(rows: list[list[int]]) -> list[Any]:
    """Return the stages of a ConvNeXt: width, next width (0: none follows), number of blocks."""
    stage = import_module("torchvision.models.convnext").CNBlockConfig
    return [stage(width, after or None, count) for width, after, count in rows]


BUILDERS: Mapping[str, Callable[[Change], Changed]] = {
    "diffusers": of_diffusers,
    "open_clip": of_open_clip,
    "timm": of_timm,
    "torchvision": of_torchvision,
    "transformers": of_transformers,
}
