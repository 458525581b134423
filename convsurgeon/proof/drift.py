"""What running whole models found: how far the outputs drift, against a yardstick."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from convsurgeon.proof.figures import finite

ALLOWED: Mapping[str, float] = {"float64": 16.0, "float32": 256.0, "bfloat16": 4.0, "float16": 4.0}
"""By the dtype that a model is run in, how many times the yardstick an output may drift.

See `proof.whole` for what these figures rest on.
"""
_DEFAULT = ALLOWED["float32"]


@dataclass(frozen=True, slots=True)
class Drift:
    """One tensor that both models computed: an output, or the output of a layer.

    Attributes:
        name: of the output, or of the module.
        shape: of the tensor.
        difference: largest between the original's and the swapped model's.
        yardstick: largest between the original's and its own, after one unit in the last place of
            its input has changed; at least one unit in the last place of its own largest number.
        scale: largest magnitude of the original's.
        note: what is wrong beside numbers: another shape, another dtype, NaN at other places.
        allowed: how many yardsticks it may drift.
    """

    name: str
    shape: tuple[int, ...]
    difference: float
    yardstick: float
    scale: float
    note: str = ""
    allowed: float = _DEFAULT

    @property
    def ratio(self) -> float:
        """The difference over the yardstick; 0 where there is no difference."""
        if not self.difference:
            return 0.0
        return self.difference / self.yardstick if self.yardstick else float("inf")

    @property
    def within(self) -> bool:
        """Whether it is no further off than is allowed."""
        return not self.note and self.ratio <= self.allowed  # not: where the ratio is NaN

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `outputs` or `layers`."""
        values: dict[str, Any] = finite({**asdict(self), "ratio": self.ratio})
        del values["allowed"]  # it is that of the whole model
        return {**values, "within": self.within}


@dataclass(frozen=True, slots=True)
class ModelInput:
    """One input of a whole model.

    Attributes:
        name: of the parameter of `forward`; empty for the first positional one.
        shape: of the tensor.
        dtype: as torch names it, `float32`.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class ModelVerdict:
    """Two whole models, the original and the swapped one.

    Attributes:
        source: what built them: a SPEC, or a library and its class.
        how: how the swapped weights came into the model: `convsurgeon.load`, or the loader of a
            library.
        refused: what the loader left out, put in or made up, one line each.
        inputs: what they were run on; empty where they were loaded only.
        dtype: that they were run in; empty where they were not.
        seed: of random inputs and of the perturbations.
        perturbations: how many times the yardstick was measured.
        outputs: every output.
        layers: the output of each module that computes something, in the order of their calls.
        notes: what should be known although it decides nothing.
    """

    source: str
    how: str
    refused: tuple[str, ...] = ()
    inputs: tuple[ModelInput, ...] = ()
    dtype: str = ""
    seed: int = 0
    perturbations: int = 0
    outputs: tuple[Drift, ...] = ()
    layers: tuple[Drift, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def equivalent(self) -> bool:
        """Whether nothing was left out or made up, and every output that was run is within."""
        return not self.refused and all(output.within for output in self.outputs)

    @property
    def begins(self) -> str:
        """The first layer that drifts further than is allowed; empty where none does."""
        return next((layer.name for layer in self.layers if not layer.within), "")

    @property
    def complaints(self) -> tuple[str, ...]:
        """Everything that says no, one line each."""
        outputs = [
            f"output {o.name}: {o.note or f'{o.difference:.2g} off, {o.ratio:.2g} yardsticks'}"
            for o in self.outputs
            if not o.within
        ]
        begins = [f"the drift begins at layer {self.begins}"] if outputs and self.begins else []
        return (*self.refused, *outputs, *begins)

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands under `models`."""
        return {
            "source": self.source,
            "how": self.how,
            "equivalent": self.equivalent,
            "refused": list(self.refused),
            "inputs": [asdict(one) for one in self.inputs],
            "dtype": self.dtype,
            "seed": self.seed,
            "perturbations": self.perturbations,
            "allowed": ALLOWED.get(self.dtype, _DEFAULT),
            "outputs": [one.to_json() for one in self.outputs],
            "layers": [one.to_json() for one in self.layers],
            "notes": list(self.notes),
        }
