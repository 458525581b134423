"""The one home of hypothesis strategies: names, headers, geometries, weights."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import strategies as st

from convsurgeon.dtypes import BITS
from convsurgeon.geometry import Geometry
from convsurgeon.header import Header, pack

UNICODE = st.characters(exclude_categories=["Cs"])
NAMES = st.one_of(
    st.sampled_from(
        ["a", "a.weight", "patch_embed.proj.weight", "é.weight", "\u202e", "\U0001f600"]
    ),
    st.text(UNICODE, max_size=12),
).filter(lambda name: name != "__metadata__")
METADATA = st.none() | st.dictionaries(st.text(UNICODE, max_size=8), st.text(UNICODE, max_size=12))


@st.composite
def tensors(draw: st.DrawFn) -> list[tuple[str, str, tuple[int, ...]]]:
    """Tensors that `pack` can lay out: their sizes are whole bytes."""
    names = draw(st.lists(NAMES, max_size=6, unique=True))
    found = []
    for name in names:
        dtype = draw(st.sampled_from(list(BITS)))
        shape = tuple(draw(st.lists(st.integers(0, 5), max_size=5)))
        if prod(shape) * BITS[dtype] % 8:
            shape = (*shape, 4)
        found.append((name, dtype, shape))
    return found


@st.composite
def headers(draw: st.DrawFn) -> Header:
    """Valid headers; the text's order is not the data's order."""
    packed = pack(draw(tensors()), draw(METADATA))
    return Header(tuple(draw(st.permutations(packed.tensors))), packed.metadata)


@st.composite
def mutated(draw: st.DrawFn, header: Header, text: bytes) -> bytes:
    """A header's text with a few bytes replaced, put in, taken out or doubled."""
    words = [b"F32", b"F4", b"__metadata__", b"shape", b"18446744073709551616", b"\xef\xbb\xbf"]
    names = [t.name.encode() for t in header.tensors]
    return draw(mutated_text(text, (*words, *names)))


@st.composite
def mutated_text(draw: st.DrawFn, text: bytes, words: Sequence[bytes]) -> bytes:
    """JSON with a few bytes replaced, put in, taken out or doubled."""
    pieces = [b"", b" ", b"\t", b"\n", b"0", b"-", b"1", b"9", b",", b":", b'"', b"[", b"]", b"{"]
    pieces += [b"}", b"\\", b"null", b"true", b"1e3", b"\\u0061", b"\x00", b"\xff", b'"x":1,']
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(len(text), start + 6)))
        middle = draw(st.sampled_from([*pieces, *words, text[start:stop] * 2]))
        text = text[:start] + middle + text[stop:]
    return text


AXES = st.integers(1, 3)


@st.composite
def geometries(draw: st.DrawFn, dimensions: int | None = None) -> Geometry:
    """Geometries of which a good part is eligible, and the rest misses by little."""
    n = dimensions or draw(AXES)
    kernel = tuple(draw(st.lists(st.integers(1, 4), min_size=n, max_size=n)))
    stride = tuple(k + draw(st.sampled_from([0, 0, 0, 1, -1])) or 1 for k in kernel)
    padding = tuple(draw(st.sampled_from([0, 0, 0, 0, 1])) for _ in kernel)
    dilation = tuple(draw(st.sampled_from([1, 1, 1, 1, 2])) for _ in kernel)
    return Geometry(kernel, stride, padding, dilation, draw(st.sampled_from([1, 1, 1, 2])))


@st.composite
def conv_shapes(draw: st.DrawFn) -> tuple[int, ...]:
    """Shapes of conv weights, ones among the sizes."""
    kernel = draw(st.lists(st.integers(1, 4), min_size=1, max_size=3))
    return (draw(st.integers(1, 4)), draw(st.integers(1, 4)), *kernel)


def counted(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """An array whose elements name their own places."""
    return np.arange(prod(shape)).reshape(shape)


SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=4)
    | st.sampled_from(["linear", "conv2d", "../x", "\ud800", "\x00", "c p1 p2", "0" * 64])
)
JSON: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=4,
)


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON document, the document itself first."""
    inside: list[tuple[str | int, Any]] = []
    if isinstance(value, dict | list):
        inside = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [path, *(p for key, inner in inside for p in places(inner, (*path, key)))]


def replaced(document: Any, path: tuple[str | int, ...], value: Any) -> Any:
    """A copy of a JSON document with another value at one place."""
    if not path:
        return value
    copy = json.loads(json.dumps(document))
    target = copy
    for step in path[:-1]:
        target = target[step]
    target[path[-1]] = value
    return copy
