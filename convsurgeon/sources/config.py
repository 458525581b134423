"""What the `config.json` beside a checkpoint states, without the library that defines its model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Self

from convsurgeon.errors import RefusedError
from convsurgeon.evidence import Statement
from convsurgeon.sources.catalogue.table import entry
from convsurgeon.sources.config_file import parse_object, read_object
from convsurgeon.sources.known import Known, overridden, untold
from convsurgeon.sources.unlike import unlike

_WRAPPERS = re.compile(r"(?:module\.|_orig_mod\.)*")
_MATRIX = 2
_UNKNOWN = "is not in the table of known configurations"
_HARMLESS = frozenset({
    "img_size", "num_classes", "in_chans", "global_pool", "class_token", "reg_tokens",
    "init_values",
    "dynamic_img_size", "embed_dim", "embed_dims", "dims", "depth", "depths", "layers", "num_heads",
    "mlp_ratio", "mlp_ratios", "qkv_bias", "window_size", "drop_rate", "drop_path_rate",
    "attn_drop_rate", "proj_drop_rate", "patch_size", "sr_ratios", "stem_type", "local_up_to_layer",
    "num_init_features", "global_attn_indexes",
})  # fmt: skip
"""Arguments of timm's models that change no stride but that of a layer whose kernel they change."""


@dataclass(frozen=True, slots=True)
class ConfigSpeaker:
    """The facts of one config that hold, with the fields that they read.

    Attributes:
        name: of the file, as the report shows it.
        facts: None where the config says nothing.
        note: why the config says nothing; empty where it says something.
        changed: the config changes the code of what it names, or how it is put together. Then no
            inference from the tensors holds either: they may be the same.
    """

    name: str
    facts: Known | None
    note: str = ""
    changed: bool = False

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a `config.json`.

        Raises:
            RefusedError: CS063 where it cannot be read, or a field that matters has a wrong type.
        """
        return cls.of(read_object(path), name=path.name, where=path)

    @classmethod
    def parse(cls, content: bytes, name: str = "config.json") -> Self:
        """Read the bytes of a `config.json`.

        Raises:
            RefusedError: CS063, see `read`.
        """
        return cls.of(parse_object(content, name), name=name, where=name)

    @classmethod
    def of(cls, config: Mapping[str, Any], *, name: str, where: object) -> Self:
        """Look up what a config says, and check every field that it takes.

        Raises:
            RefusedError: CS063, naming the field.
        """
        found = _Config(config, name, where).facts()
        if isinstance(found, _Silence):
            return cls(name, None, f"{name}: {found.why}", found.changed)
        return cls(name, found)

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what the config says about the weight under `key`.

        Raises:
            ContradictionError: CS061 where a Linear has another number of inputs than it says.
        """
        if key.rpartition(".")[2] != "weight" or len(shape) < _MATRIX:
            return None
        if self.facts is None:
            return untold(self.note, shape) if self.changed else None
        return self.facts.about(_WRAPPERS.sub("", key, count=1), shape)


@dataclass(frozen=True, slots=True)
class _Silence:
    """Why a config says nothing; see `ConfigSpeaker`."""

    why: str
    changed: bool = False


@dataclass(frozen=True, slots=True)
class _Config:
    config: Mapping[str, Any]
    name: str
    where: object

    def facts(self) -> Known | _Silence:
        """Return what is known, or why nothing is."""
        model_type, diffusers = self._text("model_type"), self._text("_class_name")
        architecture = self._text("architecture")
        if not model_type and not diffusers and architecture:
            return self._timm(architecture)
        title = f"model_type {model_type!r}" if model_type else f"class {diffusers!r}"
        if self.config.get("auto_map"):
            # The repository brings its own code, which is never run and may do anything.
            return _Silence(f"auto_map replaces the code of {title}", changed=True)
        if self.config.get("backbone_kwargs") or self.config.get("dilation") is True:
            # An output stride or a dilation changes layers and leaves their shapes.
            name = "backbone_kwargs" if self.config.get("backbone_kwargs") else "dilation"
            return _Silence(f"{name} may change the backbone of {title}", changed=True)
        if model_type:
            return self._transformers(model_type)
        if diffusers:
            return self._known(f"class {diffusers}", _entries(f"diffusers:{diffusers}"))
        return _Silence("no model_type")

    def _transformers(self, model_type: str) -> Known | _Silence:
        classes = entry(f"model_type:{model_type}")
        if classes is None:
            return _Silence(f"model_type {model_type[:80]!r} {_UNKNOWN}")
        named = self._classes()
        strange = next((c for c in named if c not in classes), None)
        if strange is not None:
            return _Silence(f"class {strange[:80]!r} is not known for model_type {model_type!r}")
        found = {c: entry(f"transformers:{model_type}:{c}") for c in named or classes}
        entries = list(found.values()) if named else _without_heads(found)
        base = {model_type.replace("-", "_"), "model", "vision_model"}
        return self._known(f"model_type {model_type}", entries, frozenset(base))

    def _timm(self, architecture: str) -> Known | _Silence:
        arguments = self.config.get("model_args") or {}
        if not isinstance(arguments, dict):
            self._wrong("model_args", "an object")
        strange = next((a for a in arguments if a not in _HARMLESS), None)
        if strange is not None:
            why = f"model_args has {strange[:80]!r}, which may change {architecture[:80]!r}"
            return _Silence(why, changed=True)
        size = arguments.get("patch_size")
        if isinstance(size, list):
            why = f"model_args has a list as patch_size, which may change {architecture[:80]!r}"
            return _Silence(why, changed=True)
        if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
            self._wrong("model_args.patch_size", "a positive integer, or a list of them")
        title = f"architecture {architecture}" + (f", patch_size {size}" if size else "")
        entries = _entries(f"timm:{architecture.partition('.')[0]}")
        free = "sr_ratios" in arguments
        return self._known(title, entries, patch_size=size, free=free)

    def _known(
        self,
        title: str,
        entries: list[Mapping[str, Any]],
        prefixes: frozenset[str] = frozenset(),
        patch_size: int | None = None,
        *,
        free: bool = False,
    ) -> Known | _Silence:
        if not entries:
            return _Silence(f"{title[:90]} {_UNKNOWN}")
        odd = next((u for e in entries if (u := unlike(self.config, e, self.where))), None)
        if odd:
            return _Silence(f"{title}: {odd.what}", changed=odd.hidden)
        patch = overridden(entries[0], patch_size)
        source = f"{self.name}: {title}"
        fields = (self.config, self.where, prefixes, patch, free)
        known = Known(source, self.name, tuple(entries), *fields)
        known.check()
        return known

    def _text(self, name: str) -> str:
        value = self.config.get(name)
        if value is not None and not isinstance(value, str):
            self._wrong(name, "a text")
        return value or ""

    def _classes(self) -> tuple[str, ...]:
        value = self.config.get("architectures")
        names = [] if value is None else value
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            self._wrong("architectures", "a list of texts")
        return tuple(names)

    def _wrong(self, name: str, wanted: str) -> NoReturn:
        text = f"the config cannot be read: {name} is not {wanted}"
        raise RefusedError("CS063", text, where=self.where)


def _entries(key: str) -> list[Mapping[str, Any]]:
    found = entry(key)
    return [] if found is None else [found]


def _without_heads(classes: Mapping[str, Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the entries with those layers only that the model without a head has too.

    A config that names no class may belong to a model with any head, also one of the user's own.
    """
    bare = [e for name, e in classes.items() if name.endswith(("Model", "Backbone"))] or [
        *classes.values()
    ]
    body = {name for e in bare for name in e["slots"]}
    return [
        {**e, "slots": {n: r for n, r in e["slots"].items() if {n, n.partition(".")[2]} & body}}
        for e in classes.values()
    ]
