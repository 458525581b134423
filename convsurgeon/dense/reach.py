"""How far a position of the map sees, and what in front of it looks past a border.

Each layer that is known adds to the field what its window reaches. What is not known makes no
claim: then nothing is said about crops before they were measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from convsurgeon.dense.calls import AFFINE, ARITHMETIC, ELEMENTWISE, Call, shape_of
from convsurgeon.dense.trace import Traced
from convsurgeon.geometry import along_axes, times
from convsurgeon.sources.layers import reforwarded

_LOCAL = ELEMENTWISE | AFFINE | ARITHMETIC | frozenset({
    "BatchNorm1d", "BatchNorm2d", "BatchNorm3d", "batch_norm", "PReLU", "LocalResponseNorm",
    "local_response_norm", "cat", "concat", "concatenate", "size", "placeholder", "get_attr",
    "Dropout1d", "Dropout2d", "Dropout3d", "dropout1d", "dropout2d", "dropout3d",
    "FeatureAlphaDropout", "feature_alpha_dropout",
})  # fmt: skip
"""What looks at one position only, in the mode of inference."""


@dataclass(frozen=True, slots=True)
class Window:
    """The window of a convolution or a pool, one value for each axis."""

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padded: str = ""


@dataclass(frozen=True, slots=True)
class Reach:
    """How far a map sees.

    Attributes:
        field: pixels along each axis; None where something sees the whole image or is not known.
        borders: what looks past a border, or at everything, one line each.
    """

    field: tuple[int, ...] | None
    borders: tuple[str, ...]


def reach(traced: Traced, source: fx.Node, before: frozenset[fx.Node]) -> Reach:
    """Walk through what a map is computed from.

    Args:
        traced: the forward.
        source: what gives the map.
        before: the map with everything that it is computed from.
    """
    axes = len(shape_of(traced.image)) - 2
    start = ((1,) * axes, (1,) * axes)
    reached: dict[fx.Node, tuple[tuple[int, ...], tuple[int, ...]]] = {}
    borders, known = [], True
    for node in traced.graph.nodes:
        if node not in before:
            continue
        call = Call.of(node, traced.model)
        inputs = [reached[one] for one in node.all_input_nodes if one in reached]
        field = _largest([one for one, _ in inputs]) or start[0]
        jump = _largest([one for _, one in inputs]) or start[1]
        window = _window(call, axes)
        if window is not None:
            steps = zip(field, window.kernel, window.dilation, jump, strict=True)
            field = tuple(f + (k - 1) * d * j for f, k, d, j in steps)
            jump = tuple(j * s for j, s in zip(jump, window.stride, strict=True))
            borders += [f"{call.place}: {window.padded}"] if window.padded else []
        elif call.name not in _LOCAL and call.shape:
            known = False
            borders.append(f"{call.place}: {_unknown(call)}")
        reached[node] = (field, jump)
    return Reach(reached[source][0] if known else None, tuple(borders))


def _unknown(call: Call) -> str:
    if "pad" in call.name.lower():
        return f"{call.name} pads"
    return f"how far {call.name} sees is not known"


def _largest(sizes: list[tuple[int, ...]]) -> tuple[int, ...] | None:
    return tuple(max(values) for values in zip(*sizes, strict=True)) if sizes else None


def _window(call: Call, axes: int) -> Window | None:
    """Return the window of a layer that is known; None for everything else."""
    if isinstance(call.module, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
        return _conv(call.module) if not reforwarded(call.module) else None
    if call.name == f"conv{axes}d":
        return _conv_function(call, axes)
    name = call.name.lower().replace("_", "")
    if name not in {f"{kind}pool{axes}d" for kind in ("max", "avg")}:
        return None
    kernel = _wide(call.setting(1, "kernel_size"), axes)
    stride = _wide(call.setting(2, "stride") or kernel, axes)
    padding = _wide(call.setting(3, "padding", 0), axes)
    most = name.startswith("max")
    dilation = _wide(call.setting(4, "dilation", 1), axes) if most else (1,) * axes
    ceiling = call.setting(5 if most else 4, "ceil_mode")
    padded = f"{call.name} pads by {times(padding)}" if any(padding) else ""
    window = Window(kernel, stride, dilation, padded)
    if ceiling and not padded and not _fits(call, window):
        text = f"{call.name} with ceil_mode has windows that reach past the border"
        return Window(kernel, stride, dilation, text)
    return window


def _fits(call: Call, window: Window) -> bool:
    """Tell whether the windows of a pool with ceil_mode end where the map does."""
    sizes = shape_of(call.source)[2:] if call.source is not None else ()
    spans = zip(sizes, window.kernel, window.dilation, window.stride, strict=True)
    return all((size - (k - 1) * d - 1) % s == 0 for size, k, d, s in spans)


def _conv_function(call: Call, axes: int) -> Window | None:
    """Return the window of a convolution that a forward calls itself."""
    weight, padding = call.argument(1, "weight"), call.argument(4, "padding", 0)
    if not isinstance(weight, fx.Node):
        return None
    sizes = (call.argument(3, "stride", 1), call.argument(5, "dilation", 1))
    if any(isinstance(one, fx.Node) for one in (*sizes, padding)):
        return None
    kernel, (stride, dilation) = shape_of(weight)[2:], (_wide(one, axes) for one in sizes)
    return Window(kernel, stride, dilation, _padded(kernel, _spelled(padding, axes)))


def _conv(conv: Any) -> Window:
    kernel = tuple(conv.kernel_size)
    padded = _padded(kernel, conv.padding)
    return Window(kernel, tuple(conv.stride), tuple(conv.dilation), padded)


def _spelled(padding: Any, axes: int) -> Any:
    return padding if isinstance(padding, str) else _wide(padding, axes)


def _padded(kernel: tuple[int, ...], padding: Any) -> str:
    """Say how a convolution pads; empty where it does not."""
    plain = isinstance(padding, tuple)
    none = padding == "valid" or (padding == "same" and set(kernel) == {1})
    if none or (plain and not any(padding)):
        return ""
    return f"pads by {times(padding) if plain else padding}"


def _wide(value: Any, axes: int) -> tuple[int, ...]:
    return tuple(map(int, along_axes(value, axes)))
