"""Originals with their swapped files, ways to damage them, and the proofs asked one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

import convsurgeon as cs
from convsurgeon.header import Header
from convsurgeon.plan import METADATA_KEY, Recipe
from convsurgeon.proof import FileVerdict, Function, check_recorded
from convsurgeon.proof.forms import Stored
from convsurgeon.proof.function import run_both
from convsurgeon.proof.pairing import pairs
from convsurgeon.store import SafetensorsFile, read_safetensors
from tests.cli_helpers import Shape, Tensor, read, write

Array = npt.NDArray[np.unsignedinteger]
TORCH = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
}
SIZES = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1}
WEIGHT, BIAS = "proj.weight", "proj.bias"


@dataclass(frozen=True)
class Case:
    """One swap. `conv` is the shape of the conv's weight, on whichever side it stands."""

    conv: Shape
    to: str = "linear"
    layout: str = "c p1 p2"
    dtype: str = "F32"

    def __str__(self) -> str:
        sizes = "x".join(map(str, self.conv))
        return f"{self.to}-{sizes}-{self.layout.replace(' ', '')}-{self.dtype}"

    @property
    def linear(self) -> Shape:
        return self.conv[0], prod(self.conv[1:])

    @property
    def source(self) -> Shape:
        return self.conv if self.to == "linear" else self.linear

    def swap(self, original: Path, swapped: Path, *, verify: str = "bits") -> None:
        kernel = "x".join(map(str, self.conv[2:]))
        if self.to == "linear":
            options = cs.swap(
                original, swapped, verify=verify, layout=self.layout, geometry=[f"proj=s{kernel}"]
            )
        else:
            shape = f"proj={self.conv[1]}x{kernel}"
            options = cs.swap(
                original, swapped, verify=verify, to="conv", layout=self.layout, input_shape=[shape]
            )
        assert options.files[0].outcome == "written"


def stored(values: torch.Tensor, dtype: str) -> Tensor:
    """A tensor in a dtype, as bytes."""
    data = values.to(TORCH[dtype]).contiguous().view(torch.uint8).numpy().tobytes()
    return Tensor(dtype, tuple(values.shape), data)


def values(tensor: Tensor) -> npt.NDArray[np.float64]:
    """The numbers of a tensor, flat."""
    raw = torch.frombuffer(bytearray(tensor.data), dtype=TORCH[tensor.dtype])
    found: npt.NDArray[np.float64] = raw.to(torch.float64).numpy()
    return found


def build(folder: Path, case: Case, weight: Tensor | None = None) -> tuple[Path, Path]:
    """Write an original with other tensors around its layer, and swap it."""
    draw = torch.Generator().manual_seed(prod(case.conv))
    normal = [torch.randn(shape, generator=draw) for shape in (case.source, case.conv[:1], (4, 6))]
    tensors = {
        "before.weight": stored(normal[2], "F32"),
        WEIGHT: weight or stored(normal[0], case.dtype),
        BIAS: stored(normal[1], case.dtype),
        "after.count": Tensor("I64", (3,), bytes(24)),
    }
    original = write(
        folder / f"{case}.safetensors", tensors, {"format": "pt", "author": "somebody"}
    )
    swapped = folder / f"{case}.swapped.safetensors"
    case.swap(original, swapped)
    return original, swapped


def elements(tensor: Tensor) -> Array:
    """The elements as unsigned integers, shaped."""
    kind = f"<u{SIZES[tensor.dtype]}"
    found: Array = np.frombuffer(tensor.data, kind).reshape(tensor.shape)
    return found


def change(swapped: Path, edit: Callable[[Array], Array], key: str = WEIGHT) -> Path:
    """Write a copy in which the elements of one tensor are others; its shape follows them."""
    tensors, metadata = read(swapped)
    after = edit(elements(tensors[key]).copy())
    tensors[key] = Tensor(tensors[key].dtype, after.shape, np.ascontiguousarray(after).tobytes())
    return write(swapped.with_name("mutant.safetensors"), tensors, metadata)


def flip(swapped: Path, key: str, bit: int) -> Path:
    """Write a copy in which one bit of a tensor is the other one."""
    tensors, metadata = read(swapped)
    data = bytearray(tensors[key].data)
    data[bit // 8] ^= 1 << bit % 8
    tensors[key] = tensors[key]._replace(data=bytes(data))
    return write(swapped.with_name("mutant.safetensors"), tensors, metadata)


def in_conv_axes(case: Case, edit: Callable[[Array], Array]) -> Callable[[Array], Array]:
    """An edit of `[O, C, *kernel]`, whatever form the stored weight has."""

    def whole(array: Array) -> Array:
        if array.ndim > 2:
            return edit(array)
        out, channels, *kernel = case.conv
        if case.layout == "c p1 p2":
            return edit(array.reshape(case.conv)).reshape(array.shape)
        last = array.reshape(out, *kernel, channels)
        return np.moveaxis(edit(np.moveaxis(last, -1, 1)), 1, -1).reshape(array.shape)

    return whole


def recipe(header: Header) -> Recipe:
    return Recipe.from_text(header.metadata_map[METADATA_KEY])


def function_alone(original: Path, swapped: Path) -> Function:
    """Ask the proof of the function only; the bits are not looked at."""
    before, after = read_safetensors(original), read_safetensors(swapped)
    (pair,) = pairs(recipe(after.header).steps)
    with before.reader() as old, after.reader() as new:
        found, _ = run_both(
            pair,
            pair.steps[-1].geometry,
            Stored(old, before.header.by_name[WEIGHT], before.header.by_name[BIAS]),
            Stored(new, after.header.by_name[WEIGHT], after.header.by_name[BIAS]),
        )
    return found


def recorded(swapped: Path) -> FileVerdict:
    file: SafetensorsFile = read_safetensors(swapped)
    return check_recorded(file)
