"""What a `config.json` says about convolutions, model type by model type, as data.

Every row was read off the code that builds the model and holds for the classes listed with it, and
for no other: another class may read the same field and pad in its code. Names are those on disk,
and those of the module where a library renames while saving.
"""

from __future__ import annotations

from convsurgeon.sources.rows import Fact, Family, Field, Half, Section, Spatial, Staged, Switch


def _patches(pattern: str, default: int | None, section: Section | None = None) -> Fact:
    size = Field("patch_size", default)
    return Fact(pattern, "conv2d", size, size, section=section)


def _pointwise(pattern: str, *classes: str) -> Fact:
    return Fact(pattern, "conv2d", 1, classes=classes)


_EMBEDDING = r"embeddings\.patch_embeddings\.projection"
_CLIP_EMBEDDING = r"(vision_model\.)?embeddings\.patch_embedding"

# A `vision_config_dict` replaces the whole `vision_config`, defaults included, in CLIP only.
_CLIP = Section(("vision_config_dict", "vision_config"), "clip_vision_model", optional=True)
_SIGLIP = Section(("vision_config",), "siglip_vision_model", optional=True)
# Its backbone may be of any type, and only one was checked.
_VITPOSE = Section(("backbone_config",), "vitpose_backbone", optional=False)

_VIT_CLASSES = ("ViTModel", "ViTForImageClassification", "ViTForMaskedImageModeling")
_CLIP_CLASSES = (
    "CLIPModel",
    "CLIPForImageClassification",
    "CLIPVisionModel",
    "CLIPVisionModelWithProjection",
)
_SIGLIP_CLASSES = ("SiglipModel", "SiglipForImageClassification", "SiglipVisionModel")
_DINOV2_CLASSES = ("Dinov2Model", "Dinov2ForImageClassification", "Dinov2Backbone")
_SWIN_CLASSES = (
    "SwinModel",
    "SwinForImageClassification",
    "SwinForMaskedImageModeling",
    "SwinBackbone",
)
_CONVNEXT_CLASSES = (
    "ConvNextModel",
    "ConvNextEncoder",
    "ConvNextForImageClassification",
    "ConvNextBackbone",
)
_AST_CLASSES = ("ASTModel", "ASTForAudioClassification")
_SEGFORMER_CLASSES = (
    "SegformerModel",
    "SegformerForImageClassification",
    "SegformerForSemanticSegmentation",
)

_CONVNEXT_STAGES = r"(convnext\.)?(encoder\.)?stages"
# The first stage neither shrinks nor widens its input, so it has no such layer.
_CONVNEXT = (
    _patches(r"(convnext\.)?embeddings\.patch_embeddings", 4),
    Fact(_CONVNEXT_STAGES + r"\.[1-9][0-9]*\.downsampling_layer\.1", "conv2d", 2, 2),
    Fact(_CONVNEXT_STAGES + r"\.[0-9]+\.layers\.[0-9]+\.dwconv", "conv2d", 7, 1, 3, depthwise=True),
)

_AST_PATCH = Field("patch_size", 16)
_AST = Fact(
    r"(audio_spectrogram_transformer\.)?" + _EMBEDDING,
    "conv2d",
    (_AST_PATCH, _AST_PATCH),
    (Field("frequency_stride", 10), Field("time_stride", 10)),
)

_SEGFORMER_PATCH = Staged("patch_sizes", (7, 3, 3, 3))
_SEGFORMER_STRIDE = Staged("strides", (4, 2, 2, 2))
_SEGFORMER_RATIO = Staged("sr_ratios", (8, 4, 2, 1))
_REDUCTION = r"sequence_reduction\.sequence_reduction"
_STAGE = r"(?P<stage>[0-9]+)"
_SEGFORMER = (
    *(
        Fact(pattern, "conv2d", _SEGFORMER_PATCH, _SEGFORMER_STRIDE, Half(_SEGFORMER_PATCH))
        for pattern in (
            rf"(segformer\.)?encoder\.patch_embeddings\.{_STAGE}\.proj",
            rf"(segformer\.)?stages\.{_STAGE}\.patch_embeddings\.proj",
        )
    ),
    *(
        Fact(pattern, "conv2d", _SEGFORMER_RATIO, _SEGFORMER_RATIO)
        for pattern in (
            rf"(segformer\.)?encoder\.block\.{_STAGE}\.[0-9]+\.attention\.self\.sr",
            rf"(segformer\.)?stages\.{_STAGE}\.blocks\.[0-9]+\.attention\.{_REDUCTION}",
        )
    ),
    Fact(
        r"(segformer\.)?(encoder\.block\.[0-9]+|stages\.[0-9]+\.blocks)\.[0-9]+"
        r"\.mlp\.dwconv\.dwconv",
        "conv2d",
        kernel=3,
        padding=1,
        depthwise=True,
    ),
    _pointwise(r"decode_head\.(linear_fuse|classifier)", "SegformerForSemanticSegmentation"),
)


def _vitpose_patches(prefix: str, section: Section | None) -> Fact:
    # The padding stands in the code of the class; no field of its config shows it.
    size = Field("patch_size", (16, 16))
    return Fact(prefix + _EMBEDDING, "conv2d", size, size, padding=2, section=section)


_SIMPLE = Switch("use_simple_decoder", default=True, wanted=True)
_CLASSIC = Switch("use_simple_decoder", default=True, wanted=False)
_VITPOSE_FACTS = (
    _vitpose_patches(r"backbone\.", _VITPOSE),
    Fact(r"head\.conv", "conv2d", 3, 1, 1, switch=_SIMPLE),
    Fact(r"head\.conv", "conv2d", 1, switch=_CLASSIC),
    Fact(r"head\.deconv[12]", "conv_transpose2d", 4, 2, 1, switch=_CLASSIC),
)

_TUBELET = Field("tubelet_size")
_LENET_KERNEL, _LENET_STRIDE = Field("conv_kernel_size"), Field("conv_stride")
_LENET = (
    Fact(r"features\.[03]", "conv2d", _LENET_KERNEL, _LENET_STRIDE),
    Fact(r"classifier\.1", "linear", Spatial("head_input_shape")),
    Fact(r"classifier\.[35]", "linear", None),
)

FAMILIES: dict[str, Family] = {
    "vit": Family(
        _VIT_CLASSES,
        (
            _patches(r"(vit\.)?" + _EMBEDDING, 16),
            _pointwise(r"decoder\.0", "ViTForMaskedImageModeling"),
        ),
    ),
    "clip": Family(_CLIP_CLASSES, (_patches(_CLIP_EMBEDDING, 32, _CLIP),)),
    "clip_vision_model": Family(_CLIP_CLASSES, (_patches(_CLIP_EMBEDDING, 32),)),
    "siglip": Family(_SIGLIP_CLASSES, (_patches(_CLIP_EMBEDDING, 16, _SIGLIP),)),
    "siglip_vision_model": Family(_SIGLIP_CLASSES, (_patches(_CLIP_EMBEDDING, 16),)),
    "dinov2": Family(_DINOV2_CLASSES, (_patches(r"(dinov2\.)?" + _EMBEDDING, 14),)),
    "swin": Family(
        _SWIN_CLASSES,
        (
            _patches(r"(swin\.)?" + _EMBEDDING, 4),
            _pointwise(r"decoder\.0", "SwinForMaskedImageModeling"),
        ),
    ),
    "convnext": Family(_CONVNEXT_CLASSES, _CONVNEXT),
    "audio-spectrogram-transformer": Family(_AST_CLASSES, (_AST,)),
    "segformer": Family(_SEGFORMER_CLASSES, _SEGFORMER),
    "vitpose": Family(("VitPoseForPoseEstimation",), _VITPOSE_FACTS),
    "vitpose_backbone": Family(("VitPoseBackbone",), (_vitpose_patches("", None),)),
    # The samples of this project.
    "vit_digits": Family(("VitDigits",), (_patches(r"patch_embed\.proj", None),)),
    "jit_digits": Family(
        ("JitDigits",),
        (_patches(r"x_embedder\.proj1", None), _pointwise(r"x_embedder\.proj2")),
    ),
    "lenet_digits": Family(("LenetDigits",), _LENET),
    "clip3d_digits": Family(
        ("Clip3dDigits",), (Fact(r"embed\.proj", "conv3d", _TUBELET, _TUBELET),)
    ),
}
"""Model type -> what is known about it."""
