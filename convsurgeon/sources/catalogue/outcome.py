"""What was seen of a layer in a library -> form, geometry, and what stands against a rewrite."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from convsurgeon.geometry import Geometry, Refusal, conv_form


class Meaning(NamedTuple):
    """What an outcome says of a weight of a certain shape."""

    form: str
    geometry: Geometry | None
    refusal: Refusal | None


def meaning(outcome: Mapping[str, Any], shape: tuple[int, ...]) -> Meaning:
    """Return what an outcome says of a weight `[O, C, *kernel]`.

    Args:
        outcome: `{"stride": "kernel"}` for separate patches; a geometry as JSON, `groups` being
            `"out"` for one group per output; or what the layer is instead of a torch convolution.
        shape: of the weight; its kernel is the layer's.
    """
    form = conv_form(len(shape) - 2)
    if refusal := _refusal(outcome):
        return Meaning(form, None, refusal)
    kernel = shape[2:]
    if outcome["stride"] == "kernel":
        return Meaning(form, Geometry.plain(kernel, kernel), None)
    groups = shape[0] if outcome["groups"] == "out" else outcome["groups"]
    stride, padding, dilation = (tuple(outcome[n]) for n in ("stride", "padding", "dilation"))
    if outcome["transposed"]:
        form = form.replace("conv", "conv_transpose")
    return Meaning(form, Geometry(kernel, stride, padding, dilation, groups), None)


def _refusal(outcome: Mapping[str, Any]) -> Refusal | None:
    if "other" in outcome:
        return Refusal("CS007", f"the weight of {outcome['other']}")
    if "computed" in outcome:
        text = f"the weight of this {outcome['computed']} is computed from other tensors"
        return Refusal("CS008", text)
    if "subclass" in outcome:
        text = f"a {outcome['subclass']}, which may compute something else than a torch layer"
        return Refusal("CS007", text)
    if "same" in outcome:
        return Refusal("CS013", "padding 'same'")
    if "mode" in outcome:
        return Refusal("CS013", f"padding mode {outcome['mode']!r}")
    return None
