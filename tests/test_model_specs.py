"""`--model SPEC`: which builder is asked, what is refused, and that nothing is fetched or printed."""

from __future__ import annotations

import json
import logging
import resource
import socket
import sys
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="models are built with it")

from convsurgeon.errors import ModelError, RefusedError, UsageError  # noqa: E402
from convsurgeon.geometry import Geometry  # noqa: E402
from convsurgeon.sources.build import BUILDERS, build, build_beside  # noqa: E402
from convsurgeon.sources.builders.guard import library, sealed  # noqa: E402

VIT: dict[str, Any] = {
    "model_type": "vit",
    "architectures": ["ViTModel"],
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 8,
    "image_size": 32,
    "patch_size": 8,
}
KEY, SHAPE = "embeddings.patch_embeddings.projection.weight", (16, 3, 8, 8)
PLAIN = Geometry.plain((8, 8), (8, 8))


def written(folder: Path, config: dict[str, Any]) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return path


def geometry(spec: str) -> Geometry | None:
    statement = build(spec).for_names([KEY]).about(KEY, SHAPE)
    assert statement is not None
    return statement.geometry


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    pytest.importorskip("transformers", reason="the config is of one of its models")
    return written(tmp_path, VIT)


def test_a_folder_or_its_config(vit: Path) -> None:
    assert geometry(f"transformers:{vit.parent}") == geometry(f"transformers:{vit}") == PLAIN


@pytest.mark.parametrize(
    "fields",
    [
        {"architectures": None},
        {"dtype": "bfloat16"},
        {"torch_dtype": "float8_e4m3fn"},
        {"_attn_implementation": "somebody/flash-attn3"},
        {"attn_implementation": "somebody/flash-attn3"},
        {"quantization_config": {"quant_method": "gptq", "bits": 4}},
    ],
)
def test_how_a_model_runs_does_not_matter(fields: dict[str, Any], vit: Path) -> None:
    written(vit.parent, {**VIT, **fields})
    assert geometry(f"transformers:{vit}") == PLAIN


def test_a_class_takes_its_part_of_a_larger_config(vit: Path) -> None:
    small = {k: v for k, v in VIT.items() if k not in {"model_type", "architectures"}}
    both = {"model_type": "clip", "architectures": ["CLIPVisionModel"], "vision_config": small}
    speaker = build(f"transformers:{written(vit.parent, both)}")
    key = next(name for name in speaker.names if name.endswith("patch_embedding.weight"))
    statement = speaker.for_names([key]).about(key, SHAPE)
    assert statement is not None
    assert statement.geometry == PLAIN


def test_a_class_that_the_library_does_not_export(vit: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="its classes are asked for")
    name = "SeamlessM4Tv2SpeechEncoder"
    assert not hasattr(transformers, name)
    config = {"model_type": "seamless_m4t_v2", "architectures": [name], "speech_encoder_layers": 1}
    speaker = build(f"transformers:{written(vit.parent, config)}")
    assert any(layer.statement.form == "conv1d" for layer in speaker.layers.values())


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"architectures": ["ViTModle"]}, "'ViTModle' is no class of the installed transformers"),
        ({"architectures": ["AutoModel"]}, "is no class"),
        ({"architectures": ["logging"]}, "is no class"),
        ({"architectures": 3}, "'3' is no class"),
        ({"model_type": "vti", "architectures": None}, "vti"),
        ({"patch_size": "eight"}, "cannot be built"),
        ({"auto_map": {"AutoModel": "modeling.Model"}}, "auto_map .* never run"),
        ({"text_config": {"auto_map": {"AutoModel": "m.M"}}}, "auto_map .* never run"),
        ({"parts": [{"trust_remote_code": True}]}, "trust_remote_code .* never run"),
    ],
)
def test_configs_that_are_refused(fields: dict[str, Any], words: str, vit: Path) -> None:
    written(vit.parent, {**VIT, **fields})
    with pytest.raises(ModelError, match=words) as caught:
        build(f"transformers:{vit}")
    assert caught.value.code == "CS062"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["transformers", "diffusers"])
@pytest.mark.parametrize("path", ["google/vit-base-patch16-224", "https://example.org/m", "absent"])
def test_only_what_lies_here_is_read(kind: str, path: str) -> None:
    with pytest.raises(ModelError, match="nothing is downloaded") as caught:
        build(f"{kind}:{path}")
    assert caught.value.code == "CS062"


@pytest.mark.parametrize(
    "name",
    ["hf-hub:timm/resnet18.a1_in1k", "hf_hub:a/b", "local-dir:.", "https://example.org/a", "../a"],
)
def test_timm_gets_plain_names_only(name: str) -> None:
    with pytest.raises(ModelError, match="nothing is downloaded") as caught:
        build(f"timm:{name}")
    assert caught.value.code == "CS062"


def test_a_config_that_is_no_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RefusedError, match="CS063"):
        build(f"transformers:{tmp_path}")


@pytest.mark.parametrize("kind", BUILDERS)
def test_a_library_that_is_not_there(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in [name for name in sys.modules if name.partition(".")[0] == kind]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.setattr(sys, "meta_path", [Absent(kind), *sys.meta_path])
    spec = (
        f"{kind}:{written(tmp_path, VIT)}" if kind in {"transformers", "diffusers"} else f"{kind}:a"
    )
    with pytest.raises(ModelError, match=f"{kind} is not installed .*pip install {kind}") as caught:
        build(spec)
    assert caught.value.code == "CS062"


class Absent:
    """Finds no library of one name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name.partition(".")[0])


@pytest.mark.parametrize(
    "error", [RuntimeError("operator x::nms\ndoes not exist"), ModuleNotFoundError("y", name="y")]
)
def test_a_library_that_is_broken(error: Exception) -> None:
    def load() -> ModuleType:
        raise error

    with pytest.raises(ModelError, match="repair the installation of x") as caught:
        library("x", load, "x:a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("spec", ["timm:", "transformers:", "", ":build", "model.py", "a:b:c-d"])
def test_malformed_specs(spec: str) -> None:
    with pytest.raises(UsageError, match=r"transformers:PATH") as caught:
        build(spec)
    assert caught.value.code == "CS090"


def test_nothing_is_fetched() -> None:
    known = socket.getaddrinfo
    with pytest.raises(ConnectionRefusedError, match="nothing is downloaded"), sealed():
        socket.create_connection(("127.0.0.1", 9))
    assert socket.getaddrinfo is known


def test_a_config_that_names_a_second_model(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    transformers = pytest.importorskip("transformers", reason="its constructor is replaced")

    def fetch(self: object, config: object) -> None:
        socket.create_connection(("example.org", 80))

    monkeypatch.setattr(transformers.ViTModel, "__init__", fetch)
    with pytest.raises(ModelError, match="nothing is downloaded"):
        build(f"transformers:{vit}")


def test_libraries_are_silent(capfd: pytest.CaptureFixture[str]) -> None:
    with sealed():
        sys.stdout.write("noise\n")
        warnings.warn("noise", stacklevel=1)
        logging.getLogger("library").error("noise")
    assert capfd.readouterr() == ("", "")
    assert logging.getLogger("library").isEnabledFor(logging.ERROR)


def test_a_model_that_fits_into_no_memory(vit: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672}
    heads = {"num_attention_heads": 64, "num_key_value_heads": 8, "num_hidden_layers": 80}
    path = written(vit.parent, {**config, **heads, "vocab_size": 128256, "architectures": None})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    layers = build(f"transformers:{path}").layers
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    weights = sum(layer.shape[0] * layer.shape[1] for layer in layers.values() if layer.shape)
    assert 2 * weights > 100_000_000_000  # bytes, in half precision
    assert grown * 1024 < 500_000_000  # ru_maxrss counts kB on Linux


FROM_NUMBERS = """
import torch
def build():
    widths = [int(w) for w in torch.linspace(4, 8, 2).tolist()]
    return torch.nn.Sequential(torch.nn.Conv2d(3, widths[0], 2, 2), torch.nn.Linear(10**6, 10**6))
"""


def test_a_constructor_that_reads_numbers_off_a_tensor(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text(FROM_NUMBERS)
    speaker = build(f"{tmp_path}/m.py:build")  # the matrix alone would take 4 TB
    assert speaker.layers["0"].shape == (4, 3, 2, 2)


@pytest.mark.parametrize("config", [{}, {"model_type": None}, {"architecture": 3}])
def test_a_config_that_names_no_library(config: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="none of the fields") as caught:
        build_beside(written(tmp_path, config))
    assert caught.value.code == "CS062"


def test_no_config_at_all(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        build_beside(tmp_path / "config.json")
