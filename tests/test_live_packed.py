"""Linears that are none for a convolution: transposed, quantised, packed. Real libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import convsurgeon as cs
from tests.live_cases import POINTWISE, TO_CONV, refusal, rows

every_way = pytest.mark.parametrize("options", POINTWISE.values(), ids=POINTWISE)


def gpt2() -> Any:
    transformers = pytest.importorskip("transformers")
    ends = {"bos_token_id": 0, "eos_token_id": 1}
    config = transformers.GPT2Config(
        n_embd=16, n_layer=1, n_head=2, vocab_size=20, n_positions=8, **ends
    )
    torch.manual_seed(0)
    return transformers.GPT2LMHeadModel(config).eval()


@every_way
@pytest.mark.parametrize("sizes", [(4, 4), (4, 6)])
def test_transposed_layers_of_gpt2(options: dict[str, Any], sizes: tuple[int, int]) -> None:
    utils = pytest.importorskip("transformers.pytorch_utils")
    code, reason = refusal(nn.Sequential(utils.Conv1D(*sizes)), **options)
    assert (code, reason) == (
        "CS015",
        "the matrix of a module of class Conv1D, not of an nn.Linear",
    )


def test_gpt2_as_a_whole() -> None:
    model = gpt2()
    plan = rows(cs.swap_module(model, **TO_CONV))
    assert {name: row.code for name, row in plan.items()} == {
        "lm_head": "CS016",
        **dict.fromkeys((f"transformer.h.0.{n}" for n in ("attn.c_attn", "attn.c_proj")), "CS015"),
        **dict.fromkeys((f"transformer.h.0.{n}" for n in ("mlp.c_fc", "mlp.c_proj")), "CS015"),
        "transformer.wpe": "CS015",
        "transformer.wte": "CS015",
    }
    ids = torch.tensor([[2, 3, 4]])
    want = model(input_ids=ids).logits
    assert rows(cs.swap_module(model, **TO_CONV, untie=True))["lm_head"].rewrite
    assert torch.allclose(model(input_ids=ids).logits, want, atol=1e-5)
    cs.restore_module(model)
    assert model.lm_head.weight is not model.transformer.wte.weight
    model.tie_weights()
    assert model.lm_head.weight is model.transformer.wte.weight
    assert rows(cs.swap_module(gpt2(), **TO_CONV, channels_first=True))["lm_head"].code == "CS016"


def test_a_file_of_gpt2(tmp_path: Path) -> None:
    """Rectangular ones show by their bias, the square one by those beside it; a model knows all."""
    state = {n: t for n, t in gpt2().state_dict().items() if n != "lm_head.weight"}
    save_file(state, tmp_path / "model.safetensors")
    choices: dict[str, Any] = {**TO_CONV, "layers": ["*.c_*"]}
    (plan,) = cs.scan(tmp_path / "model.safetensors", **choices).files
    found = {row.module.rpartition(".h.0.")[2]: row.code for row in plan.layers if ".c_" in row.key}
    assert found == {
        "attn.c_attn": "CS019",
        "attn.c_proj": "CS015",
        "mlp.c_fc": "CS019",
        "mlp.c_proj": "CS019",
    }


def packed(dtype: torch.dtype, *shape: int) -> nn.Linear:
    layer = nn.Linear(4, 8)
    layer.weight = nn.Parameter(torch.zeros(shape, dtype=dtype), requires_grad=False)
    return layer


@every_way
@pytest.mark.parametrize(
    ("layer", "code"),
    [
        (packed(torch.int8, 8, 4), "CS010"),
        (packed(torch.uint8, 16, 1), "CS010"),  # two 4-bit numbers in each byte
        (packed(torch.float32, 32, 1), "CS023"),
    ],
    ids=["int8", "4 bits", "packed"],
)
def test_packed_weights(options: dict[str, Any], layer: nn.Linear, code: str) -> None:
    assert refusal(nn.Sequential(layer), **options)[0] == code


@every_way
def test_weights_of_torchao(options: dict[str, Any]) -> None:
    quantization = pytest.importorskip("torchao.quantization")
    configs = [
        quantization.Int8WeightOnlyConfig(),
        quantization.IntxWeightOnlyConfig(weight_dtype=vars(torch)["int4"]),
    ]
    for config in configs:
        model = nn.Sequential(nn.Linear(32, 32))
        quantization.quantize_(model, config)
        code, reason = refusal(model, **options)
        assert code == "CS023"
        assert "no plain tensor" in reason


@every_way
@pytest.mark.parametrize("bits", ["qint8", "qint4"])
def test_weights_of_quanto(options: dict[str, Any], bits: str) -> None:
    quanto = pytest.importorskip("optimum.quanto")
    model = nn.Sequential(nn.Linear(128, 128))
    quanto.quantize(model, weights=getattr(quanto, bits))
    assert refusal(model, **options)[0] == "CS007"
    quanto.freeze(model)
    assert refusal(model, **options)[0] == "CS007"
