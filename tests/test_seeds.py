"""The two notes that the project grew from: every number and every system in them.

The first turns a convolution with stride = kernel into a matrix, the second a linear layer into a
convolution, in two ways. Integers are compared for equality, the second note's decimal numbers
within the bound of their own roundings.
"""

from __future__ import annotations

from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from typer.testing import CliRunner

import convsurgeon as cs
from convsurgeon.cli import app

# --- the first note

KERNELS = [
    [[[1, 1], [1, 1]], [[1, 1], [1, 1]], [[1, 1], [1, 1]]],
    [[[-1, -1], [-1, -1]], [[-1, -1], [-1, -1]], [[-1, -1], [-1, -1]]],
]
MATRIX = [[1, -1]] * 12
"""indim = inc * p * p = 12, outdim = outc = 2: one column per output."""

# --- the second note

IMAGE = [[[[1.0, 2.0], [3.0, 4.0]]]]
WEIGHTS = [["1.1", "1.2", "1.3", "1.4"], ["1.5", "1.6", "1.7", "1.8"]]
BIAS = ["1.9", "2.0"]
OUTPUTS = ["14.9", "19.0"]
METHODS: dict[str, tuple[list[str], dict[str, Any], list[int], list[int]]] = {
    # name: options, keywords, shape of the input, shape of the kernels
    "kernel": (
        ["--input-shape", "fc=1x2x2"],
        {"input_shape": ["fc=1x2x2"]},
        [1, 1, 2, 2],
        [2, 1, 2, 2],
    ),
    "1x1": (
        ["--method", "1x1", "--layer", "fc"],
        {"method": "1x1", "layers": ["fc"]},
        [1, 4, 1, 1],
        [2, 4, 1, 1],
    ),
}
DTYPES = [torch.float32, torch.float64]


def invoke(*arguments: object) -> None:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output


def integers(*shape: int, seed: int = 0, most: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-most, most + 1, shape, generator=generator).double()


def patches_of(images: Tensor, p: int) -> Tensor:
    """Cut `[B, C, H, W]` into `[B, H/p * W/p, C*p*p]`, by loops: nothing but the definition."""
    rows, columns = images.shape[2] // p, images.shape[3] // p
    cut = [
        images[:, :, r * p : r * p + p, c * p : c * p + p].reshape(len(images), -1)
        for r in range(rows)
        for c in range(columns)
    ]
    return torch.stack(cut, dim=1)


def test_the_matrix_of_the_first_note() -> None:
    weight = torch.tensor(KERNELS)
    assert list(weight.shape) == [2, 3, 2, 2]
    assert weight.reshape(2, 12).T.tolist() == MATRIX


def test_the_conv_of_the_first_note_is_the_product_with_the_matrix() -> None:
    image = integers(1, 3, 4, 4)
    conv = nn.Conv2d(in_channels=3, out_channels=2, kernel_size=2, stride=2, bias=False).double()
    conv.weight.data = torch.tensor(KERNELS).double()
    out = conv(image)
    assert list(out[0].shape) == [2, 2, 2]
    tokens = patches_of(image, 2) @ torch.tensor(MATRIX).double()
    assert torch.equal(tokens, out.flatten(2).transpose(1, 2))


@pytest.mark.parametrize(
    ("inc", "outc", "p", "h", "w"), [(3, 2, 2, 4, 4), (5, 7, 3, 6, 9), (1, 4, 1, 2, 3)]
)
def test_conv_and_matrix_agree_exactly_on_integers(
    inc: int, outc: int, p: int, h: int, w: int
) -> None:
    image, weight = integers(2, inc, h, w), integers(outc, inc, p, p, seed=1)
    out = functional.conv2d(image, weight, stride=p)
    assert list(out.shape) == [2, outc, h // p, w // p]
    matrix = weight.reshape(outc, inc * p * p).T
    assert list(matrix.shape) == [inc * p * p, outc]
    assert torch.equal(patches_of(image, p) @ matrix, out.flatten(2).transpose(1, 2))


@pytest.mark.parametrize("by", ["command", "function"])
def test_a_file_gets_the_matrix_of_the_first_note(by: str, tmp_path: Path) -> None:
    source, target = tmp_path / "conv.safetensors", tmp_path / "linear.safetensors"
    save_file({"embed.weight": torch.tensor(KERNELS).float()}, source)
    if by == "command":
        invoke("swap", source, "-o", target, "--geometry", "embed=k2,s2,p0,d1,g1")
    else:
        cs.swap(source, target, geometry=["embed=k2,s2,p0,d1,g1"])
    assert load_file(target)["embed.weight"].T.tolist() == MATRIX
    assert cs.verify(source, target).equivalent


def test_a_live_conv_of_the_first_note_becomes_its_matrix(tmp_path: Path) -> None:
    source, target = tmp_path / "conv.safetensors", tmp_path / "linear.safetensors"
    save_file({"0.weight": torch.tensor(KERNELS).double()}, source)
    cs.swap(source, target, geometry=["0=s2"])
    model = nn.Sequential(nn.Conv2d(3, 2, 2, stride=2, bias=False)).double()
    cs.load(model, target)
    assert model.state_dict()["0.linear.weight"].T.tolist() == MATRIX
    image = integers(3, 4, 4)
    expected = functional.conv2d(image, torch.tensor(KERNELS).double(), stride=2)
    assert torch.equal(model(image), expected)


# --- the second note


def second(dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    weight = torch.tensor([[float(w) for w in row] for row in WEIGHTS], dtype=dtype)
    bias = torch.tensor([float(b) for b in BIAS], dtype=dtype)
    return torch.tensor(IMAGE, dtype=dtype), weight, bias


def assert_the_outputs(out: Tensor, shape: list[int]) -> None:
    """The outputs are 14.9 and 19.0, up to the rounding of the numbers and of five sums.

    Each of the five terms carries at most: one rounding of its weight, one product, five sums, and
    the expected number one of its own. All terms are positive, so their sum is the output.
    """
    assert list(out.shape) == shape
    unit = torch.finfo(out.dtype).eps / 2
    for value, expected in zip(out.flatten().tolist(), OUTPUTS, strict=True):
        assert abs(Decimal(value) - Decimal(expected)) <= Decimal(8 * unit) * Decimal(expected)


def test_the_arithmetic_of_the_second_note() -> None:
    pixels = [Decimal(int(x)) for x in (1, 2, 3, 4)]
    for row, bias, expected in zip(WEIGHTS, BIAS, OUTPUTS, strict=True):
        products = [x * Decimal(w) for x, w in zip(pixels, row, strict=True)]
        assert sum(products, Decimal(bias)) == Decimal(expected)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_linear_of_the_second_note(dtype: torch.dtype) -> None:
    image, weight, bias = second(dtype)
    fc = nn.Linear(4, 2).to(dtype)
    fc.weight.data, fc.bias.data = weight, bias
    assert_the_outputs(torch.relu(fc(image.view(-1, 4))), [1, 2])


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_convolutions_of_the_second_note(method: str, dtype: torch.dtype) -> None:
    _, _, input_shape, weight_shape = METHODS[method]
    image, weight, bias = second(dtype)
    conv = nn.Conv2d(input_shape[1], 2, (weight_shape[2], weight_shape[3])).to(dtype)
    conv.weight.data, conv.bias = weight.view(weight_shape), nn.Parameter(bias)
    assert_the_outputs(torch.relu(conv(image.view(input_shape))), [1, 2, 1, 1])


@pytest.mark.parametrize("by", ["command", "function"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_file_gets_the_convolutions_of_the_second_note(
    method: str, dtype: torch.dtype, by: str, tmp_path: Path
) -> None:
    options, choices, input_shape, weight_shape = METHODS[method]
    image, weight, bias = second(dtype)
    source, target = tmp_path / "fc.safetensors", tmp_path / "conv.safetensors"
    save_file({"fc.weight": weight, "fc.bias": bias}, source)
    if by == "command":
        invoke("swap", source, "-o", target, "--to", "conv", *options)
    else:
        cs.swap(source, target, to="conv", **choices)
    state = load_file(target)
    assert list(state["fc.weight"].shape) == weight_shape
    assert torch.equal(state["fc.weight"].flatten(), weight.flatten())
    out = functional.conv2d(image.view(input_shape), state["fc.weight"], state["fc.bias"])
    assert_the_outputs(torch.relu(out), [1, 2, 1, 1])

    layers = {"flat": nn.Flatten(), "fc": nn.Linear(4, 2), "relu": nn.ReLU()}
    model = nn.Sequential(OrderedDict(layers)).to(dtype)
    report = cs.load(model, target)
    assert [layer.module for layer in report.replaced] == ["fc"]
    assert list(model.state_dict()["fc.weight"].shape) == weight_shape
    assert_the_outputs(model(image), [1, 2])

    invoke("restore", target, "-o", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == source.read_bytes()


# --- the bottleneck patch embedding of the first note


class BottleneckPatchEmbed(nn.Module):
    """Patches through a narrow layer: `proj1` of stride = kernel without bias, `proj2` of kernel 1."""

    def __init__(
        self, size: int, patch: int, channels: int, bottleneck: int, width: int, *, bias: bool
    ) -> None:
        super().__init__()
        self.size = (size, size)
        self.proj1 = nn.Conv2d(channels, bottleneck, kernel_size=patch, stride=patch, bias=False)
        self.proj2 = nn.Conv2d(bottleneck, width, kernel_size=1, stride=1, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        if tuple(x.shape[2:]) != self.size:
            raise ValueError(f"images of {self.size} are expected")
        y: Tensor = self.proj2(self.proj1(x))
        return y.flatten(2).transpose(1, 2)


def bottleneck(*, bias: bool = True) -> BottleneckPatchEmbed:
    model = BottleneckPatchEmbed(24, 4, 3, 6, 10, bias=bias).double()
    for seed, parameter in enumerate(model.parameters()):
        parameter.data = integers(*parameter.shape, seed=seed)
    return model


@pytest.mark.parametrize("kind", ["linear", "gemm"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("layout", ["c p1 p2", "p1 p2 c"])
def test_both_convs_of_the_bottleneck_are_swapped_and_loaded(
    kind: str, bias: bool, layout: str, tmp_path: Path
) -> None:
    source, target = tmp_path / "conv.safetensors", tmp_path / "linear.safetensors"
    before = bottleneck(bias=bias)
    save_file(before.state_dict(), source)
    geometry = ("--geometry", "proj1=k4,s4,p0,d1,g1", "--geometry", "proj2=k1,s1")
    invoke("swap", source, "-o", target, *geometry, "--layout", layout)
    state = load_file(target)
    assert [list(state[f"proj{n}.weight"].shape) for n in (1, 2)] == [[6, 48], [10, 6]]

    after = BottleneckPatchEmbed(24, 4, 3, 6, 10, bias=bias).double()
    report = cs.load(after, target, kind=kind)
    assert [layer.module for layer in report.replaced] == ["proj1", "proj2"]
    names = {type(layer).__name__ for layer in (after.proj1, after.proj2)}
    assert names == ({"PatchLinear"} if kind == "linear" else {"GemmConv2d"})

    images = integers(2, 3, 24, 24, most=255)
    assert torch.equal(after(images), before(images))
    invoke("restore", target, "-o", tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == source.read_bytes()


def test_the_bottleneck_is_a_product_of_two_matrices() -> None:
    model = bottleneck(bias=False)
    images = integers(2, 3, 24, 24, most=255)
    first, second_matrix = (p.reshape(len(p), -1).T for p in model.parameters())
    assert torch.equal(patches_of(images, 4) @ first @ second_matrix, model(images))
