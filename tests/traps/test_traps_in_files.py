"""Traps that the file itself shows: refused even where the user states the very geometry."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

import convsurgeon as cs
from convsurgeon.cli import app
from convsurgeon.codes import codes
from convsurgeon.errors import RefusedError
from convsurgeon.plan import FilePlan, LayerPlan
from tests.files import listing
from tests.traps.cases import PLAIN, Trap, claims, save

CONV = ("F32", (8, 3, 4, 4))
MATRIX = ("F32", (8, 6))
ROWS, SCALAR = ("F32", (8,)), ("F32", ())
W = "proj.weight"
LINEAR = {W: MATRIX, "proj.bias": ROWS}


def beside(
    *names: str, weight: tuple[str, tuple[int, ...]] = CONV
) -> dict[str, tuple[str, tuple[int, ...]]]:
    """A conv, its bias, and small tensors of these names in its module."""
    return {W: weight, "proj.bias": ROWS, **{f"proj.{name}": ROWS for name in names}}


TRAPS = {
    "MLX": Trap(
        "[out, k, k, in]: a reshape would mix positions with channels",
        {W: ("F32", (8, 4, 4, 3)), "proj.bias": ROWS},
        {W: ("refused", "CS009", "format mlx")},
        {"format": "mlx"},
    ),
    "Flax": Trap(
        "[k, k, in, out]: not even the first axis is the outputs",
        {W: ("F32", (4, 4, 3, 8))},
        {W: ("refused", "CS009", "format flax")},
        {"format": "flax"},
    ),
    "HWIO without metadata": Trap(
        "only the bias tells that the outputs are the last axis",
        {W: ("F32", (4, 4, 3, 8)), "proj.bias": ROWS},
        {W: ("refused", "CS019", "bias [8] beside a weight [4, 4, 3, 8]")},
    ),
    "MLX quantised, metadata lost": Trap(
        "eight 4-bit codes in each U32",
        {W: ("U32", (8, 4, 4, 1)), "proj.scales": ROWS, "proj.biases": ROWS},
        {W: ("refused", "CS010", "U32")},
    ),
    "GPT-2 Conv1D": Trap(
        "stored [in, out]; the square one among them does not show it by itself",
        {"h.0.attn.c_attn.weight": ("F32", (8, 24)), "h.0.attn.c_attn.bias": ("F32", (24,)),
         "h.0.attn.c_proj.weight": ("F32", (8, 8)), "h.0.attn.c_proj.bias": ROWS},
        {"h.0.attn.c_attn.weight": ("refused", "CS019", "rows are not the outputs"),
         "h.0.attn.c_proj.weight": ("refused", "CS015", "c_attn.weight is stored [in, out]")},
        to="conv", cured=LINEAR,
    ),
    "relative positions": Trap(
        "an embedding: it is looked up, no layer multiplies with it",
        {"a.relative_attention_bias.weight": ("F32", (32, 8)), "a.relative_position_bias_table": ("F32", (49, 8))},
        {"a.relative_attention_bias.weight": ("refused", "CS020", "table of positions")},
        to="conv", cured=LINEAR,
    ),
    "bitsandbytes 4-bit": Trap(
        "packed codes whose shape says nothing about the layer",
        {W: ("U8", (24, 1)), "proj.weight.absmax": ROWS, "proj.weight.quant_map": ROWS,
         "proj.weight.quant_state.bitsandbytes__nf4": ("U8", (8,))},
        {W: ("refused", "CS010", "U8")}, to="conv", cured=LINEAR,
    ),
    "bitsandbytes 4-bit, stored as BF16": Trap(
        "the dtype is a plain float, the elements are not",
        {W: ("BF16", (12, 1)), "proj.weight.absmax": ROWS, "proj.weight.quant_map": ROWS},
        {W: ("refused", "CS011", "proj.weight.absmax")}, to="conv", cured=LINEAR,
    ),
    "LLM.int8": Trap(
        "one scale per row, outside the weight",
        {W: ("I8", (8, 6)), "proj.SCB": ROWS, "proj.weight_format": ("U8", ())},
        {W: ("refused", "CS010", "I8")}, to="conv", cured=LINEAR,
    ),
    "LLM.int8, dequantised by halves": Trap(
        "the weight is a float again, its scale is still there",
        {W: ("F16", (8, 6)), "proj.SCB": ROWS},
        {W: ("refused", "CS011", "proj.SCB")}, to="conv", cured=LINEAR,
    ),
    "int8 with a scale": Trap(
        "codes", beside("weight_scale", weight=("I8", (8, 3, 4, 4))), {W: ("refused", "CS010", "I8")}
    ),
    "fp8 with block scales": Trap(
        "a block of the scale is a square of the matrix; after a permutation it covers others",
        beside("weight_scale_inv", weight=("F8_E4M3", (8, 3, 4, 4))),
        {W: ("refused", "CS011", "proj.weight_scale_inv")},
    ),
    "fp8 with one scale": Trap(
        "the stored numbers are not those that the layer multiplies with",
        beside("weight_scale", "input_scale", weight=("F8_E4M3", (8, 3, 4, 4))),
        {W: ("refused", "CS011", "scale")},
    ),
    "fp8 with the input's scale only": Trap(
        "the layer rounds its input first",
        beside("input_scale", weight=("F8_E4M3", (8, 3, 4, 4))),
        {W: ("refused", "CS011", "proj.input_scale")},
    ),
    "GPTQ and AWQ": Trap(
        "no tensor of them is called weight",
        {"proj.qweight": ("I32", (4, 8)), "proj.qzeros": ("I32", (1, 1)), "proj.scales": ("F16", (1, 8)), "proj.g_idx": ("I32", (32,))},
        {}, to="conv", cured=LINEAR,
    ),
    "compressed-tensors": Trap(
        "packed, its true shape in another tensor",
        {"proj.weight_packed": ("I32", (8, 3, 4, 1)), "proj.weight_shape": ("I64", (4,)), "proj.weight_scale": ROWS},
        {"proj.weight_packed": ("refused", "CS010", "weight_packed holds the codes")},
    ),
    "MXFP4": Trap(
        "two 4-bit floats in each byte, in blocks of 32 with one exponent",
        {"mlp.experts.gate_up_proj_blocks": ("U8", (4, 8, 2, 16)), "mlp.experts.gate_up_proj_scales": ("U8", (4, 8, 2))},
        {},
    ),
    "quanto": Trap(
        "a quantised conv under two names below the weight's own",
        {"proj.weight._data": ("I8", (8, 3, 4, 4)), "proj.weight._scale": ("F32", (8, 1, 1, 1)), "proj.input_scale": SCALAR},
        {"proj.weight._data": ("refused", "CS010", "proj.weight._data holds the codes")},
    ),
    "torchao, flattened": Trap(
        "a tensor subclass taken apart",
        {"proj._weight_qdata": ("F8_E4M3", (8, 3, 4, 4)), "proj._weight_scale": ROWS, "conv.weight:qdata": ("I8", (8, 3, 4, 4))},
        {"proj._weight_qdata": ("refused", "CS010", "_weight_qdata holds the codes"),
         "conv.weight:qdata": ("refused", "CS010", "weight:qdata holds the codes")},
    ),
    "simulated quantisation": Trap(
        "a quantiser rounds the weight in each forward",
        beside("_weight_quantizer._amax"), {W: ("refused", "CS011", "_amax")},
    ),
    "weight norm": Trap(
        "direction and length: the weight is their product",
        {"proj.weight_g": ("F32", (8, 1, 1, 1)), "proj.weight_v": CONV, "proj.bias": ROWS},
        {"proj.weight_v": ("refused", "CS008", "computes its weight")},
    ),
    "weight norm, as a parametrisation": Trap(
        "the same under newer names",
        {"proj.parametrizations.weight.original0": ("F32", (8, 1, 1, 1)), "proj.parametrizations.weight.original1": CONV},
        {"proj.parametrizations.weight.original0": ("refused", "CS008", "original0"),
         "proj.parametrizations.weight.original1": ("refused", "CS008", "original1")},
    ),
    "weight norm with a stale weight": Trap(
        "some exports keep the product as well; loading computes it anew",
        {**PLAIN, "proj.weight_g": ("F32", (8, 1, 1, 1)), "proj.weight_v": CONV},
        {W: ("refused", "CS008", "weight_g"), "proj.weight_v": ("refused", "CS008", "computes")},
    ),
    "spectral norm": Trap(
        "divided by its largest singular value in each forward",
        {"proj.weight_orig": CONV, "proj.weight_u": ROWS, "proj.weight_v": ("F32", (48,))},
        {"proj.weight_orig": ("refused", "CS008", "weight_orig")},
    ),
    "spectral norm, as a parametrisation": Trap(
        "the same under newer names",
        {"proj.parametrizations.weight.original": CONV, "proj.parametrizations.weight.0._u": ROWS,
         "proj.parametrizations.weight.0._v": ("F32", (48,))},
        {"proj.parametrizations.weight.original": ("refused", "CS008", "original")},
    ),
    "spectral norm of a GAN": Trap(
        "the weight has its plain name, its singular vectors stand beside it",
        beside("u0", "sv0"), {W: ("refused", "CS008", "proj.sv0")},
    ),
    "weight standardisation": Trap(
        "normalised in each forward, then times a gain of its own",
        {**PLAIN, "proj.gain": ("F32", (8, 1, 1, 1))}, {W: ("refused", "CS007", "proj.gain")},
    ),
    "modulated": Trap(
        "a network inside the layer changes its weight",
        {**PLAIN, "proj.modulation.weight": MATRIX}, {W: ("refused", "CS007", "proj.modulation.weight")},
    ),
    "ConvTranspose": Trap(
        "[in, out, k, k]; the bias has the outputs",
        {W: ("F32", (8, 4, 2, 2)), "proj.bias": ("F32", (4,))}, {W: ("refused", "CS019", "bias [4]")},
    ),
    "several kernels in one": Trap(
        "a dynamic conv mixes four kernels; its shape is that of a Conv3d",
        {W: ("F32", (4, 8, 3, 2, 2)), "proj.bias": ("F32", (4, 8))}, {W: ("refused", "CS019", "bias [4, 8]")},
    ),
    "LoRA of peft": Trap(
        "the adapter was made for a conv and is loaded by type and shape",
        {"proj.base_layer.weight": CONV, "proj.base_layer.bias": ROWS,
         "proj.lora_A.default.weight": ("F32", (2, 3, 4, 4)), "proj.lora_B.default.weight": ("F32", (8, 2, 1, 1))},
        {"proj.base_layer.weight": ("refused", "CS012", "proj.base_layer"),
         "proj.lora_A.default.weight": ("refused", "CS012", "lora_A"),
         "proj.lora_B.default.weight": ("refused", "CS012", "lora_B")},
    ),
    "LoRA beside the layer": Trap(
        "the base alone would be rewritten, and the sum of both no longer fits",
        {**PLAIN, "proj.lora_A.weight": ("F32", (2, 3, 4, 4)), "proj.lora_B.weight": ("F32", (8, 2, 1, 1))},
        {W: ("refused", "CS012", "proj.lora_A.weight"), "proj.lora_A.weight": ("refused", "CS012", "lora_A"),
         "proj.lora_B.weight": ("refused", "CS012", "lora_B")},
    ),
    "an adapter by itself": Trap(
        "exact, but its library would not load it",
        {"base_model.model.proj.lora_A.weight": ("F32", (2, 3, 4, 4))},
        {"base_model.model.proj.lora_A.weight": ("refused", "CS012", "adapter")},
    ),
    "an optimiser's moments": Trap(
        "averages of gradients under the names of the weights",
        {**PLAIN, "optimizer.exp_avg.proj.weight": CONV, "state.proj.exp_avg_sq": CONV},
        {W: ("eligible", None, "stride equals"), "optimizer.exp_avg.proj.weight": ("refused", "CS020", "optimiser")},
    ),
    "experts in a stack": Trap(
        "[experts, out, in] has the rank of a Conv1d",
        {"mlp.experts.fc1.weight": ("F32", (4, 8, 6)), "b.block_sparse_moe.experts.w1.weight": ("F32", (4, 8, 6)), "mlp.experts.gate_up_proj": ("F32", (4, 8, 6))},
        {"mlp.experts.fc1.weight": ("refused", "CS020", "4 experts"),
         "b.block_sparse_moe.experts.w1.weight": ("refused", "CS020", "4 experts")},
    ),
    "a table of positions": Trap(
        "a grid of vectors that is added",
        {"patch_embed.pos_emb.weight": ("F32", (4, 4, 8)), "pos_embed": ("F32", (1, 4, 8)), "cls_token": ("F32", (1, 1, 8))},
        {"patch_embed.pos_emb.weight": ("refused", "CS020", "table of positions")},
    ),
    "norms and gains with the rank of a conv": Trap(
        "a weight per channel, broadcast over an image",
        {"grn.weight": ("F32", (1, 1, 1, 8)), "grn.bias": ("F32", (1, 1, 1, 8)), "gamma": ("F32", (8, 1, 1)), "layer_scale_1": ("F32", (8, 1, 1)), "logit_scale": ("F32", (1, 1, 1))},
        {"grn.weight": ("refused", "CS019", "bias [1, 1, 1, 8]")},
    ),
    "integers": Trap("codes or indices", {W: ("I64", (8, 3, 4, 4))}, {W: ("refused", "CS010", "I64")}),
    "truth values": Trap("a mask", {W: ("BOOL", (8, 3, 4, 4))}, {W: ("refused", "CS010", "BOOL")}),
    "complex numbers": Trap("a spectrum", {W: ("C64", (8, 3, 4, 4))}, {W: ("refused", "CS010", "C64")}),
    "less than a byte": Trap("elements without an address", {W: ("F4", (8, 3, 4, 4))}, {W: ("refused", "CS010", "F4")}),
    "no elements": Trap("nothing to move or to prove", {W: ("F32", (0, 3, 4, 4))}, {W: ("refused", "CS018", "no elements")}),
}  # fmt: skip


def planned(folder: Path, trap: Trap, *, claimed: bool) -> FilePlan:
    path = save(folder / "model.safetensors", trap.tensors, trap.metadata)
    choices = claims(trap.tensors, trap.to) if claimed else {"to": trap.to}
    return cs.scan(path, **choices).files[0]


def refused(trap: Trap) -> list[str]:
    return [name for name, (verdict, _, _) in trap.answers.items() if verdict == "refused"]


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_the_answer_although_the_user_claims_the_contrary(trap: Trap, tmp_path: Path) -> None:
    layers = {layer.key: layer for layer in planned(tmp_path, trap, claimed=True).layers}
    assert set(layers) == set(trap.answers), trap.why
    for name, (verdict, code, words) in trap.answers.items():
        found = layers[name]
        assert (found.verdict.value, found.code) == (verdict, code), trap.why
        assert words in found.reason
        assert (found.rewrite is not None) is (verdict == "eligible")


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_without_evidence_nothing_is_eligible(trap: Trap, tmp_path: Path) -> None:
    layers: tuple[LayerPlan, ...] = planned(tmp_path, trap, claimed=False).layers
    assert {layer.verdict.value for layer in layers} <= {"refused", "undecided"}


@pytest.mark.parametrize("trap", TRAPS.values(), ids=TRAPS)
def test_without_the_trap_the_same_claims_are_believed(trap: Trap, tmp_path: Path) -> None:
    path = save(tmp_path / "model.safetensors", trap.cured)
    layers = cs.scan(path, **claims(trap.cured, trap.to)).files[0].layers
    assert [layer.verdict.value for layer in layers] == ["eligible"]


@pytest.mark.parametrize("name", [name for name, trap in TRAPS.items() if refused(trap)])
def test_swap_moves_nothing_of_it(name: str, tmp_path: Path) -> None:
    trap = TRAPS[name]
    path = save(tmp_path / "model.safetensors", trap.tensors, trap.metadata)
    choices = claims(trap.tensors, trap.to)
    if refused(trap) == list(trap.answers):
        with pytest.raises(RefusedError) as caught:
            cs.swap(path, verify="bits", **choices)
        assert caught.value.code == "CS080"
        assert listing(tmp_path) == ["model.safetensors"]
    else:
        report = cs.swap(path, verify="bits", **choices)
        moved = {layer.key for layer in report.files[0].plan.rewrites}
        assert moved == set(trap.answers) - set(refused(trap))


CODES = sorted({code for trap in TRAPS.values() for _, code, _ in trap.answers.values() if code})


@pytest.mark.parametrize("code", CODES)
def test_explain_gives_the_way_out_of_each(code: str) -> None:
    shown = CliRunner().invoke(app, ["explain", code])
    assert shown.exit_code == 0
    assert f"What to do: {codes()[code].way_out}" in shown.output


def test_every_row_says_why() -> None:
    assert [name for name, trap in TRAPS.items() if not trap.why] == []
    assert len({trap.why for trap in TRAPS.values()}) > len(TRAPS) - 4
