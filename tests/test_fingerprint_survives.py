"""What users do to a checkpoint and the inference from its header survives, on real headers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import convsurgeon as cs
from tests.census_rows import NAMES, Change, Tensors, eligible, sparse, tensors
from tests.files import index_of

Name = tuple[str, str]

# Their very names and shapes are those of another architecture too, whose convs are standardised.
UNCLEAR = {("timm", "resnetv2_50")}
CLEAR = sorted(NAMES - UNCLEAR)
WITH_LAYERS = [name for name in CLEAR if eligible(*name)]
BLOCKS = {
    ("timm", "vit_base_patch16_224"): ("blocks.", 12),
    ("timm", "beit_base_patch16_224"): ("blocks.", 12),
    ("timm", "mixer_s16_224"): ("blocks.", 8),
    ("timm", "swin_tiny_patch4_window7_224"): ("layers.2.blocks.", 6),
    ("timm", "convnext_atto"): ("stages.2.blocks.", 6),
    ("timm", "resnet50"): ("layer3.", 6),
    ("torchvision", "vit_b_16"): ("encoder.layers.encoder_layer_", 12),
    ("torchvision", "swin_t"): ("features.5.", 6),
    ("open_clip", "ViT-B-32"): ("visual.transformer.resblocks.", 12),
    ("transformers", "clip.CLIPModel"): ("vision_model.encoder.layers.", 12),
    ("transformers", "vit.ViTForImageClassification"): ("vit.encoder.layer.", 12),
    ("transformers", "segformer.SegformerModel"): ("encoder.block.2.", 2),
    ("transformers", "convnext.ConvNextModel"): ("encoder.stages.2.layers.", 9),
    ("diffusers", "DiTTransformer2DModel"): ("transformer_blocks.", 28),
    ("diffusers", "SD3Transformer2DModel"): ("transformer_blocks.", 18),
}
HEADS = {
    ("timm", "vit_base_patch16_224"): "head",
    ("timm", "resnet50"): "fc",
    ("timm", "deit_tiny_distilled_patch16_224"): "head",
    ("timm", "pvt_v2_b0"): "head",
    ("torchvision", "vit_b_16"): "heads",
    ("torchvision", "swin_t"): "head",
    ("transformers", "vit.ViTForImageClassification"): "classifier",
}
WIDTHS = {
    ("timm", "vit_base_patch16_224"): 768,
    ("timm", "mixer_s16_224"): 256,
    ("timm", "convnext_atto"): 40,
    ("timm", "resnet50"): 64,
    ("timm", "pvt_v2_b0"): 32,
    ("torchvision", "convnext_tiny"): 96,
    ("open_clip", "ViT-B-32"): 64,
    ("transformers", "clip.CLIPModel"): 64,
    ("transformers", "segformer.SegformerModel"): 32,
    ("diffusers", "DiTTransformer2DModel"): 72,
}


def ids(name: Name) -> str:
    return " ".join(name)


def called(folder: Path, made: Tensors) -> set[str]:
    """What is called eligible, all of it by inference."""
    (file,) = cs.scan(sparse(folder / "model.safetensors", made)).files
    assert {layer.evidence[0] for layer in file.rewrites if layer.evidence} <= {"fingerprint"}
    return {layer.key for layer in file.rewrites}


@pytest.mark.parametrize("name", CLEAR, ids=ids)
def test_as_published(name: Name, tmp_path: Path) -> None:
    assert called(tmp_path, tensors(*name)) == eligible(*name)


@pytest.mark.parametrize("name", sorted(UNCLEAR), ids=ids)
def test_names_of_two_architectures_are_decided_where_both_agree_only(
    name: Name, tmp_path: Path
) -> None:
    found = called(tmp_path, tensors(*name))
    assert found < eligible(*name)


# --- changes


def prefixed(prefix: str) -> Change:
    return lambda made: {f"{prefix}{key}": tensor for key, tensor in made.items()}


def in_dtype(dtype: str) -> Change:
    def change(made: Tensors) -> Tensors:
        return {key: (dtype if d == "F32" else d, shape) for key, (d, shape) in made.items()}

    return change


def with_copies(made: Tensors) -> Tensors:
    return {**made, **prefixed("ema.")(made)}


def with_adapters(made: Tensors) -> Tensors:
    """What peft makes of every matrix, and what others put beside it."""
    changed: dict[str, tuple[str, tuple[int, ...]]] = {}
    for key, (dtype, shape) in made.items():
        module, _, last = key.rpartition(".")
        if len(shape) != 2 or last != "weight":
            changed[key] = dtype, shape
            continue
        changed[f"{module}.base_layer.weight"] = dtype, shape
        changed[f"{module}.lora_A.default.weight"] = dtype, (4, shape[1])
        changed[f"{module}.lora_B.default.weight"] = dtype, (shape[0], 4)
        changed[f"{module}.alpha"] = "F32", ()
    return changed


def with_counters(made: Tensors) -> Tensors:
    """Buffers that some versions of a library save."""
    more = {
        "position_ids": ("I64", (1, 7)),
        "step": ("I64", ()),
        "a.relative_position_index": ("I64", (9, 9)),
    }
    return {**made, **more}


def in_another_order(made: Tensors) -> Tensors:
    return dict(reversed(list(made.items())))


CHANGES: Mapping[str, Change] = {
    **{
        prefix: prefixed(prefix)
        for prefix in ("module.", "_orig_mod.", "model.", "backbone.", "module.model.", "a.b.c.d.")
    },
    **{dtype: in_dtype(dtype) for dtype in ("F16", "BF16", "F64")},
    "adapters": with_adapters,
    "counters": with_counters,
    "another order": in_another_order,
}


@pytest.mark.parametrize("change", CHANGES)
def test_it_survives(change: str, tmp_path: Path) -> None:
    prefix = change if change.endswith(".") else ""
    for name in CLEAR:
        wanted = {prefix + key for key in eligible(*name)}
        assert called(tmp_path, CHANGES[change](tensors(*name))) == wanted, name


def test_averages_beside_the_weights_are_the_same_layers(tmp_path: Path) -> None:
    for name in CLEAR:
        keys = eligible(*name)
        wanted = keys | {f"ema.{key}" for key in keys}
        made = with_copies(tensors(*name))
        assert called(tmp_path, made) == wanted, name
        below = {f"model.{key}" for key in wanted}
        assert called(tmp_path, prefixed("model.")(made)) == below, name


@pytest.mark.parametrize("count", [1, 3, 40])
@pytest.mark.parametrize("name", BLOCKS, ids=ids)
def test_another_depth(name: Name, count: int, tmp_path: Path) -> None:
    """As many blocks as wanted, each like the second of the original."""
    start, blocks = BLOCKS[name]
    made = dict(tensors(*name))
    one = {key.removeprefix(f"{start}1."): key for key in made if key.startswith(f"{start}1.")}
    for number in range(2, max(count, blocks)):
        for rest, key in one.items():
            made.pop(f"{start}{number}.{rest}", None)
            if number < count:
                made[f"{start}{number}.{rest}"] = made[key]
    wanted = {key for key in eligible(*name) if key in made}
    pattern = [key for key in wanted if key.startswith(f"{start}1.")]
    wanted |= {
        key.replace(f"{start}1.", f"{start}{n}.") for key in pattern for n in range(2, count)
    }
    found = called(tmp_path, made)
    assert found <= wanted
    patches = {key for key in wanted if max(made[key][1][2:]) > 1}
    assert {key for key in found if max(made[key][1][2:]) > 1} == patches


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("name", WIDTHS, ids=ids)
def test_another_width(name: Name, factor: int, tmp_path: Path) -> None:
    width = WIDTHS[name]
    made = {
        key: (
            dtype,
            tuple(size if size % width else size * factor for size in shape[:2]) + shape[2:],
        )
        for key, (dtype, shape) in tensors(*name).items()
    }
    assert made != tensors(*name)
    assert called(tmp_path, made) == eligible(*name)


def without(made: Tensors, module: str) -> Tensors:
    return {key: tensor for key, tensor in made.items() if not key.startswith(f"{module}.")}


@pytest.mark.parametrize("name", HEADS, ids=ids)
def test_another_head(name: Name, tmp_path: Path) -> None:
    head = HEADS[name]
    made, f32 = tensors(*name), "F32"
    body = without(made, head)
    assert len(body) < len(made)
    heads: list[Tensors] = [
        {key: (d, (7, *shape[1:])) for key, (d, shape) in made.items() if key not in body},
        {},
        {f"{head}.0.weight": (f32, (9, 9)), f"{head}.2.weight": (f32, (2, 9))},
        {f"{head}.norm.weight": (f32, (9,)), "logits.weight": (f32, (2, 9))},
    ]
    for other in heads:
        assert called(tmp_path, {**body, **other}) == eligible(*name)
    stranger: Tensors = {"my_new_thing.weight": (f32, (2, 9))}
    whole = called(tmp_path, {**body, **stranger})
    assert whole <= eligible(*name)


@pytest.mark.parametrize(
    "name",
    [("timm", "vit_base_patch16_224"), ("torchvision", "vit_b_16"), ("open_clip", "ViT-B-32")],
    ids=ids,
)
def test_another_image_size(name: Name, tmp_path: Path) -> None:
    made = dict(tensors(*name))
    key = next(
        k for k in made if k.endswith(("pos_embed", "pos_embedding", "positional_embedding"))
    )
    dtype, shape = made[key]
    made[key] = dtype, (*shape[:-2], shape[-2] * 4 + 1, shape[-1])
    assert called(tmp_path, made) == eligible(*name)


PAIRS = [
    (
        "vision.",
        ("timm", "vit_base_patch16_224"),
        "text.",
        ("transformers", "vit.ViTForImageClassification"),
    ),
    ("a.", ("timm", "resnet50"), "b.", ("timm", "resnet50")),
    ("unet.", ("diffusers", "DiTTransformer2DModel"), "vae.", ("diffusers", "AutoencoderKL")),
    ("student.", ("timm", "pvt_v2_b0"), "teacher.", ("torchvision", "convnext_tiny")),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]} {pair[2]}")
def test_two_models_in_one_file(pair: tuple[str, Name, str, Name], tmp_path: Path) -> None:
    first, one, second, other = pair
    made = {**prefixed(first)(tensors(*one)), **prefixed(second)(tensors(*other))}
    wanted = {first + key for key in eligible(*one)} | {second + key for key in eligible(*other)}
    assert called(tmp_path, made) == wanted


@pytest.mark.parametrize("name", [("timm", "vit_base_patch16_224"), ("timm", "resnet50")], ids=ids)
def test_shards_are_one_checkpoint(name: Name, tmp_path: Path) -> None:
    made = tensors(*name)
    keys = list(made)
    halves = keys[::2], keys[1::2]
    for number, half in enumerate(halves):
        sparse(tmp_path / f"model-{number}.safetensors", {key: made[key] for key in half})
    weight_map = {key: f"model-{n}.safetensors" for n, half in enumerate(halves) for key in half}
    (file,) = cs.scan(index_of(tmp_path, weight_map)).files
    assert {layer.key for layer in file.rewrites} == eligible(*name)
    alone = cs.scan(tmp_path / "model-0.safetensors").files[0]
    assert {layer.key for layer in alone.rewrites} == set()


def test_a_swapped_file_is_recognised_by_what_it_was(tmp_path: Path) -> None:
    made = tensors("timm", "pvt_v2_b0")
    path = sparse(tmp_path / "model.safetensors", made)
    wanted = eligible("timm", "pvt_v2_b0")
    first = min(wanted)
    swapped = tmp_path / "swapped.safetensors"
    cs.swap(path, swapped, layers=[first.removesuffix(".weight")], verify="bits")
    (file,) = cs.scan(swapped).files
    assert {layer.key for layer in file.rewrites} == wanted - {first}
    assert {layer.key: layer.verdict.value for layer in file.layers}[first] == "already"
