"""What stands around a stored tensor, and what that makes of it: golden cases for each check."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.dtypes import BITS, PLAIN_FLOATS, itemsize
from convsurgeon.stored import (
    CHECKS,
    Shape,
    Stored,
    Surroundings,
    looks_channel_last,
    obstacle,
    stands_for_weight,
)
from tests.strategies import NAMES

CONV: Shape = (4, 3, 2, 2)
W = "conv.weight"


def stored(
    key: str = W,
    dtype: str = "F32",
    beside: Mapping[str, Shape] | tuple[str, ...] = (),
    formats: tuple[str, ...] = (),
    *,
    shape: Shape = CONV,
    form: str = "conv2d",
) -> Stored:
    """A tensor and what stands around it; names without a shape get that of a scalar."""
    shapes = dict(beside) if isinstance(beside, Mapping) else dict.fromkeys(beside, ())
    return Stored(key, dtype, shape, form, Surroundings({**shapes, key: shape}, frozenset(formats)))


# case -> tensor, code, what the reason says
REFUSED: dict[str, tuple[Stored, str, str]] = {
    "weight norm": (stored("conv.weight_v", beside=("conv.weight_g",)), "CS008", "weight_v"),
    "spectral norm": (stored("conv.weight_orig", beside=("conv.weight_u",)), "CS008", "weight_orig"),
    "parametrised": (stored("conv.parametrizations.weight.original0"), "CS008", "original0"),
    "parametrised, at the top": (stored("parametrizations.weight.original"), "CS008", "original"),
    "a stale weight": (stored(beside=("conv.weight_v", "conv.weight_g")), "CS008", "conv.weight_g"),
    "pruned": (stored(beside=("conv.weight_mask",)), "CS008", "conv.weight_mask"),
    "spectral norm of a GAN": (stored(beside=("conv.u0", "conv.sv0")), "CS008", "conv.sv0"),
    "mlx": (stored(formats=("mlx",)), "CS009", "format mlx"),
    "mlx in another shard": (stored(formats=("pt", "mlx")), "CS009", "format mlx"),
    "flax": (stored(formats=("flax",)), "CS009", "format flax"),
    "packed": (stored(dtype="U8"), "CS010", "dtype U8"),
    "quanto": (stored("conv.weight._data", "F8_E4M3"), "CS010", "conv.weight._data holds the codes"),
    "scaled": (stored(dtype="F8_E4M3", beside=("conv.weight_scale_inv",)), "CS011", "conv.weight_scale_inv"),
    "scaled, at the top": (stored("weight", "F8_E4M3", ("weight_scale",)), "CS011", "weight_scale"),
    "scaled inputs": (stored(dtype="F8_E4M3", beside=("conv.input_scale",)), "CS011", "conv.input_scale"),
    "absmax below": (stored(beside=("conv.weight.absmax",)), "CS011", "conv.weight.absmax"),
    "LLM.int8": (stored(dtype="F16", beside=("conv.SCB",)), "CS011", "conv.SCB"),
    "simulated quantiser": (stored(beside=("conv._weight_quantizer._amax",)), "CS011", "_amax"),
    "LoRA": (stored(beside=("conv.lora_A.weight",)), "CS012", "conv.lora_A.weight"),
    "LoRA of diffusers": (stored(beside=("conv.lora.up.weight",)), "CS012", "conv.lora.up.weight"),
    "OFT": (stored(beside=("conv.oft_R.default.weight",)), "CS012", "conv.oft_R"),
    "base layer": (stored("conv.base_layer.weight"), "CS012", "conv.base_layer"),
    "the adapter itself": (stored("conv.lora_A.weight"), "CS012", "conv.lora_A"),
    "of one name": (stored("conv.lora_B.default.weight"), "CS012", "conv.lora_B.default"),
    "of diffusers": (stored("to_q_lora.down.weight"), "CS012", "to_q_lora.down"),
    "DoRA": (stored("conv.lora_magnitude_vector.weight"), "CS012", "magnitude"),
    "a gain": (stored(beside={"conv.gain": (4, 1, 1, 1)}), "CS007", "conv.gain is stored beside it"),
    "a child": (stored(beside=("conv.modulation.weight",)), "CS007", "conv.modulation.weight"),
    "a child of the root": (stored("weight", beside=("fc.weight",)), "CS007", "fc.weight"),
    "the name that says most": (stored(beside=("conv.alpha", "conv.lora_A.weight")), "CS012", "lora_A"),
    "transposed": (stored(shape=(8, 4, 2, 2), beside={"conv.bias": (4,)}), "CS019", "bias [4] beside a weight [8, 4, 2, 2]"),
    "a norm": (stored(shape=(1, 1, 1, 8), beside={"conv.bias": (1, 1, 1, 8)}), "CS019", "bias [1, 1, 1, 8]"),
    "Conv1D": (stored(shape=(4, 6), form="linear", beside={"conv.bias": (6,)}), "CS019", "rows are not the outputs"),
    "square Conv1D": (stored("attn.c_proj.weight", shape=(4, 4), form="linear", beside={"attn.c_proj.bias": (4,), "attn.c_attn.weight": (4, 12), "attn.c_attn.bias": (12,)}), "CS015", "attn.c_attn.weight is stored [in, out]"),
    "experts": (stored("mlp.experts.fc1.weight", shape=(8, 4, 2), form="conv1d"), "CS020", "8 experts"),
    "experts without a name": (stored("moe.experts.weight", shape=(8, 4, 2), form="conv1d"), "CS020", "8 experts"),
    "positions": (stored("a.pos_emb.weight", shape=(4, 4, 8), form="conv1d"), "CS020", "positions"),
    "relative positions": (stored("a.relative_attention_bias.weight", shape=(32, 8), form="linear"), "CS020", "positions"),
    "Adam": (stored("optimizer.exp_avg.proj.weight"), "CS020", "optimiser"),
    "the first reason": (stored("conv.weight_v", "U8", ("conv.scale",), ("mlx",)), "CS008", "weight_v"),
}  # fmt: skip
FINE: dict[str, Stored] = {
    "plain": stored(beside={"conv.bias": (4,)}, formats=("pt", "")),
    "top level": stored("weight", "F64", {"bias": (4,)}),
    "no name": stored(".weight", beside={"bias": (9,), "weight": (1,)}),
    "a scale elsewhere": stored("a.conv.weight", beside=("b.conv.weight_scale", "a.scale", "a.conv2")),
    "LoRA elsewhere": stored("a.conv.weight", beside=("a.other.lora_A.weight",)),
    "a name that only sounds so": stored("my_parametrizations.weight", beside=("weight_v",)),
    "an adapter's name in another": stored("explora_A.weight"),
    "another format": stored(formats=("mlxx",)),
    "one expert's own": stored("moe.experts.0.conv.weight", shape=(4, 3, 2), form="conv1d"),
    "a conv beside experts": stored("experts.conv.weight"),
    "a conv of positions": stored("pos_embed.weight"),
    "a Linear of positions": stored("position_embedding.weight", shape=(4, 3), form="linear", beside={"position_embedding.bias": (4,)}),
    "a transposed conv that is known": stored(shape=(8, 4, 2, 2), form="conv_transpose2d", beside={"conv.bias": (4,)}),
    "a square Linear": stored("a.q.weight", shape=(4, 4), form="linear", beside={"a.q.bias": (4,), "a.k.weight": (12, 4), "a.k.bias": (12,)}),
    "a square Linear elsewhere": stored("b.q.weight", shape=(4, 4), form="linear", beside={"b.q.bias": (4,), "a.k.weight": (4, 12), "a.k.bias": (12,)}),
    "square without a bias": stored("a.q.weight", shape=(4, 4), form="linear", beside={"a.k.weight": (4, 12), "a.k.bias": (12,)}),
}  # fmt: skip


@pytest.mark.parametrize(("tensor", "code", "words"), REFUSED.values(), ids=REFUSED)
def test_refused(tensor: Stored, code: str, words: str) -> None:
    found = obstacle(tensor)
    assert found is not None
    assert found.code == code
    assert words in found.reason


@pytest.mark.parametrize("tensor", FINE.values(), ids=FINE)
def test_fine(tensor: Stored) -> None:
    assert obstacle(tensor) is None


@pytest.mark.parametrize("check", CHECKS)
def test_every_check_is_the_only_one_to_refuse_a_golden_case(check: object) -> None:
    deciding = [[other for other in CHECKS if other(row[0])] for row in REFUSED.values()]
    assert [check] in deciding


@given(NAMES, st.lists(NAMES, max_size=4))
def test_only_a_weight_and_a_bias_make_a_plain_layer(module: str, others: list[str]) -> None:
    plain = {f"{module}.bias": (4,), **dict.fromkeys((f"{n}.w" for n in others), ())}
    plain = {name: s for name, s in plain.items() if not name.startswith(f"{module}.") or s}
    assert obstacle(stored(f"{module}.weight", beside=plain)) is None
    found = obstacle(stored(f"{module}.weight", beside={**plain, f"{module}.extra": ()}))
    assert found is not None
    assert found.code == "CS007"


def test_a_hundred_thousand_strangers_are_not_all_looked_at() -> None:
    names = dict.fromkeys((f"conv.{i}.weight" for i in range(100_000)), (1,))
    around = Surroundings({**names, W: CONV})
    tensor = Stored(W, "F32", CONV, "conv2d", around)
    assert 2 < len(tensor.strangers()) < 50
    found = obstacle(tensor)
    assert found is not None
    assert found.reason.startswith("conv.0.weight is stored beside it")


@pytest.mark.parametrize("dtype", BITS)
def test_each_dtype(dtype: str) -> None:
    assert (obstacle(stored(dtype=dtype)) is None) is (dtype in PLAIN_FLOATS)


@pytest.mark.parametrize(
    ("key", "stands"),
    [
        ("conv.weight_v", True),
        ("conv.parametrizations.weight.original1", True),
        ("conv.weight._data", True),
        ("conv.weight:qdata", True),
        ("conv._weight_qdata", True),
        ("conv.qweight", True),
        ("weight_packed", True),
        ("conv.weight", False),
        ("conv.weight_g", False),
        ("conv.my_qweight", False),
        ("experts.down_proj_blocks", False),
    ],
)
def test_what_a_weight_is_made_of(key: str, stands: bool) -> None:
    assert stands_for_weight(key) is stands


@pytest.mark.parametrize(
    ("shape", "looks"),
    [
        ((768, 16, 16, 3), True),
        ((64, 2, 2, 1), True),
        ((8, 2, 14, 14, 3), True),
        ((768, 3, 16, 16), False),
        ((64, 3, 3, 3), False),
        ((64, 1, 1, 3), False),
        ((64, 5, 7, 3), False),
        ((64, 16, 16, 32), False),
        ((64, 16, 3), False),
    ],
)
def test_shapes_that_look_channel_last(shape: Shape, looks: bool) -> None:
    assert looks_channel_last(shape) is looks


def test_sizes_of_elements() -> None:
    assert {itemsize(dtype) for dtype in PLAIN_FLOATS} == {1, 2, 4, 8}
    assert itemsize("C64") == 8
    small = [dtype for dtype, bits in BITS.items() if bits < 8]
    assert small == ["F4", "F6_E2M3", "F6_E3M2"]
    for dtype in small:
        with pytest.raises(ValueError, match="smaller than a byte"):
            itemsize(dtype)
