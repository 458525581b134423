"""What a name in a config (a class, an architecture) says about each layer, by the catalogue.

The catalogue holds, for each public class, where its code takes the geometry of each convolution
from: constants, and fields of the config. It was read off the running code, see tools/zoo.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

from convsurgeon.errors import ContradictionError
from convsurgeon.evidence import Level, Statement
from convsurgeon.geometry import LINEAR, Geometry, conv_form
from convsurgeon.sources.catalogue.folding import fold
from convsurgeon.sources.catalogue.outcome import Meaning, meaning
from convsurgeon.sources.expressions import Lookup, NoSuchStageError, cite

_FIRST_AXIS = 2
_MAX_AXES = 3
_SIZES = (("k", 1), ("s", 1), ("p", 0), ("d", 1))


class Patch(NamedTuple):
    """A size of patches that a config overrides: the architecture's, and its own."""

    before: int
    now: int


def overridden(entry: Mapping[str, Any], size: int | None) -> Patch | None:
    """Return how a size differs from that of an architecture's largest patches, if it does."""
    rows = [row for rows in entry["slots"].values() for row in rows]
    patches = [max(row["k"]) for row in rows if row.get("o") == {"stride": "kernel"}]
    before = max(patches, default=1)
    return None if size is None or size == before else Patch(before, size)


@dataclass(frozen=True, slots=True)
class Known:
    """The entries of the classes that a config may stand for, and its fields.

    Attributes:
        source: what the config says that no field says, e.g. `config.json: model_type vit`.
        name: of the file, e.g. `config.json`.
        entries: of the catalogue: one, or one per class of the model type.
        config: the JSON object.
        where: the config, for errors.
        prefixes: what may stand before the names of a file and not before those of its class, or
            the reverse: the library drops and adds its base model's name.
        patch: the size of patches, where the config overrides the architecture's.
        free: the config overrides kernels that differ from stage to stage of one architecture, and
            strides with them.
    """

    source: str
    name: str
    entries: tuple[Mapping[str, Any], ...]
    config: Mapping[str, Any]
    where: object
    prefixes: frozenset[str] = frozenset()
    patch: Patch | None = None
    free: bool = False

    def check(self) -> None:
        """Read every field that some layer's geometry comes from.

        Raises:
            RefusedError: CS063, naming a field that is missing or of a wrong type.
        """
        for entry in self.entries:
            for path, default in entry["defaults"].items():
                # Lists of lists, and lists with flags or fractions, are looked at where they count.
                if all(
                    type(n) is int for n in (default if isinstance(default, list) else [default])
                ):
                    self._lookup(entry).check(path)
            for name, rows in entry["slots"].items():
                for row in rows:
                    index = tuple(row["i"][0]) if "i" in row else (0,) * name.count("*")
                    self._sizes(entry, row, index)

    def about(self, name: str, shape: tuple[int, ...]) -> Statement | None:
        """Return what the entries say of a weight, if they all say the same.

        Where the class has such a layer and its geometry cannot be told, the statement has none: an
        inference from the defaults of the class would be no better.

        Args:
            name: of the weight, without wrappers.
            shape: before any swap; a matrix where another tool flattened a kernel.
        """
        folded, index = fold(self._listed(name))
        said = {}
        for entry in self.entries:
            for row in self._of_any_stage(entry, folded) or self._rows(entry, folded, index):
                statement = self._statement(entry, row, index, shape)
                if statement:
                    said[statement.form, statement.geometry, statement.refusal] = statement
        if len(said) == 1:
            return next(iter(said.values()))
        listed = any(folded in entry["slots"] for entry in self.entries)
        return untold(self.source, shape) if listed else None

    def _listed(self, name: str) -> str:
        """Return the name under which the entries have a weight, if they have it."""
        first, _, rest = name.partition(".")
        longer = [f"{prefix}.{name}" for prefix in sorted(self.prefixes)]
        for other in (name, *([rest] if first in self.prefixes else []), *longer):
            if any(fold(other)[0] in entry["slots"] for entry in self.entries):
                return other
        return name

    def _rows(
        self, entry: Mapping[str, Any], folded: str, index: tuple[int, ...]
    ) -> Iterator[Mapping[str, Any]]:
        lookup = self._lookup(entry)
        for row in entry["slots"].get(folded, ()):
            listed = "i" not in row or list(index) in row["i"]
            if listed and all(lookup.value(f) == v for f, v in row.get("if", {}).items()):
                yield row

    def _of_any_stage(self, entry: Mapping[str, Any], folded: str) -> list[Mapping[str, Any]]:
        """Return one row for all stages, where stride is kernel whatever the kernel is."""
        rows = entry["slots"].get(folded, ()) if self.free else ()
        seen = [row.get("k") for row in rows if row.get("o") == {"stride": "kernel"}]
        differ = any(kernel != seen[0] for kernel in seen)
        return [{"o": {"stride": "kernel"}}] if differ and len(seen) == len(rows) else []

    def _statement(
        self,
        entry: Mapping[str, Any],
        row: Mapping[str, Any],
        index: tuple[int, ...],
        shape: tuple[int, ...],
    ) -> Statement | None:
        if "l" in row:
            return self._linear(row["l"], self._lookup(entry), shape)
        if "o" in row:
            return self._observed(row, shape)
        sizes = self._sizes(entry, row, index)
        if sizes is None:
            return None
        kernel, stride, padding, dilation = sizes
        groups = row["g"]
        constant = all(isinstance(k, int) for k in row["k"])
        if constant and len(shape) > _FIRST_AXIS and kernel != shape[_FIRST_AXIS:]:
            return None  # another variant of the class, which has another layer of this name
        if groups == "out" and shape[1] != 1:
            return None
        count = shape[0] if groups == "out" else self._lookup(entry).numbers([groups], index, 1)[0]
        form = conv_form(len(kernel))
        form = form.replace("conv", "conv_transpose") if row["t"] else form
        parts = [part for name, _ in _SIZES for part in row[name]]
        cited = cite(self._lookup(entry), parts, index)
        cited += [f"{f} {str(v).lower()}" for f, v in row.get("if", {}).items()]
        source = f"{self.name}: {', '.join(cited)}" if cited else self.source
        return Statement(
            Level.CONFIG, source, form, Geometry(kernel, stride, padding, dilation, count)
        )

    def _linear(self, path: str | None, lookup: Lookup, shape: tuple[int, ...]) -> Statement:
        """Return what is known of a Linear: the field with `[C, *spatial]` in front of it, if any.

        Raises:
            ContradictionError: CS061 where the weight has another number of inputs.
        """
        if path is None:
            return Statement(Level.CONFIG, self.source, LINEAR)
        channels, *kernel = lookup.sizes(path)
        source = f"{self.name}: {path} {lookup.value(path)}"
        if prod(shape[1:]) != channels * prod(kernel):
            text = f"{source} says {channels * prod(kernel)} inputs, the weight is {list(shape)}"
            raise ContradictionError("CS061", text)
        geometry = Geometry.plain(tuple(kernel), (1,) * len(kernel))
        return Statement(Level.CONFIG, source, LINEAR, geometry)

    def _observed(self, row: Mapping[str, Any], shape: tuple[int, ...]) -> Statement | None:
        """Return what was seen of an architecture's layer: its kernel is part of its name.

        With another patch size only the layer that has it, and those of one position, are known:
        for larger patches timm's ConvNeXt takes stride 1 further down, in layers of the same shape.
        """
        kernel, seen = shape[_FIRST_AXIS:], tuple(row.get("k", ()))
        if self.patch and seen and max(seen) > 1:
            patches = row["o"] == {"stride": "kernel"} and max(seen) == self.patch.before
            if not patches or kernel not in ((), (self.patch.now,) * len(seen)):
                return None
            seen = (self.patch.now,) * len(seen)
        kernel = kernel or seen
        if not kernel or (seen and kernel != seen):
            return None
        said: Meaning = meaning(row["o"], (*shape[:_FIRST_AXIS], *kernel))
        return Statement(Level.CONFIG, self.source, said.form, said.geometry, said.refusal)

    def _sizes(
        self, entry: Mapping[str, Any], row: Mapping[str, Any], index: tuple[int, ...]
    ) -> tuple[tuple[int, ...], ...] | None:
        lookup = self._lookup(entry)
        if row.get("l"):
            lookup.sizes(row["l"])
        if "s" not in row:
            return None
        try:
            return tuple(lookup.numbers(row[name], index, low) for name, low in _SIZES)
        except NoSuchStageError:
            return None

    def _lookup(self, entry: Mapping[str, Any]) -> Lookup:
        return Lookup(self.config, entry["defaults"], self.where)


def untold(source: str, shape: tuple[int, ...]) -> Statement | None:
    """Return the statement of a config that knows of a layer, but not its geometry."""
    axes = len(shape) - _FIRST_AXIS
    return Statement(Level.CONFIG, source, conv_form(axes)) if 1 <= axes <= _MAX_AXES else None
