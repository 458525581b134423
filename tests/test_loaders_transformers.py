"""Loading through transformers: what is right is no complaint, and what is no answer is an error."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, ModelError, RefusedError, UsageError
from convsurgeon.integrations.loaders import LOADERS, differences, load_through, through
from convsurgeon.integrations.loaders.folder import blank
from convsurgeon.store import read_safetensors
from tests.loader_cases import (
    PATCH,
    complaints,
    fused,
    fusion,
    load,
    qwen,
    reconfigured,
    rewritten,
    saved,
    transformers,
)
from tests.transformers_cases import CONFIGS, build, quieten, save


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quieten()


@pytest.mark.parametrize("name", CONFIGS)
def test_what_the_library_saved_it_loads(name: str, tmp_path: Path) -> None:
    found = load(saved(name, tmp_path))
    assert found.complaints == ()
    assert found.source == f"transformers {transformers.__version__}: {name}"
    assert found.model is not None
    assert not found.model.training
    assert differences(build(name).float(), found.model) == ()


@pytest.mark.parametrize("name", ["CLIPModel", "MixtralForCausalLM"])
def test_shards_and_names_that_the_library_does_not_look_for(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path, max_shard_size="4KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    index = tmp_path / "model.safetensors.index.json"
    assert complaints(tmp_path) == complaints(index) == []
    assert complaints(index.rename(tmp_path / "mine.safetensors.index.json")) == []
    saved(name, tmp_path / "one")
    one = (tmp_path / "one" / "model.safetensors").rename(tmp_path / "one" / "mine.safetensors")
    assert complaints(one) == []


def test_a_file_that_is_a_link_into_a_cache(tmp_path: Path) -> None:
    saved("ViTModel", tmp_path / "snapshot")
    file = tmp_path / "snapshot" / "model.safetensors"
    file.rename(tmp_path / "blob")
    file.symlink_to("../blob")
    assert complaints(tmp_path / "snapshot") == []


def test_a_config_without_a_class_names_the_base_model(tmp_path: Path) -> None:
    found = load(reconfigured(saved("ViTModel", tmp_path), architectures=None))
    assert (found.complaints, type(found.model).__name__) == ((), "ViTModel")


@pytest.mark.parametrize(("stated", "loaded"), [(None, torch.bfloat16), ("float32", torch.float32)])
def test_the_dtype_is_what_users_get(
    stated: str | None, loaded: torch.dtype, tmp_path: Path
) -> None:
    save(build("ViTModel").bfloat16(), tmp_path)
    found = load(reconfigured(tmp_path, dtype=stated))
    assert found.complaints == ()
    assert found.model is not None
    assert {p.dtype for p in found.model.parameters()} == {loaded}


def test_tied_weights_are_there_once(tmp_path: Path) -> None:
    save(build("MixtralForCausalLM", tie_word_embeddings=True).float(), tmp_path)
    assert complaints(tmp_path) == []
    reconfigured(tmp_path, tie_word_embeddings=False)
    assert complaints(tmp_path) == [
        "lm_head.weight is newly initialised: the file has no such tensor"
    ]


def test_buffers_of_old_files_are_no_complaint(tmp_path: Path) -> None:
    old = {"vision_model.embeddings.position_ids": torch.arange(65)[None]}
    assert complaints(rewritten(saved("CLIPVisionModel", tmp_path), lambda t: t.update(old))) == []


@pytest.mark.parametrize("name", ["ViTModel", "ConvNextForImageClassification"])
def test_a_swapped_file_has_other_shapes(name: str, tmp_path: Path) -> None:
    saved(name, tmp_path / "in")
    report = cs.swap(tmp_path / "in", tmp_path / "out")
    found = complaints(tmp_path / "out")
    assert len(found) == len(report.files[0].plan.rewrites) > 0
    assert all(" in the file, [" in line for line in found)
    if name == "ViTModel":
        assert found == [f"{PATCH} has shape [16, 48] in the file, [16, 3, 4, 4] in the model"]


@fusion
def test_what_the_library_raises_is_an_answer_in_one_line(tmp_path: Path) -> None:
    path = reconfigured(saved("ViTModel", tmp_path), fusion_config={"convsurgeon": True})
    found = load(path)
    assert found.model is None
    assert found.complaints == (
        "the library refuses the file: ValueError: Unknown fusion type: convsurgeon",
    )
    assert found == load(path)


def test_a_blank_file_has_the_same_tensors_and_zeros_in_them(tmp_path: Path) -> None:
    source = read_safetensors(saved("ViTModel", tmp_path) / "model.safetensors")
    blank(source, tmp_path / "blank.safetensors")
    copy = read_safetensors(tmp_path / "blank.safetensors")
    assert copy.header == source.header
    tensors = safetensors_torch.load_file(copy.path)
    assert tensors
    assert not any(tensor.any() for tensor in tensors.values())


def test_a_file_that_loads_only_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: Any, path: Path) -> None:
        path.write_bytes(b"\x08" + bytes(7) + b'{"a":{}}')

    saved("ViTModel", tmp_path)
    monkeypatch.setattr(through, "blank", refuse)
    (line,) = complaints(tmp_path)
    assert line.endswith("nobody knows what it made up")


def test_nothing_is_left_behind(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    saved("ViTModel", tmp_path / "in", max_shard_size="4KB")
    transformers.utils.logging.enable_progress_bar()
    capfd.readouterr()
    state, mode = torch.get_rng_state(), torch.get_deterministic_debug_mode()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setenv("TMPDIR", str(tmp_path))
        patch.setattr("tempfile.tempdir", None)
        assert complaints(tmp_path / "in") == []
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_deterministic_debug_mode() == mode
    assert capfd.readouterr() == ("", "")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


def broken_file(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"<html>")


def second_file(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")


def pickled(folder: Path) -> None:
    tensors = safetensors_torch.load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")


ERRORS: dict[str, tuple[Callable[[Path], object], type[ConvsurgeonError], str]] = {
    "no config": (no_config, ModelError, "no config.json .*CS062"),
    "broken config": (broken_config, RefusedError, "CS063"),
    "broken file": (broken_file, RefusedError, "CS034"),
    "two files": (second_file, UsageError, "holds 2 checkpoints"),
    "a pickle": (pickled, UsageError, "only safetensors files"),
    "no such class": (lambda f: reconfigured(f, architectures=["ViTModle"]), ModelError, "no class"),
    "foreign code": (lambda f: reconfigured(f, auto_map={"AutoModel": "x.y"}), ModelError, "never run"),
    "no such model": (lambda f: reconfigured(f, hidden_size="x"), ModelError, "CS062"),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
def test_what_is_no_answer_is_an_error(name: str, tmp_path: Path) -> None:
    damage, error, text = ERRORS[name]
    damage(saved("ViTModel", tmp_path))
    with pytest.raises(error, match=text) as caught:
        load(tmp_path)
    assert str(tmp_path) in caught.value.where


def test_what_the_library_lacks_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lack(*_: Any, **__: Any) -> None:
        raise ImportError("needs bitsandbytes")

    saved("ViTModel", tmp_path)
    monkeypatch.setattr(transformers.ViTModel, "from_pretrained", lack)
    with pytest.raises(ModelError, match=r"ImportError: needs bitsandbytes .*CS062"):
        load(tmp_path)


def test_the_libraries() -> None:
    assert LOADERS == ("transformers", "diffusers", "timm")
    with pytest.raises(UsageError, match="'keras' is none of transformers, diffusers, timm"):
        load_through("keras", Path("nowhere"))


@fusion
def test_a_fusion_that_loads_right_takes_a_swapped_file(tmp_path: Path) -> None:
    qwen("Qwen2VLForConditionalGeneration", tmp_path / "in", tower=True)
    cs.swap(tmp_path / "in", tmp_path / "out")
    assert len(complaints(tmp_path / "out")) == 1
    original, swapped = load(fused(tmp_path / "in")), load(fused(tmp_path / "out"))
    assert original.complaints == swapped.complaints == ()
    assert original.model is not None
    assert swapped.model is not None
    assert "patch_embed.linear_proj.weight" in swapped.model.state_dict()
    assert differences(original.model, swapped.model) == ()
