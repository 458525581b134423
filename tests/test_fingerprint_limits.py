"""What an inference from a header cannot see, where it stays silent, and what it is called."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from convsurgeon.plan import FilePlan, LayerPlan
from convsurgeon.report.markdown import as_markdown
from tests.census_rows import Tensors, eligible, row, sparse, tensors
from tests.cli_helpers import invoke

VIT = ("timm", "vit_base_patch16_224")
HF_VIT = ("transformers", "vit.ViTForImageClassification")
PATCH = "patch_embed.proj.weight"
HF_PATCH = "vit.embeddings.patch_embeddings.projection.weight"
F32 = "F32"


def scanned(
    folder: Path, made: Tensors, config: dict[str, Any] | None = None, **choices: Any
) -> FilePlan:
    beside = folder / "config.json"
    beside.unlink(missing_ok=True)
    if config is not None:
        beside.write_text(json.dumps(config))
    (file,) = cs.scan(sparse(folder / "model.safetensors", made), **choices).files
    return file


def layer(file: FilePlan, key: str) -> LayerPlan:
    return next(layer for layer in file.layers if layer.key == key)


def vit(**changed: tuple[int, ...] | None) -> Tensors:
    """The tensors of a ViT; a name with `__` for each dot changes, or is taken out."""
    made = dict(tensors(*VIT))
    for name, shape in changed.items():
        key = name.replace("__", ".")
        made.pop(key, None)
        if shape is not None:
            made[key] = F32, shape
    return made


def details(found: LayerPlan) -> tuple[str, ...]:
    """What the one source says that was heard: the inference."""
    (heard,) = found.heard or ()
    assert heard.statement.level.label == "fingerprint"
    return heard.statement.details


def level(file: FilePlan, key: str) -> str:
    evidence = layer(file, key).evidence
    return evidence[0] if evidence else "none"


# --- the limit


def test_a_fork_with_a_lower_stride_has_the_same_header(tmp_path: Path) -> None:
    """The limit of the method: such a fork is called eligible, on the evidence of its relatives.

    Its patches overlap, and its table of positions is longer, as that of a larger image is.
    Only a statement helps: a model, a config, the user.
    """
    fork = vit(pos_embed=(1, 28 * 28 + 1, 768))
    found = layer(scanned(tmp_path, fork), PATCH)
    assert found.verdict.value == "eligible"
    assert found.evidence is not None
    assert found.evidence[0] == "fingerprint"
    said = scanned(tmp_path, fork, geometry=["patch_embed.proj=k16,s8"])
    assert (layer(said, PATCH).verdict.value, layer(said, PATCH).code) == ("refused", "CS001")
    strict = layer(scanned(tmp_path, fork, require_evidence="config"), PATCH)
    assert (strict.verdict.value, strict.code) == ("refused", "CS017")


@pytest.mark.parametrize(
    ("name", "key"),
    [
        (("transformers", "vitpose_backbone.VitPoseBackbone"), "embeddings.patch_embeddings.projection.weight"),
        (("timm", "resnet50"), "layer2.0.downsample.0.weight"),
        (("timm", "resnet50"), "conv1.weight"),
        (("timm", "convnext_atto"), "stages.0.blocks.0.conv_dw.weight"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[1],
)  # fmt: skip
def test_relatives_that_overlap_or_pad_are_refused(
    name: tuple[str, str], key: str, tmp_path: Path
) -> None:
    found = layer(scanned(tmp_path, tensors(*name)), key)
    assert found.verdict.value == "refused"
    assert key not in eligible(*name)


def test_names_of_patches_that_overlap_and_that_do_not_are_undecided(tmp_path: Path) -> None:
    """Spectrogram patches of 16 at every tenth place have the names of a distilled DeiT's."""
    found = scanned(tmp_path, tensors("transformers", "audio_spectrogram_transformer.ASTModel"))
    assert [layer.verdict.value for layer in found.layers] == ["undecided"]


def test_without_its_class_token_it_is_known_as_what_has_none(tmp_path: Path) -> None:
    made = {key: t for key, t in tensors(*HF_VIT).items() if not key.endswith("cls_token")}
    (found,) = scanned(tmp_path, made, explain=["*"]).layers
    (line,) = details(found)
    assert line.count("transformers ijepa.IJepa") == 2
    assert "vit.ViT" not in line
    (whole,) = scanned(tmp_path, tensors(*HF_VIT), explain=["*"]).layers
    assert "vit.ViT" in details(whole)[0]


# --- silence


FORKS = {
    "a norm is gone": vit(norm__weight=None),
    "a conv more": vit(blocks__0__conv__weight=(768, 768, 3, 3)),
    "a bias less": vit(patch_embed__proj__bias=None),
    "a kernel of time": vit(patch_embed__proj__weight=(768, 3, 2, 16, 16)),
    "another name": {k.replace("blocks.", "layers."): t for k, t in vit().items()},
    "a star": {k.replace("blocks.3.", "blocks.*."): t for k, t in vit().items()},
    "a line end in a name": {**vit(), "a\nb": (F32, (1,))},
    "a name without end": {**vit(), "a." * 20_000 + "b": (F32, (1,))},
}


@pytest.mark.parametrize("fork", FORKS)
def test_an_unknown_body_is_undecided(fork: str, tmp_path: Path) -> None:
    found = layer(scanned(tmp_path, FORKS[fork]), PATCH)
    assert (found.verdict.value, found.evidence) == ("undecided", None)
    assert layer(scanned(tmp_path, vit()), PATCH).verdict.value == "eligible"


def replaced(name: tuple[str, str], key: str, shape: tuple[int, ...], bias: int = 0) -> Tensors:
    made = dict(tensors(*name))
    assert key in made
    made[key] = made[key][0], shape
    beside = f"{key.removesuffix('weight')}bias"
    if bias:
        made[beside] = made[beside][0], (bias,)
    return made


PVT = ("timm", "pvt_v2_b0")
NEXT = ("timm", "convnext_atto")
SHAPES = {
    "downsampling in two groups": (NEXT, replaced(NEXT, "stages.1.downsample.1.weight", (80, 20, 2, 2)), "stages.1.downsample.1.weight"),
    "downsampling by channel": (NEXT, replaced(NEXT, "stages.1.downsample.1.weight", (80, 1, 2, 2)), "stages.1.downsample.1.weight"),
    "shorter attention by channel": (PVT, replaced(PVT, "stages.0.blocks.0.attn.sr.weight", (32, 1, 8, 8)), "stages.0.blocks.0.attn.sr.weight"),
    "a 1x1 in two groups": (("timm", "resnet50"), replaced(("timm", "resnet50"), "layer1.0.conv3.weight", (256, 32, 1, 1)), "layer1.0.conv3.weight"),
    "a transposed conv, in and out swapped": (NEXT, replaced(NEXT, "stages.1.downsample.1.weight", (40, 80, 2, 2), 80), "stages.1.downsample.1.weight"),
    "a kernel that nobody has there": (NEXT, replaced(NEXT, "stages.1.downsample.1.weight", (80, 40, 5, 5)), "stages.1.downsample.1.weight"),
}  # fmt: skip


@pytest.mark.parametrize("fork", SHAPES)
def test_a_shape_that_speaks_against_it(fork: str, tmp_path: Path) -> None:
    name, made, key = SHAPES[fork]
    found = layer(scanned(tmp_path, made), key)
    assert found.verdict.value in {"undecided", "refused"}
    assert found.evidence is None or found.code
    assert layer(scanned(tmp_path, tensors(*name)), key).verdict.value == "eligible"


def test_a_transposed_weight_is_seen_by_its_bias(tmp_path: Path) -> None:
    made = vit(patch_embed__proj__weight=(3, 768, 16, 16))
    found = layer(scanned(tmp_path, made), PATCH)
    assert (found.verdict.value, found.code) == ("refused", "CS019")


# --- statements against it


def test_a_user_who_disagrees_is_believed_with_a_warning(tmp_path: Path) -> None:
    file = scanned(tmp_path, vit(), geometry=["patch_embed.proj=k16,s8"])
    found = layer(file, PATCH)
    assert (found.verdict.value, level(file, PATCH)) == ("refused", "user")
    (warning,) = [note for note in file.notes if "inference" in note]
    assert "the first is used" in warning
    assert "stride 8×8" in warning
    agrees = scanned(tmp_path, vit(), geometry=["patch_embed.proj=k16,s16"])
    assert [note for note in agrees.notes if "inference" in note] == []


@pytest.mark.parametrize(
    ("kind", "code"), [("audio-spectrogram-transformer", "CS001"), ("vitpose_backbone", "CS003")]
)
def test_a_config_that_disagrees_is_believed_with_a_warning(
    kind: str, code: str, tmp_path: Path
) -> None:
    bare = {
        key.removeprefix("vit."): tensor
        for key, tensor in tensors(*HF_VIT).items()
        if key.startswith("vit.")
    }
    key = HF_PATCH.removeprefix("vit.")
    bare[key] = F32, (768, 3, 16, 16)
    assert layer(scanned(tmp_path, bare), key).verdict.value in {"eligible", "undecided"}
    file = scanned(tmp_path, bare, {"model_type": kind})
    assert (layer(file, key).code, level(file, key)) == (code, "config")


def test_a_config_that_agrees_is_the_better_evidence(tmp_path: Path) -> None:
    file = scanned(tmp_path, tensors(*HF_VIT), row(*HF_VIT)["config"])
    assert level(file, HF_PATCH) == "config"
    assert level(scanned(tmp_path, tensors(*HF_VIT)), HF_PATCH) == "fingerprint"
    assert file.notes == ()


@pytest.mark.parametrize(
    "config",
    [
        {"architecture": VIT[1], "model_args": {"output_stride": 8}},
        {"architecture": VIT[1], "model_args": {"img_size": 448, "anything": 1}},
        {"model_type": "vit", "auto_map": {"AutoModel": "modeling.Vit"}},
        {"model_type": "upernet", "backbone_kwargs": {"output_stride": 8}, "backbone": VIT[1]},
        {"model_type": "detr", "dilation": True, "backbone": VIT[1]},
    ],
    ids=["output_stride", "any argument", "auto_map", "backbone_kwargs", "dilation"],
)  # fmt: skip
def test_a_config_that_changes_the_code_silences_the_inference_too(
    config: dict[str, Any], tmp_path: Path
) -> None:
    file = scanned(tmp_path, vit(), config)
    assert layer(file, PATCH).verdict.value == "undecided"
    assert file.notes


@pytest.mark.parametrize("arguments", [{}, {"img_size": 448}, {"num_classes": 3, "in_chans": 3}])
def test_a_config_that_changes_no_code_does_not(arguments: dict[str, Any], tmp_path: Path) -> None:
    config = {"architecture": VIT[1], "model_args": arguments}
    assert layer(scanned(tmp_path, vit(), config), PATCH).verdict.value == "eligible"


def test_an_old_name_of_a_backbone_states_nothing_but_leaves_the_inference(tmp_path: Path) -> None:
    file = scanned(tmp_path, vit(), {"model_type": "detr", "backbone": "resnet50"})
    assert (layer(file, PATCH).verdict.value, level(file, PATCH)) == ("eligible", "fingerprint")
    assert any("the backbone is 'resnet50'" in note for note in file.notes)
    silent = scanned(tmp_path, vit(), {"model_type": "detr", "backbone_config": {}})
    assert silent.notes == ()


def test_a_config_of_an_unknown_name_leaves_the_inference(tmp_path: Path) -> None:
    file = scanned(tmp_path, vit(), {"model_type": "nobody_knows"})
    assert (layer(file, PATCH).verdict.value, level(file, PATCH)) == ("eligible", "fingerprint")


# --- what it is called


def test_it_is_called_an_inference_everywhere(tmp_path: Path) -> None:
    path = sparse(tmp_path / "model.safetensors", vit())
    plan = cs.scan(path)
    (found,) = plan.files[0].layers
    assert found.evidence is not None
    inferred = f"inferred from {found.evidence[1]}"
    assert "architectures" in inferred
    text = " ".join(invoke("scan", path).out.split())
    assert inferred in text
    assert inferred in as_markdown(plan).replace("\\", "")
    (shown,) = json.loads(invoke("scan", path, "--json").out)["files"][0]["layers"]
    assert shown["evidence"]["level"] == "fingerprint"


def test_the_architectures_are_named_on_demand(tmp_path: Path) -> None:
    file = scanned(tmp_path, vit(), explain=["patch_embed.proj"])
    (line,) = details(layer(file, PATCH))
    assert line.startswith("the tensors of the file are those of ")
    assert line.count(", ") == 7
    assert line.split(" and ")[-1].endswith(" more")


def test_where_architectures_disagree_each_side_is_named(tmp_path: Path) -> None:
    key = "stages.0.blocks.0.conv1.weight"
    file = scanned(tmp_path, tensors("timm", "resnetv2_50"), explain=[key])
    found = layer(file, key)
    assert found.verdict.value == "undecided"
    _, why, *sides = details(found)
    assert why == "the architectures disagree"
    assert len(sides) > 1
    assert any("timm resnetv2_50x1_bit" in side for side in sides)
    assert any(side.endswith("timm resnetv2_50") for side in sides)
