"""The plan: every layer of a checkpoint with its verdict, and what will be done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from convsurgeon.evidence import Heard, in_words
from convsurgeon.geometry import Geometry
from convsurgeon.plan.heard import heard_from_json, heard_to_json
from convsurgeon.rearrangement import between
from convsurgeon.rules import Rewrite
from convsurgeon.untrusted import safe

SCHEMA = "convsurgeon.scan/1"


class Verdict(StrEnum):
    """What becomes of a layer."""

    ELIGIBLE = "eligible"
    ALREADY = "already"
    REFUSED = "refused"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class LayerPlan:
    """One weight.

    Attributes:
        module: the key without its last component.
        key: name of the weight in the file.
        file: name of the file or shard that holds it.
        form: what the weight is stored for.
        weight_shape: as stored.
        dtype: as stored.
        bias: whether a bias stands beside it.
        geometry: None where unknown.
        evidence: level and source; None where there is none.
        verdict: what becomes of it.
        code: of the refusal; None otherwise.
        reason: one clause.
        rewrite: what a run carries out; None where it leaves the layer alone.
        hint: the option that would decide an undecided layer, ready to paste.
        heard: all that was weighed, the strongest first; None unless it is to be explained.
    """

    module: str
    key: str
    file: str
    form: str
    weight_shape: tuple[int, ...]
    dtype: str
    bias: bool
    geometry: Geometry | None
    evidence: tuple[str, str] | None
    verdict: Verdict
    code: str | None
    reason: str
    rewrite: Rewrite | None = None
    hint: str = ""
    heard: tuple[Heard, ...] | None = None

    def __str__(self) -> str:
        """Return the layer in one line: what it is, what becomes of it, and why."""
        text = f"{self.module or '(root)'}: {self.form} {list(self.weight_shape)} {self.dtype}"
        if self.rewrite:
            text += f" -> {self.rewrite.to} {list(self.rewrite.weight_shape)}"
            text += f" ({self.rewrite.layout})"
        evidence = f" [{in_words(*self.evidence)}]" if self.evidence else ""
        return safe(f"{text}, {self.verdict}: {self.reason}{evidence}")

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands in the reports."""
        evidence = self.evidence and dict(zip(("level", "source"), self.evidence, strict=True))
        heard = {} if self.heard is None else {"heard": [heard_to_json(one) for one in self.heard]}
        return {
            "module": self.module,
            "key": self.key,
            "file": self.file,
            "form": self.form,
            "weight_shape": list(self.weight_shape),
            "dtype": self.dtype,
            "bias": self.bias,
            "geometry": self.geometry and self.geometry.to_json(),
            "evidence": evidence,
            "verdict": self.verdict.value,
            "code": self.code,
            "reason": self.reason,
            "rewrite": self.rewrite and rewrite_to_json(self.rewrite),
            "hint": self.hint,
            **heard,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        shape, evidence = tuple(data["weight_shape"]), data["evidence"]
        heard = data.get("heard")
        values = {
            **data,
            "weight_shape": shape,
            "geometry": data["geometry"] and Geometry.from_json(data["geometry"]),
            "evidence": evidence and (evidence["level"], evidence["source"]),
            "verdict": Verdict(data["verdict"]),
            "rewrite": data["rewrite"] and rewrite_from_json(data["rewrite"], shape),
            "heard": None if heard is None else tuple(map(heard_from_json, heard)),
        }
        return cls(**values)


def rewrite_to_json(rewrite: Rewrite) -> dict[str, Any]:
    """Return the object that stands under `rewrite`."""
    return {
        "rule": rewrite.rule,
        "to": rewrite.to,
        "weight_shape": list(rewrite.weight_shape),
        "layout": rewrite.layout,
        "moves_bytes": rewrite.arrangement.moves_bytes,
        "why": rewrite.why,
        "child_keys": rewrite.child,
    }


def rewrite_from_json(data: Mapping[str, Any], source: tuple[int, ...]) -> Rewrite:
    """Read what `rewrite_to_json` wrote about a weight of shape `source`."""
    arrangement = between(source, tuple(data["weight_shape"]), data["layout"])
    child = data.get("child_keys", False)
    return Rewrite(data["rule"], data["to"], data["layout"], arrangement, data["why"], child)


@dataclass(frozen=True, slots=True)
class FilePlan:
    """One checkpoint: a file, or an index with its shards.

    Attributes:
        path: as the user wrote it.
        tensors: how many.
        bytes: of all its files.
        metadata: of the only file, or what all shards have in common.
        layers: every candidate, in natural order of the names.
        notes: what the user should know although it stopped nothing.
        silent: for each level of evidence why its source says nothing about a layer, if it does
            not; empty unless layers are to be explained.
    """

    path: str
    tensors: int
    bytes: int
    metadata: dict[str, str]
    layers: tuple[LayerPlan, ...]
    notes: tuple[str, ...] = ()
    silent: tuple[tuple[str, str], ...] = ()

    @property
    def rewrites(self) -> tuple[LayerPlan, ...]:
        """The layers that a run rewrites."""
        return tuple(layer for layer in self.layers if layer.rewrite)

    @property
    def already(self) -> bool:
        """Whether nothing is left to rewrite because an earlier swap did it."""
        return not self.rewrites and any(v.verdict is Verdict.ALREADY for v in self.layers)

    def __str__(self) -> str:
        """Return a line for the checkpoint and one for every candidate."""
        lines = (f"  {layer}" for layer in self.layers)
        return "\n".join((safe(f"{self.path}: {self.tensors} tensors"), *lines))

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `files`."""
        return {
            "path": self.path,
            "tensors": self.tensors,
            "bytes": self.bytes,
            "metadata": self.metadata,
            "layers": [layer.to_json() for layer in self.layers],
            "notes": list(self.notes),
            **({"silent": dict(self.silent)} if self.silent else {}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        layers = tuple(LayerPlan.from_json(layer) for layer in data["layers"])
        silent = tuple(data.get("silent", {}).items())
        return cls(**{**data, "layers": layers, "notes": tuple(data["notes"]), "silent": silent})


@dataclass(frozen=True, slots=True)
class Failure:
    """A path about which nothing can be said, and the error that says why."""

    path: str
    error: str
    code: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `errors`."""
        names = ("path", "error", "code", "message")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a call would do to all of its paths; `--dry-run` prints it, a run carries it out."""

    files: tuple[FilePlan, ...]
    errors: tuple[Failure, ...] = ()

    def __str__(self) -> str:
        """Return the plan as text, one line per candidate."""
        failed = (safe(f"{failure.path}: {failure.message}") for failure in self.errors)
        return "\n".join((*map(str, self.files), *failed))

    def exit_code(self, *, strict: bool = False) -> int:
        """Return 0 (done), 3 (nothing could be read) or 4 (done in part).

        Args:
            strict: whether an undecided layer counts as a part that was not done.
        """
        if self.errors:
            return 4 if self.files else 3
        layers = (layer for file in self.files for layer in file.layers)
        undecided = any(layer.verdict is Verdict.UNDECIDED for layer in layers)
        return 4 if strict and undecided else 0

    def to_json(self) -> dict[str, Any]:
        """Return the document of `scan --json`."""
        return {
            "schema": SCHEMA,
            "files": [file.to_json() for file in self.files],
            "errors": [failure.to_json() for failure in self.errors],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            ValueError: if it is of another schema.
        """
        if data.get("schema") != SCHEMA:
            raise ValueError(f"schema {data.get('schema')!r} is not {SCHEMA}")
        files = tuple(FilePlan.from_json(file) for file in data["files"])
        return cls(files, tuple(Failure(**failure) for failure in data["errors"]))
