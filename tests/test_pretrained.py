"""`from_pretrained` and `save_pretrained`: files of any form, swapped models, and back."""

from __future__ import annotations

import gc
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from torch import nn

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, MismatchError
from convsurgeon.integrations.transformers import swapped_weights
from convsurgeon.nn import GemmConv2d, PatchLinear
from tests.loader_cases import reconfigured
from tests.transformers_cases import build, quieten, save

transformers = pytest.importorskip("transformers", reason="its loading is what is tested")
conversion_mapping = pytest.importorskip(
    "transformers.conversion_mapping", reason="this transformers has no conversions"
)
VIT, CLIP = "ViTForImageClassification", "CLIPModel"
FIRST, LAST = LAYOUTS = ("c p1 p2", "p1 p2 c")
FILES: dict[str, dict[str, Any] | None] = {
    "original": None,
    "swapped": {},
    "channels last": {"layout": LAST},
    "child": {"layout": LAST, "child_keys": True},
}
KINDS: dict[str, dict[str, Any]] = {
    "linear": {},
    "linear, channels last": {"layout": LAST},
    "gemm": {"kind": "gemm"},
    "keep": {"kind": "keep"},
}
DROP_INS = {"linear": PatchLinear, "linear, channels last": PatchLinear, "gemm": GemmConv2d}
State = dict[str, torch.Tensor]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quieten()


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    folder = tmp_path_factory.mktemp("pretrained")
    for name in (VIT, CLIP):
        # In shards, each of which holds some layers.
        save(build(name), folder / f"{name} original", max_shard_size="12KB")
        for form, choices in FILES.items():
            if choices is not None:
                out = folder / f"{name} {form}"
                cs.swap(folder / f"{name} original", out, verify="bits", **choices)
    return lambda name, form: folder / f"{name} {form}"


def load(name: str, path: Path, **options: Any) -> Any:
    return cs.from_pretrained(getattr(transformers, name), path, dtype=torch.float64, **options)


def plain(name: str, path: Path, **options: Any) -> Any:
    return getattr(transformers, name).from_pretrained(path, dtype=torch.float64, **options)


def same(first: State, second: State) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def stored(folder: Path) -> State:
    parts = [safetensors_torch.load_file(file) for file in sorted(folder.glob("*.safetensors"))]
    return {key: tensor for part in parts for key, tensor in part.items()}


def drop_ins(model: nn.Module) -> list[nn.Module]:
    return [m for m in model.modules() if type(m).__module__.startswith("convsurgeon.nn")]


# --- Every file into every model, and what is saved


@pytest.mark.parametrize(
    ("name", "form", "kind"),
    [
        *((VIT, form, kind) for form in FILES for kind in KINDS),
        (CLIP, "original", "linear, channels last"),
        (CLIP, "child", "linear"),
        (CLIP, "child", "keep"),
    ],
)
def test_every_file_goes_into_every_model_and_the_original_is_saved(
    name: str, form: str, kind: str, files: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = load(name, files(name, form), **KINDS[kind])
    assert type(model) is getattr(transformers, name)
    found = drop_ins(model)
    assert [type(one) for one in found] == ([DROP_INS[kind]] if kind in DROP_INS else [])
    assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])
    assert not model.training
    wanted = plain(name, files(name, "original"))
    assert same(cs.original_state_dict(model), wanted.state_dict())
    model.save_pretrained(tmp_path / "out")
    assert same(stored(tmp_path / "out"), stored(files(name, "original")))
    cs.restore_module(model)
    assert same(model.state_dict(), wanted.state_dict())


def test_without_the_conversions_the_library_makes_the_weight_up(
    files: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = load(VIT, files(VIT, "original"))
    model.save_pretrained(tmp_path / "own", save_original_format=False)
    assert any(key.endswith("projection.linear.weight") for key in stored(tmp_path / "own"))
    assert not same(plain(VIT, tmp_path / "own").state_dict(), cs.original_state_dict(model))


@pytest.mark.parametrize(
    ("name", "kind", "child_keys"),
    [
        *((VIT, kind, kind.startswith("linear")) for kind in KINDS),
        (CLIP, "linear, channels last", False),
    ],
)
def test_a_swapped_checkpoint_with_its_recipe(
    name: str, kind: str, child_keys: bool, files: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = load(name, files(name, "original"), **KINDS[kind])
    out = tmp_path / "out"
    cs.save_pretrained(model, out, form="swapped", child_keys=child_keys)
    model.save_pretrained(tmp_path / "plain")
    changed = {k for k, t in stored(out).items() if t.shape != stored(files(name, "original")).get(k, t[..., None]).shape}  # fmt: skip
    assert bool(changed) == (kind != "keep")
    if kind != "keep":
        cs.verify(tmp_path / "plain", out).require()
        assert any(key.endswith(".linear.weight") for key in stored(out)) == child_keys
        cs.restore(out, tmp_path / "restored")
        assert same(stored(tmp_path / "restored"), stored(files(name, "original")))
    assert same(
        cs.original_state_dict(load(name, out)), plain(name, files(name, "original")).state_dict()
    )
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(".")) == []


def test_both_forms_in_one_model(files: Callable[[str, str], Path], tmp_path: Path) -> None:
    model = load(VIT, files(VIT, "original"), layout=LAST)
    cs.swap_module(model, to="conv", method="1x1", where=lambda name, _: name == "classifier")
    cs.save_pretrained(model, tmp_path / "out", form="swapped")
    shapes = {key: tensor.dim() for key, tensor in stored(tmp_path / "out").items()}
    assert shapes["classifier.weight"] == 4
    assert shapes["vit.embeddings.patch_embeddings.projection.weight"] == 2
    again = plain(VIT, files(VIT, "original"))
    cs.load(again, tmp_path / "out")
    assert same(again.state_dict(), model.state_dict())


# --- The library's own ways of loading


def test_automatic_classes_and_what_they_return(files: Callable[[str, str], Path]) -> None:
    path = files(VIT, "child")
    model, info = cs.from_pretrained(
        transformers.AutoModelForImageClassification, path, output_loading_info=True
    )
    assert type(model).__name__ == VIT
    assert not info["missing_keys"]
    assert type(cs.from_pretrained(transformers.AutoModel, path)).__name__ == "ViTModel"
    with pytest.raises(ConvsurgeonError, match="CS090"):
        cs.from_pretrained(transformers.AutoModelForCausalLM, path)


@pytest.mark.parametrize(("saved", "loaded"), [(VIT, "ViTModel"), ("ViTModel", VIT)])
@pytest.mark.parametrize("choices", [None, {"child_keys": True}], ids=["original", "child"])
def test_a_base_model_reads_the_file_of_a_head_and_the_reverse(
    choices: dict[str, Any] | None, saved: str, loaded: str, tmp_path: Path
) -> None:
    path = save(build(saved), tmp_path / "in")
    if choices is not None:
        cs.swap(path, tmp_path / "out", **choices)
    model = load(loaded, path if choices is None else tmp_path / "out")
    assert len(drop_ins(model)) == 1
    wanted = plain(loaded, path).state_dict()
    found = cs.original_state_dict(model)
    made_up = {key for key in wanted if key.startswith(("classifier", "pooler"))}
    assert same(*({k: v for k, v in one.items() if k not in made_up} for one in (found, wanted)))


def test_devices_are_planned_for_the_layers_that_stay(
    files: Callable[[str, str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("accelerate", reason="moves tensors between devices")
    where = {"vit.embeddings": "disk", "vit.layers": "cpu", "vit.layernorm": "cpu", "classifier": "cpu"}  # fmt: skip
    options: dict[str, Any] = {"device_map": where, "offload_folder": tmp_path}
    x = torch.randn(1, 3, 32, 32, dtype=torch.float64)
    wanted = plain(VIT, files(VIT, "original"))(x).logits
    for form in ("original", "child"):
        model = load(VIT, files(VIT, form), **options)
        inner = model.vit.embeddings.patch_embeddings.projection.linear
        assert type(inner) is nn.Linear
        assert inner.weight.is_meta  # it lies on disk
        assert torch.allclose(model(x).logits, wanted, rtol=1e-12)


def test_a_quantiser_sees_the_inner_layer(files: Callable[[str, str], Path]) -> None:
    torchao = pytest.importorskip("torchao.quantization", reason="a quantiser of the library")
    config = transformers.TorchAoConfig(torchao.Int8WeightOnlyConfig())
    for form in ("original", "channels last"):
        model = cs.from_pretrained(
            transformers.ViTForImageClassification,
            files(VIT, form),
            dtype=torch.float32,
            quantization_config=config,
        )
        inner = model.vit.embeddings.patch_embeddings.projection.linear
        assert type(inner.weight) is not nn.Parameter
        x = torch.randn(1, 3, 32, 32)
        wanted = plain(VIT, files(VIT, "original")).float()
        assert torch.allclose(model(x).logits, wanted(x).logits, atol=0.1)
        assert not torch.equal(model(x).logits, wanted(x).logits)


def test_where_leaves_layers_out(files: Callable[[str, str], Path], tmp_path: Path) -> None:
    wanted = plain(VIT, files(VIT, "original")).state_dict()
    for form in FILES:
        model = load(VIT, files(VIT, form), where=lambda *_: False)
        assert not drop_ins(model)
        assert same(model.state_dict(), wanted)
        cs.swap_module(model, to="conv", method="1x1", where=lambda name, _: name == "classifier")
        cs.swap_module(model, layout=LAST)
        assert len(drop_ins(model)) == 2
        model.save_pretrained(tmp_path / form)
        assert same(stored(tmp_path / form), stored(files(VIT, "original")))
        cs.restore_module(model)
        model.save_pretrained(tmp_path / form)
        assert same(stored(tmp_path / form), stored(files(VIT, "original")))


def test_a_folder_without_safetensors_is_the_librarys_matter(tmp_path: Path) -> None:
    build(VIT).config.save_pretrained(tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"no pickle")
    with pytest.raises(OSError, match="safetensors"):
        load(VIT, tmp_path, use_safetensors=True)


# --- Nothing stays behind, and what cannot be is refused


def everyones() -> list[str]:
    return [repr(entry) for entry in conversion_mapping.get_checkpoint_conversion_mapping("legacy")]


def test_nothing_reaches_later_loads(files: Callable[[str, str], Path]) -> None:
    model_class, path = transformers.ViTForImageClassification, files(VIT, "original")
    before, build_one = everyones(), model_class.__init__
    load(VIT, path)
    with pytest.raises(MemoryError):
        load(VIT, path, where=raising)
    assert everyones() == before
    assert model_class.__init__ is build_one
    gc.collect()
    assert model_class.__subclasses__() == []
    assert not drop_ins(plain(VIT, path))
    assert not drop_ins(model_class(transformers.ViTConfig.from_pretrained(path)))
    with pytest.raises(RuntimeError):
        plain(VIT, files(VIT, "swapped"))


def raising(*_: object) -> bool:
    raise MemoryError


def test_threads_do_not_hear_of_each_other(files: Callable[[str, str], Path]) -> None:
    found: list[int] = []

    def where(*_: object) -> bool:
        work = threading.Thread(target=lambda: found.append(len(drop_ins(plain(VIT, path)))))
        work.start()
        work.join()
        return True

    path = files(VIT, "original")
    assert len(drop_ins(load(VIT, path, where=where))) == 1
    assert found == [0]


def test_a_weight_that_the_file_does_not_hold_is_refused(
    files: Callable[[str, str], Path], tmp_path: Path
) -> None:
    model = plain(VIT, files(VIT, "original"))
    model.save_pretrained(tmp_path / "out")
    file = tmp_path / "out" / "model.safetensors"
    tensors = stored(tmp_path / "out")
    tensors.pop("vit.embeddings.patch_embeddings.projection.bias")
    safetensors_torch.save_file(tensors, file, {"format": "pt"})
    plain(VIT, tmp_path / "out")  # the library makes it up
    with pytest.raises(MismatchError, match=r"projection\.linear\.bias"):
        load(VIT, tmp_path / "out")


def test_a_swapped_file_without_its_recipe_is_refused(
    files: Callable[[str, str], Path], tmp_path: Path
) -> None:
    cs.save_pretrained(load(VIT, files(VIT, "original")), tmp_path / "out", form="swapped")
    file = tmp_path / "out" / "model.safetensors"
    safetensors_torch.save_file(stored(tmp_path / "out"), file, {"format": "pt"})
    with pytest.raises(RuntimeError):
        load(VIT, tmp_path / "out")


def test_what_is_refused(files: Callable[[str, str], Path], tmp_path: Path) -> None:
    path = files(VIT, "original")
    model = load(VIT, path)
    for call, code in (
        (lambda: load(VIT, path, kind="flat"), "CS090"),
        (lambda: load(VIT, path, kind="gemm", layout=LAST), "CS090"),
        (lambda: load(VIT, path, kind="keep", layout=LAST), "CS090"),
        (lambda: load(VIT, path, kind="keep", where=lambda *_: True), "CS090"),
        (lambda: load(VIT, path, where="vit"), "CS090"),
        (lambda: cs.from_pretrained(nn.Linear, path), "CS090"),
        (lambda: cs.save_pretrained(nn.Linear(2, 2), tmp_path / "out"), "CS090"),
        (lambda: cs.save_pretrained(model, tmp_path / "out", form="linear"), "CS090"),
        (lambda: cs.save_pretrained(model.vit.embeddings, tmp_path / "out"), "CS090"),
        (lambda: cs.save_pretrained(model, tmp_path, form="swapped"), "CS070"),
    ):
        with pytest.raises(ConvsurgeonError, match=code):
            call()
    assert list(tmp_path.iterdir()) == []


def test_a_config_that_fuses_layers(files: Callable[[str, str], Path], tmp_path: Path) -> None:
    plain(VIT, files(VIT, "original")).save_pretrained(tmp_path / "out")
    folder = reconfigured(tmp_path / "out", fusion_config={"patch_embeddings": True})
    assert json.loads((folder / "config.json").read_text())["fusion_config"]
    with pytest.raises(MismatchError, match="fusion_config"):
        load(VIT, folder)


def test_an_adapter_in_the_inner_layer(files: Callable[[str, str], Path], tmp_path: Path) -> None:
    model = load(VIT, files(VIT, "original"))
    wrapped = nn.Sequential(model.vit.embeddings.patch_embeddings.projection.linear)
    model.vit.embeddings.patch_embeddings.projection.linear = wrapped
    with pytest.raises(MismatchError, match="CS027"):
        cs.original_state_dict(model)
    with pytest.raises(MismatchError, match="CS027"):
        cs.save_pretrained(model, tmp_path / "out")


def test_child_keys_are_read_by_swapped_weights_and_saved_as_asked(
    files: Callable[[str, str], Path], tmp_path: Path
) -> None:
    for name in (VIT, CLIP):
        path = files(name, "child")
        wanted = plain(name, files(name, "original")).state_dict()
        for saves, like in (("original", "original"), ("swapped", "child")):
            with swapped_weights(path, saves=saves):
                model = plain(name, path)
            assert same(model.state_dict(), wanted)
            model.save_pretrained(tmp_path / name / saves)
            assert same(stored(tmp_path / name / saves), stored(files(name, like)))
        with pytest.raises((RuntimeError, AssertionError)):
            assert same(plain(name, path).state_dict(), wanted)
