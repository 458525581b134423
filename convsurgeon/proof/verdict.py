"""What verification found: frozen values that decide the exit code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from convsurgeon.geometry import Geometry
from convsurgeon.proof.circumstances import Environment, FileDigest, ReceiptCheck
from convsurgeon.proof.drift import ModelVerdict
from convsurgeon.proof.figures import Bits, Floats, Function, floats_json, function_json, refutation
from convsurgeon.proof.judged import Judged

SCHEMA = "convsurgeon.verify/1"


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

    @property
    def sampled(self) -> bool:
        """Whether the proof of the function tried a part of the places only."""
        return self.function is not None and self.function.probes.sampled

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
            "function": self.function and function_json(self.function),
            "floats": self.floats and floats_json(self.floats),
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
        renamed: name in the original and in the swapped file of each tensor that the recipe says
            was renamed; where one is not, that is a difference.
        digests: of the files and of their sidecars, the original first; None where nobody asked for
            them.
    """

    original: str
    swapped: str
    layers: tuple[LayerVerdict, ...]
    others: int
    differences: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    digests: tuple[FileDigest, ...] | None = None

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
            f"{v.module}: {refutation(v.function)}"
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
            "renamed": [{"before": old, "after": new} for old, new in self.renamed],
            "digests": self.digests and [asdict(one) for one in self.digests],
        }


@dataclass(frozen=True, slots=True)
class Verdict(Judged):
    """The verdict on a call. It must be looked at: `bool()` of it is an error on purpose.

    Attributes:
        files: one per pair of files.
        notes: what the user should know although it decides nothing.
        models: whole models that were loaded or run.
        asked: what the call asked for, so that it can be repeated.
        environment: what it ran on; None in a verdict that nobody keeps.
        receipt: how this verdict agrees with an earlier one; None where there was none.
    """

    files: tuple[FileVerdict, ...]
    notes: tuple[str, ...] = ()
    models: tuple[ModelVerdict, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    environment: Environment | None = None
    receipt: ReceiptCheck | None = None

    @property
    def equivalent(self) -> bool:
        """Whether all files are equivalent, of which there is at least one, and nothing says no."""
        if self.receipt is not None and self.receipt.differences:
            return False
        files = bool(self.files) and all(file.equivalent for file in self.files)
        return files and all(model.equivalent for model in self.models)

    @property
    def scope(self) -> str:
        """The narrowest scope among the files."""
        return "file" if all(file.scope == "file" for file in self.files) else "rewritten"

    @property
    def complaints(self) -> tuple[str, ...]:
        """Everything that says no, one line each."""
        files = (line for file in self.files for line in file.complaints)
        models = (line for model in self.models for line in model.complaints)
        return (*files, *models, *(self.receipt.differences if self.receipt else ()))

    @property
    def sampled(self) -> bool:
        """Whether a proof tried a part of what there is to try."""
        return any(layer.sampled for file in self.files for layer in file.layers)

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 0 (equivalent), 1 (not), or 4 (a proof was sampled, and that is not enough).

        Args:
            strict: whether a sampled proof is not enough.
        """
        if not self.equivalent:
            return 1
        return 4 if strict and self.sampled else 0

    def to_json(self) -> dict[str, Any]:
        """Return the document of `verify --json`; kept, it is a receipt."""
        return {
            "schema": SCHEMA,
            "equivalent": self.equivalent,
            "scope": self.scope,
            "sampled": self.sampled,
            "asked": dict(self.asked),
            "files": [file.to_json() for file in self.files],
            "models": [model.to_json() for model in self.models],
            "environment": self.environment and asdict(self.environment),
            "receipt": self.receipt and asdict(self.receipt),
            "notes": list(self.notes),
        }
