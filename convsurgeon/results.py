"""What `swap` and `restore` did: frozen values; text and JSON are views of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convsurgeon.plan import Failure, FilePlan, Plan, Verdict
from convsurgeon.plan.dense import DensePlan
from convsurgeon.proof import FileVerdict
from convsurgeon.proof import Verdict as Proof
from convsurgeon.proof.cells_verdict import DenseVerdict
from convsurgeon.timing import BenchReport


@dataclass(frozen=True, slots=True)
class InPlace:
    """What a rewrite in place wrote, or would write.

    Attributes:
        header_bytes: of the headers that are written over the old ones, with their lengths.
        sidecars: the files beside the checkpoint that hold recipes for which headers had no room.
        tensor_bytes: always none.
    """

    header_bytes: int
    sidecars: tuple[str, ...]
    tensor_bytes: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `in_place`."""
        return {
            "tensor_bytes": self.tensor_bytes,
            "header_bytes": self.header_bytes,
            "sidecars": list(self.sidecars),
        }


@dataclass(frozen=True, eq=False, slots=True)
class DenseReport:
    """A classifier that became fully convolutional.

    Attributes:
        plan: what was to be done, and was.
        model: the new network, an fx.GraphModule; None after a dry run.
        verdict: the proof; None where it was not asked for.
    """

    plan: DensePlan
    model: Any = None
    verdict: DenseVerdict | None = None

    def __str__(self) -> str:
        """Return the plan, and a line for each question of the proof."""
        proved = () if self.verdict is None else self.verdict.lines()
        return "\n".join((str(self.plan), *(f"  {line}" for line in proved)))

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `fully_convolutional`."""
        return {
            **self.plan.to_json(),
            "verdict": None if self.verdict is None else self.verdict.to_json(),
        }


@dataclass(frozen=True, slots=True)
class SwappedFile:
    """One checkpoint.

    Attributes:
        plan: what was to be done, and was.
        output: where the result is; None where nothing was written.
        whole: what to load or to restore: the output, or the folder that it is a part of.
        outcome: `written`, `same` (the very bytes were there), `skipped`, or `planned` (dry run).
        seconds: wall time.
        verdicts: one per file that was written.
        warning: what the user has to know although the output is there.
        linked: files that the output shares with the source, as one more name for each.
        in_place: what was written, where the output is the source itself; None otherwise.
        dense: the network that the whole model becomes, proved; None where it is not asked for.
    """

    plan: FilePlan
    output: str | None
    whole: str | None
    outcome: str
    seconds: float
    verdicts: tuple[FileVerdict, ...] = ()
    warning: str = ""
    linked: tuple[str, ...] = ()
    in_place: InPlace | None = None
    dense: DenseReport | None = None

    @property
    def undecided(self) -> int:
        """How many layers stayed undecided."""
        return sum(layer.verdict is Verdict.UNDECIDED for layer in self.plan.layers)

    @property
    def sampled(self) -> bool:
        """Whether a proof tried a part of what there is to try."""
        return any(layer.sampled for verdict in self.verdicts for layer in verdict.layers)

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `files`."""
        rewritten = len(self.plan.rewrites)
        return {
            **self.plan.to_json(),
            "output": self.output,
            "outcome": self.outcome,
            "rewritten": rewritten,
            "untouched": self.plan.tensors - rewritten,
            "seconds": self.seconds,
            "verdict": [verdict.to_json() for verdict in self.verdicts],
            "warning": self.warning,
            "linked": list(self.linked),
            "in_place": self.in_place and self.in_place.to_json(),
            "fully_convolutional": self.dense and self.dense.to_json(),
        }


@dataclass(frozen=True, slots=True)
class SwapReport:
    """Everything that a call of `swap` did."""

    files: tuple[SwappedFile, ...]
    errors: tuple[Failure, ...] = ()

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 0 (done), 3 (all failed) or 4 (done in part).

        Args:
            strict: whether an undecided layer, or a sampled proof, counts as a part not done.
        """
        if self.errors:
            return 4 if self.files else 3
        partly = any(
            file.warning or (strict and (file.undecided or file.sampled)) for file in self.files
        )
        return 4 if partly else 0

    def to_json(self) -> dict[str, Any]:
        """Return the document of `swap --json`."""
        return {
            "schema": "convsurgeon.swap/1",
            "files": [file.to_json() for file in self.files],
            "errors": [failure.to_json() for failure in self.errors],
        }


@dataclass(frozen=True, slots=True)
class RestoredFile:
    """One file that was put back.

    Attributes:
        path: the swapped file.
        output: the original again.
        outcome: `written` or `same`.
        layers: the modules whose weights were put back.
        sha256: of the header, as recorded and as written.
        note: what the user should know.
        in_place: whether the output is the swapped file itself, with its old header.
        warning: what the user has to know although the output is there.
    """

    path: str
    output: str
    outcome: str
    layers: tuple[str, ...]
    sha256: str
    note: str = ""
    in_place: bool = False
    warning: str = ""

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `files`."""
        return {
            "path": self.path,
            "output": self.output,
            "outcome": self.outcome,
            "layers": list(self.layers),
            "header_sha256": self.sha256,
            "note": self.note,
            "in_place": self.in_place,
            "warning": self.warning,
        }


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """Everything that a call of `restore` did."""

    files: tuple[RestoredFile, ...]

    def exit_code(self) -> int:
        """Return 0 (done) or 4 (the last sync of a file failed)."""
        return 4 if any(file.warning for file in self.files) else 0

    def to_json(self) -> dict[str, Any]:
        """Return the document of `restore --json`."""
        return {"schema": "convsurgeon.restore/1", "files": [f.to_json() for f in self.files]}


Report = Plan | SwapReport | RestoreReport | BenchReport | Proof
"""Everything that can be shown or saved."""
