"""How figures and names are written. Pure text: no colours, no widths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from convsurgeon.evidence import in_words
from convsurgeon.geometry import LINEAR, Geometry, times
from convsurgeon.plan import LayerPlan
from convsurgeon.rules import Rewrite
from convsurgeon.tree import CHILD, natural
from convsurgeon.untrusted import safe

if TYPE_CHECKING:
    from convsurgeon.proof import LayerVerdict

_KILO = 1000


def size(count: int) -> str:
    """Write a number of bytes: `414.4 kB`."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if value < _KILO:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= _KILO
    return f"{value:.1f} TB"


def duration(seconds: float) -> str:
    """Write a time: `4 ms`, `2.3 s`."""
    return f"{seconds * _KILO:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def plural(count: int, noun: str) -> str:
    """Write `1 tensor`, `2 tensors`."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def figure(value: float) -> str:
    """Write a measured figure with two digits."""
    return f"{value:.1e}" if value else "0"


def shape(sizes: Sequence[int]) -> str:
    """Write a shape: `[64, 1, 2, 2]`."""
    return f"[{', '.join(map(str, sizes))}]"


def signature(form: str, sizes: Sequence[int], geometry: Geometry | None) -> str:
    """Write a layer as people say it: `conv2d 3 → 64, kernel 2×2, stride 2×2`."""
    if form == LINEAR:
        return f"linear {sizes[1]} → {sizes[0]}"
    if geometry is None:
        return f"{form} {shape(sizes)}"
    text = f"{form} {sizes[1] * geometry.groups} → {sizes[0]}, kernel {times(geometry.kernel)}"
    text += f", stride {times(geometry.stride)}"
    text += f", padding {times(geometry.padding)}" if any(geometry.padding) else ""
    return text + (f", {geometry.groups} groups" if geometry.groups > 1 else "")


def before(layer: LayerPlan) -> str:
    """Write the form that a layer has."""
    linear = layer.form == LINEAR
    return signature(layer.form, layer.weight_shape, None if linear else layer.geometry)


def after(layer: LayerPlan, rewrite: Rewrite) -> str:
    """Write the form that a layer gets."""
    return signature(rewrite.to, rewrite.weight_shape, layer.geometry)


def movement(rewrite: Rewrite) -> str:
    """Say whether bytes move, and names change."""
    moved = rewrite.arrangement.moves_bytes
    text = f"elements permuted to {rewrite.layout}" if moved else "reshape, no byte moved"
    if rewrite.child:
        text += f", named {CHILD}.weight" if rewrite.to == LINEAR else ", named weight"
    return text


def evidence(level: str, source: str) -> str:
    """Write where a geometry comes from; see `in_words`."""
    return safe(in_words(level, source))


def given(layer: LayerVerdict) -> str:
    """Write under which geometry a verdict holds, and where that comes from."""
    geometry, level, source = layer.given
    conv = next((form for form in layer.forms if form != LINEAR), LINEAR)
    text = f"{conv}, kernel {times(geometry.kernel)}, stride {times(geometry.stride)}"
    return f"{text}, patches {layer.layout}; {evidence(level, source)}"


def module(name: str) -> str:
    """Write a module's name; the root has none of its own."""
    return safe(name) or "(root)"


def folded(names: Iterable[str]) -> str:
    """Write names that differ in numbers only as one: `blocks.{0…11}.conv`.

    Where several numbers vary, not every combination need exist; the caller says how many do.
    """
    names = list(names)
    if not any(names):
        return module("")
    split = [re.split(r"([0-9]+)", name) for name in sorted(names, key=natural)]
    return "".join(_part([parts[i] for parts in split]) for i in range(len(split[0])))


def _part(values: list[str]) -> str:
    distinct = sorted(set(values), key=natural)
    if len(distinct) == 1:
        return safe(distinct[0])
    numbers = [int(value) for value in distinct]
    if len(numbers) > 2 and all(b == a + 1 for a, b in pairwise(numbers)):
        return f"{{{numbers[0]}…{numbers[-1]}}}"
    return f"{{{','.join(map(str, numbers))}}}"


def pattern(name: str) -> str:
    """Return a name with its numbers folded, to group by."""
    return re.sub(r"[0-9]+", "#", name)
