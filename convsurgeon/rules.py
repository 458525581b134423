"""The rules: from what is known about a layer to a rewrite, or to the reason against it.

A rule is one small pure function and one row of `RULES`. Nothing here has seen a tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod

from convsurgeon.geometry import LINEAR, Geometry, Refusal, conv_form, is_conv, times
from convsurgeon.rearrangement import Rearrangement, flatten_patches


@dataclass(frozen=True, slots=True)
class Layer:
    """What a rule looks at.

    Attributes:
        form: what the weight is stored for, e.g. `conv2d` or `linear`.
        weight_shape: `[O, C, *kernel]` of a conv, `[O, in_features]` of a Linear.
        geometry: of the conv; for a Linear, of the conv that it is to become.
        layout: the order in which a patch is, or is to be, flattened.
    """

    form: str
    weight_shape: tuple[int, ...]
    geometry: Geometry
    layout: str


@dataclass(frozen=True, slots=True)
class Rewrite:
    """What is done to one weight.

    Attributes:
        rule: name of the rule.
        to: form afterwards.
        layout: order in which the Linear's side is flattened.
        arrangement: how the elements move.
        why: the reason that the rule holds, for the report.
        child: whether the Linear's side is named as the inner layer of a drop-in.
    """

    rule: str
    to: str
    layout: str
    arrangement: Rearrangement
    why: str
    child: bool = False

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """Shape afterwards."""
        return self.arrangement.target


Check = Callable[[Geometry], Refusal | None]


def overlapping(g: Geometry) -> Refusal | None:
    """Refuse windows that share inputs."""
    if all(s >= k for k, s in zip(g.kernel, g.stride, strict=True)):
        return None
    text = f"stride {times(g.stride)} is smaller than kernel {times(g.kernel)}: windows overlap"
    return Refusal("CS001", text)


def gapped(g: Geometry) -> Refusal | None:
    """Refuse windows with skipped inputs between them."""
    if all(s <= k for k, s in zip(g.kernel, g.stride, strict=True)):
        return None
    text = f"stride {times(g.stride)} is larger than kernel {times(g.kernel)}: inputs are skipped"
    return Refusal("CS002", text)


def padded(g: Geometry) -> Refusal | None:
    """Refuse windows that reach over the border."""
    return Refusal("CS003", f"padding {times(g.padding)}") if any(g.padding) else None


def dilated(g: Geometry) -> Refusal | None:
    """Refuse windows with holes; a window of one position has none."""
    dilation = g.effective().dilation
    return Refusal("CS004", f"dilation {times(dilation)}") if any(d > 1 for d in dilation) else None


def grouped(g: Geometry) -> Refusal | None:
    """Refuse outputs that see a part of the channels only."""
    return Refusal("CS005", f"{g.groups} groups") if g.groups > 1 else None


OBSTACLES: tuple[Check, ...] = (overlapping, gapped, padded, dilated, grouped)
"""Each geometry that is no patchify, in the order in which reasons are given."""


def obstacles(geometry: Geometry) -> Refusal | None:
    """Return every reason against separate patches as one; the first gives the code."""
    found = [refusal for check in OBSTACLES if (refusal := check(geometry))]
    if not found:
        return None
    return Refusal(found[0].code, "; ".join(refusal.reason for refusal in found))


def patchify(layer: Layer) -> Rewrite | Refusal | None:
    """Conv -> Linear over flattened patches: stride equals kernel, nothing else in the way."""
    if not is_conv(layer.form) or layer.geometry.window == 1:
        return None
    arrangement = flatten_patches(layer.weight_shape, layer.layout)
    refusal = obstacles(layer.geometry)
    return refusal or Rewrite("patchify", LINEAR, layer.layout, arrangement, "stride equals kernel")


def pointwise(layer: Layer) -> Rewrite | Refusal | None:
    """Conv of kernel 1 -> Linear over the channels of each position."""
    if not is_conv(layer.form) or layer.geometry.window != 1:
        return None
    arrangement = flatten_patches(layer.weight_shape, layer.layout)
    refusal = obstacles(layer.geometry)
    why = "kernel and stride are 1"
    return refusal or Rewrite("pointwise", LINEAR, layer.layout, arrangement, why)


def transposed(layer: Layer) -> Rewrite | Refusal | None:
    """Transposed convs store [in, out, *kernel]: never by the rules above."""
    if not layer.form.startswith("conv_transpose"):
        return None
    return Refusal("CS006", "a transposed convolution")


def unflatten(layer: Layer) -> Rewrite | Refusal | None:
    """Linear -> Conv: a kernel that covers the input, a patch, or a single position."""
    if layer.form != LINEAR:
        return None
    outputs, inputs = layer.weight_shape
    g = layer.geometry
    channels, rest = divmod(inputs, g.window)
    if rest or not channels:
        return Refusal("CS014", f"{inputs} inputs are not C × {times(g.kernel)}")
    refusal = padded(g) or dilated(g) or grouped(g)
    if refusal:
        return refusal
    conv_shape = (outputs, channels, *g.kernel)
    arrangement = flatten_patches(conv_shape, layer.layout).inverse()
    rule, why = _unflatten_name(g)
    return Rewrite(rule, conv_form(g.ndim), layer.layout, arrangement, why)


def _unflatten_name(g: Geometry) -> tuple[str, str]:
    if g.window == 1:
        return "1x1", "a kernel of one position over the features as channels"
    if g.stride == g.kernel:
        return "unpatchify", "a linear layer over patches is a conv with stride equal to kernel"
    return "full-kernel", "the kernel covers the whole input"


RULES: dict[str, tuple[Callable[[Layer], Rewrite | Refusal | None], ...]] = {
    "linear": (patchify, pointwise, transposed),
    "conv": (unflatten,),
}
"""Target form -> its rules. The first that recognises a layer decides."""


def decide(to: str, layer: Layer) -> Rewrite | Refusal | None:
    """Return the verdict of the first rule that recognises the layer; None if none does."""
    if prod(layer.weight_shape) == 0:
        return Refusal("CS018", "the weight has no elements")
    return next((v for rule in RULES[to] if (v := rule(layer)) is not None), None)
