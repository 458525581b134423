"""The models of transformers: every class of its modeling files, from its own configuration."""

from __future__ import annotations

import inspect
import json
import pkgutil
import re
from collections.abc import Iterator
from functools import cache, partial
from importlib import import_module
from types import ModuleType
from typing import Any

from tools.zoo.models import Built, Candidate, Changes, Library, meta
from tools.zoo.provenance import tagged

_DEPTHS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "encoder_layers",
           "decoder_layers", "layers", "depth")  # fmt: skip
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_HIDDEN = ("id2label", "label2id", "transformers_version")
_FEW = 2
_MORE_THAN_TEXT = re.compile(r"nn\.Conv|\.from_config\(|load_backbone")


def library() -> Library:
    """Return every class that can be built from a configuration class of the library."""
    version = import_module("transformers").__version__
    # Losses ask for scipy when they are made; none is ever computed here.
    import_module("transformers.utils.import_utils").BACKENDS_MAPPING["scipy"] = (lambda: True, "")
    return Library("transformers", version, tuple(_candidates()))


def _candidates() -> Iterator[Candidate]:
    base = import_module("transformers").PreTrainedModel
    models = import_module("transformers.models")
    for package in sorted(pkgutil.iter_modules(models.__path__), key=lambda each: each.name):
        for module in _modeling(f"transformers.models.{package.name}"):
            for name, kind in vars(module).items():
                own = getattr(kind, "__module__", "") == module.__name__
                if own and isinstance(kind, type) and issubclass(kind, base) and _concrete(kind):
                    title = f"{package.name}.{name}"
                    yield Candidate(title, partial(_build, kind), package.name)


def _modeling(package: str) -> Iterator[ModuleType]:
    found = import_module(package)
    for file in pkgutil.iter_modules(getattr(found, "__path__", [])):
        if not file.name.startswith("modeling_"):
            continue
        try:
            yield import_module(f"{package}.{file.name}")
        except ImportError:  # needs a library that is not there; its classes are not candidates
            continue


def _concrete(kind: type) -> bool:
    return "forward" in vars(kind) or not kind.__name__.endswith("PreTrainedModel")


def _build(kind: Any, changes: Changes) -> Built:
    """Cut what is text; the few that this breaks are built whole, and the other way round.

    Some defaults are tuples where a config file has lists, and the code wants lists.
    """
    text = _is_text(kind)
    reasons: list[Exception] = []
    for few, lists in ((text, False), (not text, False), (text, True)):
        try:
            return _build_from(kind, changes, few=few, lists=lists)
        except Exception as error:  # noqa: BLE001 - the library's own code
            reasons.append(error)
    raise reasons[0]


def _build_from(kind: Any, changes: Changes, *, few: bool, lists: bool) -> Built:
    config = kind.config_class()
    if few:
        cut(config)
    values = fields(config)
    for path, value in changes.items():
        put(config, path, value)
    values |= {path: value for path, value in changes.items() if path in values}
    written = _written(config, kind.__name__)
    types = {path: each.model_type for path, each in configs(config) if each.model_type}
    for path, each in configs(config):
        tag(each, path, lists=lists)
    with meta():
        model = kind(config)
    return Built(model, written, values, types)


@cache
def _text(module: str) -> str:
    return inspect.getsource(import_module(module))


def _is_text(kind: type) -> bool:
    """Tell whether the file that defines the class has neither convolutions nor models in it."""
    return _MORE_THAN_TEXT.search(_text(kind.__module__)) is None


def configs(config: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield a configuration and all nested ones, each with its path."""
    yield path, config
    base = import_module("transformers").PreTrainedConfig
    for name, value in vars(config).items():
        if isinstance(value, base):
            yield from configs(value, f"{path}.{name}" if path else name)


def cut(config: Any) -> None:
    """Leave two layers and two experts in every stack: text stacks repeat themselves."""
    for _, each in configs(config):
        own = vars(each)
        for name in own.keys() & {*_DEPTHS, *_EXPERTS}:
            if type(own[name]) is int:
                own[name] = min(own[name], _FEW)
        if isinstance(own.get("layer_types"), list):
            own["layer_types"] = own["layer_types"][:_FEW]


def fields(config: Any) -> dict[str, Any]:
    """Return the plain values of a configuration and its nested ones by their path."""
    base = import_module("transformers").PreTrainedConfig
    found: dict[str, Any] = {}
    for path, each in configs(config):
        for name, value in vars(each).items():
            if not name.startswith("_") and name not in _HIDDEN and not isinstance(value, base):
                found |= _leaves(f"{path}.{name}" if path else name, value)
    return found


def _leaves(path: str, value: Any) -> dict[str, Any]:
    if type(value) is not dict:
        return {path: value}
    return {p: v for key, each in value.items() for p, v in _leaves(f"{path}.{key}", each).items()}


def put(config: Any, path: str, value: Any) -> None:
    """Set a field of a configuration, or of a dict in it, past every validation."""
    *parents, name = path.split(".")
    holder = config
    for each in parents:
        holder = holder[each] if type(holder) is dict else vars(holder)[each]
    (holder if type(holder) is dict else vars(holder))[name] = value


def tag(config: Any, path: str, *, lists: bool = False) -> None:
    """Tag every number of one configuration; strict dataclasses would validate an assignment."""
    base = import_module("transformers").PreTrainedConfig
    own = vars(config)
    for name, value in own.items():
        if not name.startswith("_") and name not in _HIDDEN and not isinstance(value, base):
            value = list(value) if lists and type(value) is tuple else value  # noqa: PLW2901
            own[name] = tagged(value, f"{path}.{name}" if path else name)


def _written(config: Any, name: str) -> Any:
    """Return the whole configuration as JSON, with the fields that are at their defaults."""
    found = json.loads(json.dumps(config.to_dict(), default=str))
    return {**_without(found), "architectures": [name]}


def _without(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without(each) for key, each in value.items() if key not in _HIDDEN}
