"""What names, dtypes and metadata say about a stored tensor: one golden case per check."""

from __future__ import annotations

import pytest

from convsurgeon.dtypes import BITS, PLAIN_FLOATS, itemsize
from convsurgeon.stored import CHECKS, Stored, obstacle

# key, dtype, names beside it, metadata -> code, figure of the reason
REFUSED = {
    "weight norm": ("conv.weight_v", "F32", ["conv.weight_g"], {}, "CS008", "weight_v"),
    "spectral norm": ("conv.weight_orig", "F32", ["conv.weight_u"], {}, "CS008", "weight_orig"),
    "parametrised": ("conv.parametrizations.weight.original0", "F32", [], {}, "CS008", "original0"),
    "parametrised, one": ("parametrizations.weight.original", "F32", [], {}, "CS008", "original"),
    "mlx": ("conv.weight", "F32", [], {"format": "mlx"}, "CS009", "format mlx"),
    "mlx in capitals": ("conv.weight", "F32", [], {"format": "MLX"}, "CS009", "format mlx"),
    "packed": ("conv.weight", "U8", [], {}, "CS010", "dtype U8"),
    "integers": ("conv.weight", "I64", [], {}, "CS010", "dtype I64"),
    "complex": ("conv.weight", "C64", [], {}, "CS010", "dtype C64"),
    "four bits": ("conv.weight", "F4", [], {}, "CS010", "dtype F4"),
    "scales": ("conv.weight", "F8_E8M0", [], {}, "CS010", "dtype F8_E8M0"),
    "fp8": ("conv.weight", "F8_E4M3", ["conv.weight_scale_inv"], {}, "CS011", "conv.weight_scale_inv"),
    "fp8 at the top": ("weight", "F8_E4M3", ["weight_scale"], {}, "CS011", "weight_scale"),
    "absmax below": ("conv.weight", "F32", ["conv.weight.absmax"], {}, "CS011", "weight.absmax"),
    "LLM.int8": ("conv.weight", "F16", ["conv.SCB"], {}, "CS011", "conv.SCB"),
    "LoRA": ("conv.weight", "F32", ["conv.lora_A.weight"], {}, "CS012", "conv.lora_A.weight"),
    "LoRA of peft": ("conv.base_layer.weight", "F32", ["conv.lora_A.default.weight"], {}, "CS012", "default"),
    "base layer alone": ("conv.base_layer.weight", "F32", [], {}, "CS012", "conv.base_layer"),
    "LoCon": ("conv.weight", "F32", ["conv.lora_down.weight"], {}, "CS012", "lora_down"),
    "the first reason": ("conv.weight_v", "U8", ["conv.scale"], {"format": "mlx"}, "CS008", "weight_v"),
}  # fmt: skip
FINE = {
    "plain": ("conv.weight", "F32", ["conv.bias"], {"format": "pt"}),
    "no metadata": ("conv.weight", "BF16", [], {}),
    "top level": ("weight", "F64", ["bias"], {}),
    "a scale elsewhere": ("a.conv.weight", "F32", ["b.conv.weight_scale", "a.scale"], {}),
    "LoRA elsewhere": ("a.conv.weight", "F32", ["a.other.lora_A.weight"], {}),
    "a name that only sounds so": ("my_parametrizations.weight", "F32", ["weight_v"], {}),
    "weight_g itself is not asked": (
        "conv.weight",
        "F32",
        ["conv.weight_gain"],
        {"format": "mlxx"},
    ),
}


@pytest.mark.parametrize(
    ("key", "dtype", "names", "metadata", "code", "figure"), REFUSED.values(), ids=REFUSED
)
def test_refused(
    key: str, dtype: str, names: list[str], metadata: dict[str, str], code: str, figure: str
) -> None:
    found = obstacle(Stored(key, dtype, {key, *names}, metadata))
    assert found is not None
    assert found.code == code
    assert figure in found.reason


@pytest.mark.parametrize(("key", "dtype", "names", "metadata"), FINE.values(), ids=FINE)
def test_fine(key: str, dtype: str, names: list[str], metadata: dict[str, str]) -> None:
    assert obstacle(Stored(key, dtype, {key, *names}, metadata)) is None


def test_every_check_has_a_golden_case() -> None:
    assert len(CHECKS) == len({row[4] for row in REFUSED.values()}) == 5


@pytest.mark.parametrize("dtype", BITS)
def test_each_dtype(dtype: str) -> None:
    found = obstacle(Stored("conv.weight", dtype, {"conv.weight"}, {}))
    assert (found is None) is (dtype in PLAIN_FLOATS)


def test_sizes_of_elements() -> None:
    assert {itemsize(dtype) for dtype in PLAIN_FLOATS} == {1, 2, 4, 8}
    assert itemsize("C64") == 8
    small = [dtype for dtype, bits in BITS.items() if bits < 8]
    assert small == ["F4", "F6_E2M3", "F6_E3M2"]
    for dtype in small:
        with pytest.raises(ValueError, match="smaller than a byte"):
            itemsize(dtype)
