"""Whole transformers in convolutions of one position: DistilBERT and ViT, rows and channel-first."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.nn import ChannelNorm, FlatConv2d, SplitConv
from tests.live_cases import TO_CONV, contents, rows, same_tree
from tests.transformers_cases import quieten, transformers

MEMORY: dict[str, Any] = {**TO_CONV, "channels_first": "memory"}
SIZES = {"initializer_range": 0.3}
TEXT = {"vocab_size": 50, "max_position_embeddings": 8, "dim": 16, "hidden_dim": 24, "n_layers": 2}
IMAGE = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 24, "image_size": 32}
LINEARS = {"DistilBert": 2 * 6 + 2, "ViT": 2 * 6 + 1}
every_model = pytest.mark.parametrize("name", LINEARS)


def build(name: str) -> Any:
    torch.manual_seed(0)
    if name == "ViT":
        config = transformers.ViTConfig(**IMAGE, **SIZES, num_attention_heads=2, patch_size=8)
        return transformers.ViTForImageClassification(config).double().eval()
    config = transformers.DistilBertConfig(**TEXT, **SIZES, n_heads=2)
    return transformers.DistilBertForSequenceClassification(config).double().eval()


def inputs(name: str) -> dict[str, Tensor]:
    if name == "ViT":
        generator = torch.Generator().manual_seed(1)
        return {"pixel_values": torch.randn(2, 3, 32, 32, dtype=torch.float64, generator=generator)}
    ids = torch.tensor([[3, 4, 5, 6, 7, 8], [6, 7, 8, 1, 0, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).long()}


@torch.no_grad()
def logits(name: str, model: Any) -> Tensor:
    out: Tensor = model(**inputs(name)).logits
    return out


@every_model
@pytest.mark.parametrize("options", [TO_CONV, MEMORY], ids=["rows", "memory"])
def test_converted_whole_it_computes_the_same_function(name: str, options: dict[str, Any]) -> None:
    plain = build(name)
    model = deepcopy(plain)
    (plan,) = cs.swap_module(model, **options).files
    assert len(plan.rewrites) == LINEARS[name]
    assert not [one for one in model.modules() if isinstance(one, nn.Linear)]
    # Of sums of at most 24 products in each of 14 layers, whose logits are of size 1.
    assert float((logits(name, model) - logits(name, plain)).abs().max()) < 1e-13
    shapes = {n: tuple(t.shape) for n, t in model.state_dict().items()}
    turned = {row.key: (*row.weight_shape, 1, 1) for row in plan.rewrites}
    assert shapes == {n: tuple(t.shape) for n, t in plain.state_dict().items()} | turned
    assert list(shapes) == list(plain.state_dict())
    assert cs.restore_module(model).refused == ()
    assert contents(model) == contents(plain)
    assert same_tree(model, plain)
    assert torch.equal(logits(name, model), logits(name, plain))


# What takes rows that the library lays out: of the embedding, of the heads put together, of the
# first word.
LAID_OUT = ("LayerNorm", "0.layernorm_before", "out_lin", "o_proj", "pre_classifier", "classifier")


@every_model
def test_between_the_layers_memory_is_channel_first(name: str) -> None:
    model = build(name)
    cs.swap_module(model, **MEMORY)
    seen: dict[str, tuple[bool, bool]] = {}

    def note(layer: str) -> Any:
        def hook(_module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            seen[layer] = (first(given[0]), first(out))

        return hook

    def first(x: Tensor) -> bool:
        return x.dim() == 3 and x.mT.is_contiguous() and not x.is_contiguous()

    for path, module in model.named_modules():
        if isinstance(module, (FlatConv2d, ChannelNorm)):
            module.register_forward_hook(note(path))
    logits(name, model)
    assert len(seen) == LINEARS[name] + 5
    assert {path for path, (given, _) in seen.items() if not given} == {
        path for path in seen if path.endswith(LAID_OUT)
    }
    assert [path for path, (_, out) in seen.items() if not out] == [
        path for path in seen if path.endswith("classifier")
    ]


@every_model
def test_maps_are_not_what_its_code_gives(name: str) -> None:
    """A model whose own code has rows says so at the first layer, whatever the sizes."""
    model = build(name)
    assert cs.swap_module(model, **TO_CONV, channels_first=True).files[0].rewrites
    with pytest.raises(RuntimeError, match="expected 16 channels before 2 axes of positions"):
        logits(name, model)
    cs.restore_module(model)
    assert contents(model) == contents(build(name))


def attend(layers: list[Any], x: Tensor, mask: Tensor) -> Tensor:
    """Attend over maps `[B, D, 1, S]`: heads are ranges of channels, and stay before positions."""
    q, k, v = (layer(x).squeeze(2).unflatten(1, (2, -1)) for layer in layers)
    scores = torch.einsum("bhds,bhdt->bhst", q, k) * q.shape[2] ** -0.5 + mask
    return torch.einsum("bhst,bhdt->bhds", scores.softmax(-1), v).flatten(1, 2).unsqueeze(2)


def distilbert(model: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """What the library computes between embedding and head, with the channels first throughout."""
    x = model.distilbert.embeddings(input_ids).mT.unsqueeze(2)
    mask = (1.0 - attention_mask[:, None, None].double()) * -1e300
    for block in model.distilbert.transformer.layer:
        a = block.attention
        x = block.sa_layer_norm(a.out_lin(attend([a.q_lin, a.k_lin, a.v_lin], x, mask)) + x)
        f = block.ffn
        x = block.output_layer_norm(f.lin2(f.activation(f.lin1(x))) + x)
    out: Tensor = model.classifier(torch.relu(model.pre_classifier(x[:, :, 0, 0])))
    return out


def vit(model: Any, pixel_values: Tensor) -> Tensor:
    """The same of a ViT, whose norms stand before the layers."""
    x = model.vit.embeddings(pixel_values).mT.unsqueeze(2)
    for block in model.vit.layers:
        a, y = block.attention, block.layernorm_before(x)
        x = a.o_proj(attend([a.q_proj, a.k_proj, a.v_proj], y, torch.zeros(()))) + x
        m = block.mlp
        x = m.fc2(m.activation_fn(m.fc1(block.layernorm_after(x)))) + x
    out: Tensor = model.classifier(model.vit.layernorm(x)[:, :, 0, 0])
    return out


@every_model
@torch.no_grad()
def test_its_layers_compute_the_same_function_with_the_channels_first(name: str) -> None:
    """The axes too, in a forward of a few lines over the very modules of the library's model."""
    plain, model = build(name), build(name)
    inside = (".layer.", ".layers.", "vit.layernorm")
    where: Any = lambda path, _: any(part in path for part in inside)  # noqa: E731 - a keyword
    (plan,) = cs.swap_module(model, **TO_CONV, channels_first=True, where=where).files
    assert len(plan.rewrites) == 12
    turned: list[bool] = []
    for module in model.modules():
        if isinstance(module, (FlatConv2d, ChannelNorm)):
            assert module.input == "map"
            module.register_forward_hook(
                lambda _m, given, out: turned.extend(t.shape[2] == 1 for t in (*given, out))
            )
    forward: Any = {"DistilBert": distilbert, "ViT": vit}[name]
    got = forward(model, **inputs(name))
    assert float((got - logits(name, plain)).abs().max()) < 1e-13
    assert turned == [True] * 2 * (12 + (4 if name == "DistilBert" else 5))
    assert list(model.state_dict()) == list(plain.state_dict())
    cs.restore_module(model)
    assert contents(model) == contents(plain)


@every_model
@pytest.mark.parametrize("options", [TO_CONV, MEMORY], ids=["rows", "memory"])
def test_the_file_holds_what_the_model_does_and_loads_into_it(
    name: str, options: dict[str, Any], tmp_path: Path
) -> None:
    quieten()
    plain, model = build(name), build(name)
    plain.save_pretrained(tmp_path / "plain")
    linears = [n for n, one in plain.named_modules() if isinstance(one, nn.Linear)]
    # ViT's file has other names than its modules; the model behind them is the evidence.
    cs.swap(tmp_path / "plain", tmp_path / "conv", **TO_CONV, evidence="model")
    (path,) = (tmp_path / "conv").glob("*.safetensors")
    assert sum(t.dim() == 4 for t in load_file(path).values()) >= len(linears)
    cs.swap_module(model, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    cs.load(model, tmp_path / "conv")
    swapped = build(name)
    cs.swap_module(swapped, **options)
    assert contents(model) == contents(swapped)
    cs.restore_module(model)
    assert contents(model) == contents(plain)
    loaded = build(name)
    cs.load(loaded, tmp_path / "conv")
    assert torch.equal(logits(name, loaded), logits(name, converted(name)))


def converted(name: str) -> Any:
    model = build(name)
    cs.swap_module(model, **TO_CONV)
    return model


def test_the_head_of_a_language_model_in_parts() -> None:
    config = transformers.DistilBertConfig(**TEXT, **SIZES, n_heads=2, tie_word_embeddings=False)
    torch.manual_seed(0)
    plain = transformers.DistilBertForMaskedLM(config).double().eval()
    model = deepcopy(plain)
    plan = rows(cs.swap_module(model, **MEMORY, max_channels=24))
    assert plan["vocab_projector"].reason.endswith("cut into 3 parts of at most 24 outputs")
    assert isinstance(model.vocab_projector, SplitConv)
    assert [p.out_channels for p in model.vocab_projector.convs] == [24, 24, 2]
    name = "DistilBert"
    assert float((logits(name, model) - logits(name, plain)).abs().max()) < 1e-13
    cs.restore_module(model)
    assert contents(model) == contents(plain)
