"""What `save_pretrained` of transformers writes of a model that was swapped in memory."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest

import convsurgeon as cs
from tests.test_pretrained import KINDS, VIT, drop_ins, plain, raising, same, stored
from tests.transformers_cases import build, quieten, save


@pytest.fixture
def original(tmp_path: Path) -> Path:
    quieten()
    return save(build(VIT), tmp_path / "original")


@pytest.mark.parametrize("options", [*KINDS.values()][:3], ids=[*KINDS][:3])
@pytest.mark.parametrize("loaded", [False, True])
def test_a_model_that_was_swapped_saves_what_it_was(
    loaded: bool, options: dict[str, Any], original: Path, tmp_path: Path
) -> None:
    model = plain(VIT, original) if loaded else build(VIT)
    before = set(vars(model))
    cs.swap_module(model, **options)
    model.save_pretrained(tmp_path / "out")
    assert same(stored(tmp_path / "out"), stored(original))
    assert same(plain(VIT, tmp_path / "out").state_dict(), cs.original_state_dict(model))
    for number, again in enumerate([copy.deepcopy(model), pickle.loads(pickle.dumps(model))]):
        again.save_pretrained(tmp_path / str(number))
        assert same(stored(tmp_path / str(number)), stored(original))
    inner = model.vit  # a base model saves its own, under its own names
    inner.save_pretrained(tmp_path / "base")
    assert same(
        plain("ViTModel", tmp_path / "base", add_pooling_layer=False).state_dict(),
        cs.original_state_dict(inner),
    )
    cs.restore_module(model)
    assert set(vars(model)) == before
    model.save_pretrained(tmp_path / "back")
    assert same(stored(tmp_path / "back"), stored(original))


@pytest.mark.parametrize("options", [*KINDS.values()][:3], ids=[*KINDS][:3])
def test_what_is_initialised_stays_so_where_a_parent_initialises(options: dict[str, Any]) -> None:
    """A model that has this one as a part calls `init_weights` when it is built."""
    model = build(VIT)
    cs.swap_module(model, **options)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.init_weights()
    assert same(model.state_dict(), before)


@pytest.mark.parametrize(
    ("options", "module"),
    [
        ({"to": "conv", "method": "1x1"}, "classifier"),
        ({"to": "conv", "method": "1x1", "max_channels": 16}, "classifier"),
    ],
)
def test_flat_convolutions_save_what_they_were(
    options: dict[str, Any], module: str, original: Path, tmp_path: Path
) -> None:
    model = build(VIT)
    cs.swap_module(model, where=lambda name, _: name == module, **options)
    assert drop_ins(model)
    model.save_pretrained(tmp_path / "out")
    assert same(stored(tmp_path / "out"), stored(original))


def test_a_weight_that_the_library_converts_itself(tmp_path: Path) -> None:
    core = pytest.importorskip("transformers.core_model_loading")
    model = build(VIT)
    name = "vit.embeddings.patch_embeddings.projection.weight"
    model._weight_conversions = [core.WeightConverter(name, name, [core.Transpose(0, 0)])]
    model.save_pretrained(tmp_path / "plain")
    cs.swap_module(model)
    with pytest.raises(ValueError, match="restore_module"):
        model.save_pretrained(tmp_path / "swapped")
    cs.restore_module(model)
    model.save_pretrained(tmp_path / "again")
    assert same(stored(tmp_path / "again"), stored(tmp_path / "plain"))


def test_the_state_dict_is_not_asked_for(original: Path) -> None:
    model = plain(VIT, original)
    model.register_state_dict_pre_hook(raising)
    cs.swap_module(model)
    cs.restore_module(model)
    with pytest.raises(MemoryError):
        model.state_dict()
