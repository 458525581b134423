"""What the `config.json` beside a checkpoint states, without the library that defines its model."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import prod
from pathlib import Path
from typing import Any, NoReturn, Self

from convsurgeon.errors import ContradictionError, RefusedError
from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import LINEAR, Geometry
from convsurgeon.sources.config_file import parse_object, read_object
from convsurgeon.sources.facts import FAMILIES
from convsurgeon.sources.fields import Fields, axes_of
from convsurgeon.sources.rows import Fact, Family, Section, Spatial

_WRAPPERS = re.compile(r"(?:module\.|_orig_mod\.)*")
_MATRIX = 2
_MAX_DIGITS = 6  # of a stage: int() of a name of a million digits would take seconds


@dataclass(frozen=True, slots=True)
class ConfigSpeaker:
    """The facts of one config that hold, with the fields that they read.

    Attributes:
        name: of the file, as the report shows it.
        model_type: empty where the config has none that is known.
        facts: each with the object that holds its fields.
        note: why the config says nothing; empty where it says something.
    """

    name: str
    model_type: str
    facts: tuple[tuple[Fact, Fields], ...]
    note: str = ""

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
        model_type = _text(config, "model_type", where)
        classes = _classes(config, where)
        family = FAMILIES.get(model_type)
        doubt = _doubt(config, model_type, classes, family)
        if family is None or doubt:
            return cls(name, "", (), f"{name}: {doubt}")
        top = Fields(config, "", where)
        facts = []
        for fact in family.facts:
            if fact.classes and not set(fact.classes) & set(classes):
                continue
            fields = _section(top, fact.section)
            if fields is None:
                continue
            fields.check(fact)
            if fields.holds(fact.switch):
                facts.append((fact, fields))
        return cls(name, model_type, tuple(facts))

    def about(self, key: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what the config says about the weight under `key`.

        Raises:
            ContradictionError: CS061 where a Linear has another number of inputs than it says.
        """
        module, _, last = key.rpartition(".")
        if last != "weight" or len(shape) < _MATRIX:
            return None
        module = _WRAPPERS.sub("", module, count=1)
        for fact, fields in self.facts:
            match = _compiled(fact.pattern).fullmatch(module)
            if match:
                return self._statement(fact, fields, match, shape)
        return None

    def _statement(
        self, fact: Fact, fields: Fields, match: re.Match[str], shape: tuple[int, ...]
    ) -> Statement | None:
        digits = match.groupdict().get("stage", "0")
        if len(digits) > _MAX_DIGITS:
            return None
        stage, axes = int(digits), axes_of(fact.form)
        stride = fields.along(fact.stride, axes, stage)
        padding = fields.along(fact.padding, axes, stage)
        kernel = fields.along(fact.kernel, axes, stage) if fact.kernel is not None else ()
        if kernel is None or stride is None or padding is None:
            return None  # the config has fewer stages than the file: it is of another model
        source = f"{self.name}: {', '.join(fields.cite(fact, stage)) or self._type}"
        if fact.form == LINEAR:
            if isinstance(fact.kernel, Spatial):
                _check_inputs(fields.inputs(fact.kernel), shape, source, match.string)
            ones = (1,) * len(kernel)
            geometry = Geometry.plain(kernel, ones) if kernel else None
            return Statement(Level.CONFIG, source, LINEAR, geometry)
        if fact.depthwise and shape[1] != 1:
            return None
        groups = shape[0] if fact.depthwise else 1
        geometry = Geometry(kernel, stride, padding, (1,) * axes, groups)
        return Statement(Level.CONFIG, source, fact.form, geometry)

    @property
    def _type(self) -> str:
        return f"model_type {self.model_type}"


def _doubt(
    config: Mapping[str, Any], model_type: str, classes: tuple[str, ...], family: Family | None
) -> str:
    if not model_type:
        return "no model_type"
    if family is None:
        return f"model_type {model_type[:80]!r} is not in the table of known configurations"
    if config.get("auto_map"):
        # The repository brings its own code, which is never run and may do anything.
        return f"auto_map replaces the code of model_type {model_type!r}"
    strange = next((c for c in classes if c not in family.classes), None)
    if strange is not None:
        return f"class {strange[:80]!r} is not known for model_type {model_type!r}"
    return ""


def _section(top: Fields, section: Section | None) -> Fields | None:
    """Return the object that holds a fact's fields; None where its defaults are not known."""
    if section is None:
        return top
    name = next((n for n in section.names if top.data.get(n) is not None), None)
    if name is None:
        return Fields({}, f"{section.names[-1]}.", top.where) if section.optional else None
    data = top.data[name]
    if not isinstance(data, dict):
        _wrong(top.where, name, "an object")
    kind = _text(data, "model_type", top.where, f"{name}.")
    known = kind in (("", section.model_type) if section.optional else (section.model_type,))
    return Fields(data, f"{name}.", top.where) if known and not data.get("auto_map") else None


def _text(data: Mapping[str, Any], name: str, where: object, prefix: str = "") -> str:
    value = data.get(name)
    if value is not None and not isinstance(value, str):
        _wrong(where, prefix + name, "a text")
    return value or ""


def _classes(config: Mapping[str, Any], where: object) -> tuple[str, ...]:
    value = config.get("architectures")
    names = [] if value is None else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        _wrong(where, "architectures", "a list of texts")
    return tuple(names)


def _check_inputs(inputs: int, shape: tuple[int, ...], source: str, module: str) -> None:
    if prod(shape[1:]) != inputs:
        text = f"{source} says {inputs} inputs, the weight is {list(shape)}"
        raise ContradictionError("CS061", text, where=module)


def _wrong(where: object, name: str, wanted: str) -> NoReturn:
    raise RefusedError("CS063", f"the config cannot be read: {name} is not {wanted}", where=where)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern, flags=re.ASCII)
