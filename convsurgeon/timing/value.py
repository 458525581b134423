"""What `bench` found: frozen values; text, Markdown and JSON are views of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convsurgeon.geometry import Geometry
from convsurgeon.plan import Failure
from convsurgeon.timing.advice import Advice, advise
from convsurgeon.timing.figures import Timing

SCHEMA = "convsurgeon.bench/1"


@dataclass(frozen=True, slots=True)
class Environment:
    """What the figures were measured on.

    Attributes:
        convsurgeon: its version.
        python: its version.
        torch: its version.
        system: operating system and processor.
        device: as torch calls it: `cpu`, `cuda:0`, `mps`.
        device_name: what the device says it is.
        threads: that torch computes with on the CPU.
    """

    convsurgeon: str
    python: str
    torch: str
    system: str
    device: str
    device_name: str
    threads: int

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `environment`."""
        names = ("convsurgeon", "python", "torch", "system", "device", "device_name", "threads")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class Setup:
    """How to measure.

    Attributes:
        device: as torch calls it.
        batch: maps per call.
        rounds: how often each form is timed, at most.
        seconds: after which no further round of a layer begins, but for the few that advice needs.
        dtype: to run in, as torch calls it; None for that of the file.
        backward: whether forward and backward together are timed too.
        compiled: whether every form goes through torch.compile first.
    """

    device: str = "cpu"
    batch: int = 1
    rounds: int = 30
    seconds: float = 10.0
    dtype: str | None = None
    backward: bool = False
    compiled: bool = False

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `setup`."""
        names = ("device", "batch", "rounds", "seconds", "dtype", "backward", "compiled")
        return {name: getattr(self, name) for name in names}


@dataclass(frozen=True, slots=True)
class TimedLayer:
    """One layer, and all those that are the same in what takes time.

    Attributes:
        modules: the names of all of them.
        form: `conv1d`, `conv2d` or `conv3d`.
        weight_shape: `[O, C, *kernel]`.
        bias: whether there is one.
        geometry: by the file's evidence.
        evidence: level and source of the geometry, of the first.
        dtype: that was run in, as torch calls it.
        input_shape: `[B, C, *spatial]`.
        size_source: where the spatial size comes from.
        timings: of every form.
    """

    modules: tuple[str, ...]
    form: str
    weight_shape: tuple[int, ...]
    bias: bool
    geometry: Geometry
    evidence: tuple[str, str]
    dtype: str
    input_shape: tuple[int, ...]
    size_source: str
    timings: tuple[Timing, ...]

    @property
    def advice(self) -> tuple[Advice, ...]:
        """What the figures recommend."""
        return advise(self.timings)

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `layers`."""
        return {
            "modules": list(self.modules),
            "form": self.form,
            "weight_shape": list(self.weight_shape),
            "bias": self.bias,
            "geometry": self.geometry.to_json(),
            "evidence": dict(zip(("level", "source"), self.evidence, strict=True)),
            "dtype": self.dtype,
            "input_shape": list(self.input_shape),
            "size_source": self.size_source,
            "timings": [timing.to_json() for timing in self.timings],
            "advice": [advice.to_json() for advice in self.advice],
        }


@dataclass(frozen=True, slots=True)
class BenchFile:
    """One checkpoint, or one model without a file.

    Attributes:
        path: as the user wrote it; the SPEC of a model.
        layers: each distinct eligible layer.
        notes: what the user should know although it stopped nothing.
    """

    path: str
    layers: tuple[TimedLayer, ...]
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `files`."""
        return {
            "path": self.path,
            "layers": [layer.to_json() for layer in self.layers],
            "notes": list(self.notes),
        }


@dataclass(frozen=True, slots=True)
class BenchReport:
    """Everything that a call of `bench` measured; seconds of wall time, bytes."""

    environment: Environment
    setup: Setup
    files: tuple[BenchFile, ...]
    notes: tuple[str, ...] = ()
    errors: tuple[Failure, ...] = ()

    def exit_code(self) -> int:
        """Return 0 (done), 3 (all failed) or 4 (some files of a folder failed)."""
        if not self.errors:
            return 0
        return 4 if self.files else 3

    def to_json(self) -> dict[str, Any]:
        """Return the document of `bench --json`."""
        return {
            "schema": SCHEMA,
            "environment": self.environment.to_json(),
            "setup": self.setup.to_json(),
            "files": [file.to_json() for file in self.files],
            "notes": list(self.notes),
            "errors": [failure.to_json() for failure in self.errors],
        }
