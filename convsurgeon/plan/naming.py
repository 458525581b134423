"""Names of the Linear's side as those of the inner layer of a drop-in: `proj.linear.weight`."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import replace

from convsurgeon.geometry import LINEAR, Refusal
from convsurgeon.plan.step import Step
from convsurgeon.plan.wish import Wish
from convsurgeon.rules import Rewrite
from convsurgeon.tree import CHILD, renamed_layer


def named(
    rewrite: Rewrite,
    key: str,
    history: Sequence[Step],
    wish: Wish,
    names: tuple[Container[str], Container[str]],
) -> Rewrite | Refusal:
    """Return the rewrite, with new names for weight and bias where they are wanted.

    Towards a Linear they get the names of an inner layer, away from one they lose them. A conv has
    no inner layer: names that a swap gave end with the form that they were for, wanted or not.

    Args:
        rewrite: of the weight.
        key: its name.
        history: what was done to it before.
        wish: what the user asks for.
        names: of all tensors of the checkpoint, and of those in the weight's own file.
    """
    inwards = rewrite.to == LINEAR
    given = bool(history) and history[-1].child and not inwards
    return _renaming(rewrite, key, *names) if wish.child_keys or given else rewrite


def _renaming(
    rewrite: Rewrite, key: str, checkpoint: Container[str], file: Container[str]
) -> Rewrite | Refusal:
    try:
        names = renamed_layer(key, inwards=rewrite.to == LINEAR)
    except ValueError:
        text = f"it is not named as an inner layer, MODULE.{CHILD}.weight, so no name can be undone"
        return Refusal("CS089", text)
    taken = [name for name in names.values() if name in checkpoint]
    if taken:
        return Refusal("CS089", f"the checkpoint has a tensor {taken[0]} already")
    _, bias = names
    if bias in checkpoint and bias not in file:
        # The recipe of a file speaks of that file's tensors alone.
        return Refusal("CS089", "its bias stands in another shard, which no recipe would rename")
    return replace(rewrite, child=True)
