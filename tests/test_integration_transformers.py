"""`from_pretrained` of swapped checkpoints: bit for bit, saved as asked, and nothing stays behind."""

from __future__ import annotations

import copy
import json
import pickle
import re
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

import convsurgeon as cs
from convsurgeon.errors import ConvsurgeonError, MismatchError
from convsurgeon.integrations.transformers import swapped_weights
from convsurgeon.integrations.ways import Reshape, Way, beginning
from convsurgeon.plan import METADATA_KEY
from convsurgeon.rearrangement import LAYOUTS, between
from tests.loader_cases import PATCH, VISION, qwen, reconfigured
from tests.transformers_cases import CONFIGS, build, quieten, save

transformers = pytest.importorskip("transformers", reason="its loading is what is tested")
conversion_mapping = pytest.importorskip(
    "transformers.conversion_mapping", reason="this transformers has no conversions"
)
IMAGES = [name for name in CONFIGS if name.startswith(("ViTF", "CLIPM", "Siglip", "Dino", "Conv", "Swin"))]  # fmt: skip
VIT = "ViTForImageClassification"
KEY = f"vit.{PATCH}"
REFUSED = "mismatched"


@pytest.fixture(autouse=True)
def _quiet() -> None:
    quieten()


def original(name: str, folder: Path, **options: Any) -> Path:
    return qwen(name, folder) if name in VISION else save(build(name), folder, **options)


def swapped(folder: Path, layout: str = LAYOUTS[0]) -> Path:
    out = folder.with_name(f"{folder.name}.linear")
    cs.swap(folder, out, layout=layout)
    return out


def load(path: Path, name: str = VIT, **options: Any) -> Any:
    return getattr(transformers, name).from_pretrained(path, dtype="auto", **options)


def stored(folder: Path) -> dict[str, Any]:
    files = sorted(folder.glob("*.safetensors"))
    return {k: v for file in files for k, v in safetensors_torch.load_file(file).items()}


def raw(tensors: dict[str, Any]) -> dict[str, tuple[Any, ...]]:
    """What two tensors have to share to be the same bytes."""
    return {
        key: (tensor.dtype, tuple(tensor.shape), tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
        for key, tensor in tensors.items()
    }  # fmt: skip


def is_refused(path: Path, name: str = VIT) -> bool:
    try:
        load(path, name)
    except RuntimeError as error:
        return REFUSED in str(error)
    return False


@pytest.fixture
def vit(tmp_path: Path) -> Path:
    return original(VIT, tmp_path / "vit")


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [*IMAGES, *VISION])
def test_the_original_class_reads_it_and_saves_the_original(
    name: str, layout: str, tmp_path: Path
) -> None:
    folder = original(name, tmp_path / "in")
    out = swapped(folder, layout)
    assert is_refused(out, name)
    with swapped_weights(out):
        model = load(out, name)
    assert raw(model.state_dict()) == raw(load(folder, name).state_dict())
    assert raw(stored(save(model, tmp_path / "again"))) == raw(stored(folder))
    assert is_refused(out, name)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", [VIT, "ConvNextForImageClassification", *VISION])
def test_it_saves_the_swapped_file_where_that_is_asked(
    name: str, layout: str, tmp_path: Path
) -> None:
    out = swapped(original(name, tmp_path / "in"), layout)
    with swapped_weights(out, saves="swapped"):
        model = load(out, name)
    again = save(model, tmp_path / "again")
    assert raw(stored(again)) == raw(stored(out))
    assert is_refused(again, name)
    with swapped_weights(again):  # it has no recipe of its own
        assert is_refused(again, name)
    with swapped_weights(again, recipe=out):
        assert raw(load(again, name).state_dict()) == raw(model.state_dict())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_shards(layout: str, tmp_path: Path) -> None:
    folder = original(VIT, tmp_path / "in", max_shard_size="4KB")
    assert (folder / "model.safetensors.index.json").exists()
    out = swapped(folder, layout)
    with swapped_weights(out / "model.safetensors.index.json"):
        model = load(out)
    assert raw(stored(save(model, tmp_path / "again", max_shard_size="4KB"))) == raw(stored(folder))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_bit_of_a_nan_survives(layout: str, vit: Path) -> None:
    tensors = stored(vit)
    bits = tensors[KEY].view(torch.int64).view(-1)
    bits[:] = torch.arange(bits.numel()) + 0x7FF0_0000_0000_0001
    safetensors_torch.save_file(tensors, vit / "model.safetensors", {"format": "pt"})
    out = swapped(vit, layout)
    with swapped_weights(out):
        model = load(out)
    weight = model.state_dict()[KEY]
    assert weight.isnan().all()
    assert torch.equal(weight.view(torch.int64).view(-1), bits)


@pytest.mark.parametrize(("saved", "loaded"), [(VIT, "ViTModel"), ("ViTModel", VIT)])
@pytest.mark.parametrize("saves", ["original", "swapped"])
def test_a_base_model_reads_the_file_of_a_head_and_the_reverse(
    saved: str, loaded: str, saves: str, tmp_path: Path
) -> None:
    folder = original(saved, tmp_path / "in")
    out = swapped(folder, LAYOUTS[1])
    torch.manual_seed(0)  # the head is made up
    with swapped_weights(out, saves=saves):
        model = load(out, loaded)
    torch.manual_seed(0)
    plain = load(folder, loaded)
    assert raw(model.state_dict()) == raw(plain.state_dict())
    want = raw(stored(save(plain, tmp_path / "plain")))
    have = raw(stored(save(model, tmp_path / "again")))
    assert have.keys() == want.keys()
    differing = {key for key in want if want[key] != have[key]}
    assert differing == (
        {key for key in want if key.endswith(PATCH)} if saves == "swapped" else set()
    )


def test_an_original_file_is_read_as_it_is(vit: Path, tmp_path: Path) -> None:
    out = swapped(vit, LAYOUTS[1])
    with swapped_weights(out):
        model = load(vit)
    assert raw(stored(save(model, tmp_path / "again"))) == raw(stored(vit))
    with swapped_weights(vit):  # without a recipe there is nothing to convert
        assert is_refused(out)
        assert raw(load(vit).state_dict()) == raw(model.state_dict())


@pytest.mark.parametrize("options", [{}, {"ignore_mismatched_sizes": True}])
def test_automatic_classes_and_another_dtype(options: dict[str, Any], vit: Path) -> None:
    out, auto = swapped(vit, LAYOUTS[1]), transformers.AutoModelForImageClassification
    want = auto.from_pretrained(vit, dtype=torch.bfloat16)
    with swapped_weights(out):
        model = auto.from_pretrained(str(out), dtype=torch.bfloat16, **options)
    assert type(model) is type(want)
    assert raw(model.state_dict()) == raw(want.state_dict())


def test_a_linear_layer_that_became_a_conv(vit: Path, tmp_path: Path) -> None:
    out = tmp_path / "conv"
    cs.swap(vit, out, to="conv", method="1x1", layers=("classifier",))
    assert stored(out)["classifier.weight"].dim() == 4
    assert is_refused(out)
    with swapped_weights(out):
        model = load(out)
    assert raw(stored(save(model, tmp_path / "again"))) == raw(stored(vit))


def everyones() -> list[str]:
    return [repr(entry) for entry in conversion_mapping.get_checkpoint_conversion_mapping("legacy")]


def test_nothing_stays_behind(vit: Path) -> None:
    out, before = swapped(vit), everyones()
    with swapped_weights(out):
        assert everyones()[:-1] == before
    assert everyones() == before
    with pytest.raises(KeyError), swapped_weights(out):
        raise KeyError
    assert everyones() == before
    assert is_refused(out)


def test_contexts_in_each_other(vit: Path, tmp_path: Path) -> None:
    out, swin = swapped(vit), "SwinForImageClassification"
    other = swapped(original(swin, tmp_path / "swin"), LAYOUTS[1])
    with swapped_weights(out):
        with swapped_weights(other):
            assert not is_refused(out)
            assert not is_refused(other, swin)
        assert not is_refused(out)
        assert is_refused(other, swin)
        with swapped_weights(out, saves="swapped"):
            inner = load(out)
        outer = load(out)
    assert raw(stored(save(inner, tmp_path / "inner"))) == raw(stored(out))
    assert raw(stored(save(outer, tmp_path / "outer"))) == raw(stored(vit))


def test_the_name_in_one_checkpoint_ends_like_that_in_another(tmp_path: Path) -> None:
    name = "Qwen2VLForConditionalGeneration"
    whole, tower = qwen(name, tmp_path / "whole"), qwen(name, tmp_path / "tower", tower=True)
    with swapped_weights(out := swapped(whole)), swapped_weights(swapped(tower)):
        assert raw(load(out, name).state_dict()) == raw(load(whole, name).state_dict())


def in_a_thread(work: Callable[[], object]) -> object:
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    thread.join()
    (result,) = found
    return result


def test_threads_do_not_hear_of_each_other(vit: Path) -> None:
    out = swapped(vit)

    def alone() -> bool:
        before = is_refused(out)
        with swapped_weights(out):
            return before and not is_refused(out)

    with swapped_weights(out):
        assert in_a_thread(lambda: is_refused(out))
        assert in_a_thread(alone)
        assert not is_refused(out)
    assert is_refused(out)


def test_a_copied_model_saves_the_same(vit: Path, tmp_path: Path) -> None:
    out = swapped(vit, LAYOUTS[1])
    with swapped_weights(out, saves="swapped"):
        model = load(out)
    for number, again in enumerate([copy.deepcopy(model), pickle.loads(pickle.dumps(model))]):
        assert raw(stored(save(again, tmp_path / str(number)))) == raw(stored(out))


def metadata(folder: Path) -> dict[str, str]:
    with safe_open(folder / "model.safetensors", "pt") as opened:
        found: dict[str, str] = opened.metadata()
    return found


def rerecorded(folder: Path, change: Callable[[list[Any]], object]) -> Path:
    """Write the file with another recipe."""
    kept = metadata(folder)
    recipe = json.loads(kept[METADATA_KEY])
    change(recipe["steps"])
    kept[METADATA_KEY] = json.dumps(recipe)
    safetensors_torch.save_file(stored(folder), folder / "model.safetensors", kept)
    return folder


def test_steps_that_undo_each_other_need_no_conversion(vit: Path, tmp_path: Path) -> None:
    out = swapped(vit)
    cs.swap(out, tmp_path / "again", to="conv", layers=("*.projection",))
    assert METADATA_KEY in metadata(tmp_path / "again")
    before = everyones()
    with swapped_weights(tmp_path / "again"):
        assert everyones() == before
        assert raw(load(tmp_path / "again").state_dict()) == raw(load(vit).state_dict())


def test_steps_that_are_no_single_rearrangement(vit: Path) -> None:
    def add(steps: list[Any]) -> None:
        kernel = {"kernel": [16, 1], "stride": [16, 1]}
        steps.append({**steps[0], "layout": LAYOUTS[0], "from": steps[0]["to"]})
        steps[1]["to"] = {"form": "conv2d", "shape": [16, 3, 16, 1]}
        steps[1]["geometry"] = {**steps[0]["geometry"], **kernel}

    out = rerecorded(swapped(vit, LAYOUTS[1]), add)
    assert code_of(out) == "CS082"  # the file is still that of the first step
    tensors, kept = stored(out), metadata(out)
    tensors[KEY] = tensors[KEY].reshape(16, 3, 16, 1)
    safetensors_torch.save_file(tensors, out / "model.safetensors", kept)
    assert code_of(out) == "CS084"


def test_a_wrong_layout_is_another_weight(vit: Path) -> None:
    out = rerecorded(swapped(vit), lambda steps: steps[0].update(layout=LAYOUTS[1]))
    with swapped_weights(out):
        wrong = load(out)
    want, have = raw(load(vit).state_dict()), raw(wrong.state_dict())
    assert [key for key in want if want[key] != have[key]] == [KEY]


def test_one_checkpoint_is_not_read_by_the_recipe_of_another(vit: Path, tmp_path: Path) -> None:
    last = swapped(vit, LAYOUTS[1]).rename(tmp_path / "last")
    first = swapped(vit, LAYOUTS[0]).rename(tmp_path / "first")
    want = raw(load(vit).state_dict())
    with swapped_weights(first):
        assert is_refused(last)
        with swapped_weights(last):
            assert raw(load(first).state_dict()) == raw(load(last).state_dict()) == want
    with swapped_weights(last), swapped_weights(first):
        assert raw(load(first).state_dict()) == raw(load(last).state_dict()) == want


def test_a_file_that_changed_since_is_refused_by_the_library(vit: Path) -> None:
    out = swapped(vit)
    with swapped_weights(out):
        tensors = stored(out)
        tensors[KEY] = tensors[KEY].T.contiguous()
        safetensors_torch.save_file(tensors, out / "model.safetensors", {"format": "pt"})
        with pytest.raises(RuntimeError):
            load(out)


def test_a_tensor_of_another_shape_is_none_of_the_file(tmp_path: Path) -> None:
    moves = (between((4, 12), (4, 3, 2, 2), LAYOUTS[1]),)
    way = Way("", "a", ("a",), "a", moves, folder=tmp_path)
    model = SimpleNamespace(name_or_path=str(tmp_path))
    with pytest.raises(ValueError, match=re.escape("[12, 4] is not [4, 12]")):
        Reshape((way,)).convert({"a": [torch.zeros(12, 4)]}, full_layer_name="a", model=model)


def code_of(path: Path, **options: Any) -> str:
    with pytest.raises(ConvsurgeonError) as caught, swapped_weights(path, **options):
        pytest.fail("it was taken")
    assert str(path) in str(caught.value) or options
    return caught.value.code


def test_what_is_refused(vit: Path) -> None:
    out, before = swapped(vit), everyones()
    assert code_of(out, saves="both") == "CS090"
    fused = reconfigured(out, fusion_config={"patch_embeddings": True})
    assert code_of(fused) == "CS084"
    reconfigured(out, fusion_config=None, patch_size=8)
    assert code_of(out) == "CS084"
    reconfigured(out, patch_size=4, architectures=["ThisIsNoModel"])
    assert code_of(out) == "CS062"
    reconfigured(out, architectures=["DeiTModel"], model_type="deit", image_size=30)
    assert code_of(out) == "CS084"
    (out / "config.json").unlink()
    assert code_of(out) == "CS062"
    rerecorded(out, lambda steps: steps[0].update(layout="c p2 p1"))
    assert code_of(out) == "CS082"
    assert everyones() == before


@pytest.mark.parametrize("name", ["register_checkpoint_conversion_mapping", "get_model_conversion_mapping"])  # fmt: skip
def test_a_transformers_without_tables(
    name: str, vit: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = swapped(vit)
    legacy = conversion_mapping.get_checkpoint_conversion_mapping("legacy")
    conversion_mapping.register_checkpoint_conversion_mapping("legacy", legacy, overwrite=True)
    with monkeypatch.context() as patch:
        patch.delattr(conversion_mapping, name)
        with pytest.raises(MismatchError, match="CS084"), swapped_weights(out):
            pytest.fail("it was taken")
    with swapped_weights(out):
        assert not is_refused(out)


def test_no_transformers_at_all(vit: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = swapped(vit)
    monkeypatch.setitem(sys.modules, "transformers", None)
    assert code_of(out) == "CS062"


NAMES = st.lists(st.sampled_from(["a", "b", "weight"]), min_size=1, max_size=4).map(".".join)


@given(st.sets(NAMES, min_size=1), st.sampled_from(["", "a", "b"]))
def test_a_pattern_is_one_name_of_the_model(names: set[str], prefix: str) -> None:
    for name in names:
        last = name.rpartition(".")[2]
        pattern = re.compile(Way(beginning(name, last, prefix, names), last, (last,), last).source)
        assert [other for other in names if pattern.search(other)] == [name]
        assert not pattern.search(f"{name}.more")
        assert not pattern.search(f"{name}s")
