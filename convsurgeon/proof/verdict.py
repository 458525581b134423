"""What verification found: frozen values that decide the exit code."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any

from convsurgeon.geometry import Geometry

SCHEMA = "convsurgeon.verify/1"


@dataclass(frozen=True, slots=True)
class Bits:
    """The equality of bits of one weight.

    Attributes:
        equal: whether every element is the one that the layout says, bit for bit.
        elements: how many were compared.
        differing: how many are not equal.
        note: what is wrong, where it is; empty otherwise.
    """

    equal: bool
    elements: int
    differing: int = 0
    note: str = ""


@dataclass(frozen=True, slots=True)
class Function:
    """The equality of the function of two layers, in float64.

    Attributes:
        equal: whether every output lies within its bound.
        difference: at the output that comes closest to its bound.
        bound: at the same output; see `proof.bounds`.
        outputs: how many were compared.
        inputs: the shapes of the random inputs.
        seed: of their generator.
    """

    equal: bool
    difference: float
    bound: float
    outputs: int
    inputs: tuple[tuple[int, ...], ...]
    seed: int


@dataclass(frozen=True, slots=True)
class Floats:
    """How far each form is from float64 in the stored dtype. Reported, never judged.

    Attributes:
        dtype: the stored one.
        before: largest error of the original form, relative to the largest output.
        after: of the new form.
        between: largest difference of the two, on the same scale.
    """

    dtype: str
    before: float
    after: float
    between: float


def _figures(found: Function | Floats) -> dict[str, Any]:
    """Return the object; JSON has no infinities and no NaN, so they are null."""
    values = asdict(found)
    return {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in values.items()}


@dataclass(frozen=True, slots=True)
class LayerVerdict:
    """One rewritten weight.

    Attributes:
        module: its module.
        key: its name.
        forms: before and after.
        shapes: before and after, as stored.
        given: the geometry that both forms are built from, and the evidence for it. No proof can
            detect a stride that the evidence got wrong.
        bits: the equality of bits.
        function: None where it was not asked or could not be tried.
        floats: None where it was not asked, or the dtype has no kernels here.
        layout: the order in which patches are flattened on the Linear's side.
    """

    module: str
    key: str
    forms: tuple[str, str]
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    given: tuple[Geometry, str, str]
    bits: Bits
    function: Function | None = None
    floats: Floats | None = None
    layout: str = "c p1 p2"

    @property
    def equivalent(self) -> bool:
        """Whether nothing that was tried says no."""
        return self.bits.equal and (self.function is None or self.function.equal)

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `layers`."""
        geometry, level, source = self.given
        return {
            "module": self.module,
            "key": self.key,
            "equivalent": self.equivalent,
            "from": {"form": self.forms[0], "weight_shape": list(self.shapes[0])},
            "to": {"form": self.forms[1], "weight_shape": list(self.shapes[1])},
            "given": {
                "geometry": geometry.to_json(),
                "layout": self.layout,
                "evidence": {"level": level, "source": source},
            },
            "bits": asdict(self.bits),
            "function": self.function and _figures(self.function),
            "floats": self.floats and _figures(self.floats),
        }


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """One pair of files.

    Attributes:
        original: name of the original, empty where only the recipe's digests were there.
        swapped: name of the other.
        layers: every rewritten weight.
        others: how many other tensors were compared byte for byte.
        differences: what else is not equal: tensors, metadata.
    """

    original: str
    swapped: str
    layers: tuple[LayerVerdict, ...]
    others: int
    differences: tuple[str, ...] = ()

    @property
    def scope(self) -> str:
        """`file`, or `rewritten` where nothing could be said about the other tensors."""
        return "file" if self.original else "rewritten"

    @property
    def equivalent(self) -> bool:
        """Whether nothing says no."""
        return not self.differences and all(layer.equivalent for layer in self.layers)

    @property
    def complaints(self) -> tuple[str, ...]:
        """Everything that says no, one line each."""
        bits = [f"{v.module}: {v.bits.note}" for v in self.layers if not v.bits.equal]
        function = [
            f"{v.module}: outputs differ by {v.function.difference:.2g}, "
            f"the bound is {v.function.bound:.2g}"
            for v in self.layers
            if v.function and not v.function.equal
        ]
        return (*bits, *function, *self.differences)

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `files`."""
        return {
            "original": self.original or None,
            "swapped": self.swapped,
            "equivalent": self.equivalent,
            "scope": self.scope,
            "layers": [layer.to_json() for layer in self.layers],
            "other_tensors": self.others,
            "differences": list(self.differences),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The verdict on a call. It must be looked at: `bool()` of it is an error on purpose.

    Attributes:
        files: one per pair of files.
        notes: what the user should know although it decides nothing.
    """

    files: tuple[FileVerdict, ...]
    notes: tuple[str, ...] = ()

    @property
    def equivalent(self) -> bool:
        """Whether all files are equivalent, of which there is at least one."""
        return bool(self.files) and all(file.equivalent for file in self.files)

    @property
    def scope(self) -> str:
        """The narrowest scope among the files."""
        return "file" if all(file.scope == "file" for file in self.files) else "rewritten"

    def __bool__(self) -> bool:
        """Refuse: `if verdict:` would be true for a refutation written as an object.

        Raises:
            TypeError: always.
        """
        raise TypeError("ask verdict.equivalent")

    def to_json(self) -> dict[str, Any]:
        """Return the document of `verify --json`."""
        return {
            "schema": SCHEMA,
            "equivalent": self.equivalent,
            "scope": self.scope,
            "files": [file.to_json() for file in self.files],
            "notes": list(self.notes),
        }
