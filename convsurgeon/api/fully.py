"""`fully_convolutional`: a classifier of images of one size becomes one of images of any size.

The model itself stays as it is. Every parameter of the new network is a new object over the same
memory: neither is copied, each has its own flags, gradients, dtype and device, and values that are
written in place are written for both. State dicts have the same keys; weights of Linears are shaped
as a convolution's. What depends on training in the forward's own code, such as
`F.dropout(x, training=self.training)`, stays as it is in inference.

While a forward is followed, torch.fx stands in for `nn.Module.__call__`: no other thread may run a
model meanwhile.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from convsurgeon.api.live.undoing import check_module
from convsurgeon.api.sliding import POOLS
from convsurgeon.errors import RefusedError, UsageError
from convsurgeon.plan.dense import DensePlan
from convsurgeon.results import DenseReport

if TYPE_CHECKING:
    from torch import Tensor, nn

    from convsurgeon.proof.cells_verdict import DenseVerdict

LEVELS = ("full", "exhaustive", "none")
_RANKS = (3, 4, 5)


def fully_convolutional(
    model: nn.Module,
    example_input: Tensor,
    *,
    pool: str = "refuse",
    verify: str = "full",
    dry_run: bool = False,
) -> DenseReport:
    """Make a fully convolutional network of a classifier, and prove it.

    Every Linear behind the last map becomes a convolution. The new network takes larger images, and
    gives `[B, classes, H, W]` instead of `[B, classes]`: one cell at the native size, one more for
    every `plan.stride` pixels. See this module for what it shares with the model.

    Args:
        model: its forward takes one tensor; all its other parameters have defaults.
        example_input: `[B, C, *spatial]` of the native size; only its shape and dtype matter.
        pool: what becomes of a global average pool before the Linear: "refuse", or "behind" for a
            class-activation map, whose mean over all cells is what the model gave.
        verify: "full" proves it in float64 before anything is returned, "exhaustive" for every
            remainder of the stride as well, "none" does not.
        dry_run: whether to plan only; the plan then holds what is refused, nothing is raised.

    Raises:
        UsageError: CS090 for arguments that cannot be understood.
        RefusedError: with the code of the first thing that stands against it.
        NotEquivalentError: CS083 where the proof failed.
        ModelError: CS052 without torch; CS064 where the proof cannot run the model.
    """
    _check(model, example_input, pool, verify)
    from convsurgeon.dense.build import build
    from convsurgeon.dense.read import read

    reading = read(model, example_input.shape, example_input.dtype, behind=pool == "behind")
    if dry_run:
        return DenseReport(reading.plan)
    if reading.traced is None or not reading.plan.possible:
        raise refused(reading.plan)
    made = build(reading.traced, reading.plan, model)
    return DenseReport(reading.plan, made, _proved(model, made, reading.plan, verify))


def refused(plan: DensePlan) -> RefusedError:
    """Return the error that says what stands against a plan."""
    first, *others = plan.obstacles
    more = f"; and {len(others)} more: dry_run=True shows them" if others else ""
    return RefusedError(first.code, f"{first.reason}{more}", where=first.place or plan.model)


def _proved(model: nn.Module, made: nn.Module, plan: DensePlan, level: str) -> DenseVerdict | None:
    from convsurgeon.proof.cells import Claim, check

    if level == "none":
        return None
    if any(one.is_meta for one in model.parameters()):
        text = (
            "the model has no values on the meta device: verify='none' makes the network unproved"
        )
        raise UsageError("CS090", text, where="verify")
    weights = tuple(f"{step.module}.weight" for step in plan.convs)
    claim = Claim(plan.image, weights, plan.stride, bool(plan.pool), plan.borders)
    return check(model, made, claim, exhaustive=level == "exhaustive").require()


def _check(model: object, example: object, pool: str, verify: str) -> None:
    check_module(model, "fully_convolutional")
    check_images(example)
    for name, value, known in (("pool", pool, POOLS), ("verify", verify, LEVELS)):
        if value not in known:
            text = f"{value!r} is none of {', '.join(map(repr, known))}"
            raise UsageError("CS090", text, where=name)


def check_images(example: object) -> None:
    """Refuse what is no batch of images of floating numbers.

    Raises:
        UsageError: CS090.
    """
    from torch import Tensor

    if not isinstance(example, Tensor) or example.dim() not in _RANKS:
        what = f"{list(example.shape)}" if isinstance(example, Tensor) else type(example).__name__
        text = f"{what} is no tensor [B, C, *spatial] with one to three spatial axes"
        raise UsageError("CS090", text, where="example_input")
    if 0 in example.shape or not example.is_floating_point():
        text = f"{list(example.shape)} of {example.dtype} is no image of floating numbers"
        raise UsageError("CS090", text, where="example_input")
