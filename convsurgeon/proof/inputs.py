"""The random inputs: which sizes, and why each."""

from __future__ import annotations

from convsurgeon.geometry import Geometry

SEED = 20_260_101


def input_shapes(channels: int, geometry: Geometry) -> tuple[tuple[int, ...], ...]:
    """Return input shapes `[B, C, *spatial]`, or `[C, *spatial]` for the unbatched one.

    One window; none at all (batch 0); several windows, differently many per axis, so that exchanged
    axes show; sizes that the kernel does not divide, by one and by all but one, where a conv
    floors; one long axis.
    """
    k, s = geometry.kernel, geometry.stride

    def size(axis: int, windows: int, rest: int = 0) -> int:
        # A rest of a whole stride would be one more window.
        return k[axis] + (windows - 1) * s[axis] + min(rest, s[axis] - 1)

    axes = range(geometry.ndim)
    one = tuple(size(a, 1) for a in axes)
    grid = tuple(size(a, 2 + a) for a in axes)
    little_over = tuple(size(a, 2, 1) for a in axes)
    nearly = tuple(size(a, 1 + a, k[a] - 1) for a in axes)
    long = tuple(size(a, 5 if a == 0 else 1) for a in axes)
    return (
        (channels, *one),
        (0, channels, *one),
        (1, channels, *one),
        (2, channels, *grid),
        (1, channels, *little_over),
        (2, channels, *nearly),
        (3, channels, *long),
    )
