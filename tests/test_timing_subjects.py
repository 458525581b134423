"""Which layers are timed, each once, and on inputs of which size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import convsurgeon as cs
from convsurgeon.errors import RefusedError, UsageError
from convsurgeon.plan import FilePlan
from convsurgeon.sources.image_size import ImageSize
from convsurgeon.timing.subjects import read_size, subjects
from tests.cli_helpers import Tensor, f32, write

GEOMETRY = ["patch=s4", "video=s2", "line=s2", "blocks.*=s2", "odd=s2"]


def plan(folder: Path, **options: Any) -> FilePlan:
    tensors = {f"blocks.{i}.down.weight": f32((8, 8, 2, 2), i) for i in range(3)}
    tensors |= {"blocks.3.down.weight": f32((8, 8, 2, 2)), "blocks.3.down.bias": f32((8,))}
    tensors |= {"patch.weight": f32((6, 3, 4, 4)), "video.weight": f32((6, 3, 2, 2, 2))}
    tensors |= {"line.weight": f32((6, 3, 2)), "odd.weight": f32((6, 3, 3, 3))}
    tensors["half.weight"] = Tensor("BF16", (8, 8, 2, 2), bytes(512))
    geometry = [*GEOMETRY, "half=s2"]
    path = write(folder / "model.safetensors", tensors)
    (found,) = cs.scan(path, geometry=geometry, **options).files
    return found


def image(**changes: Any) -> ImageSize:
    return ImageSize(
        **{"sides": (32, 24), "channels": 3, "frames": None, "source": "it", **changes}
    )


def sizes(
    found: FilePlan, asked: tuple[int, ...] | None, stated: ImageSize | None
) -> dict[str, Any]:
    return {
        name: (one.subject.spatial, one.subject.size_source)
        for one in subjects(found, asked, stated)
        for name in one.modules
    }


def test_layers_that_are_the_same_are_timed_once(tmp_path: Path) -> None:
    found = {one.modules: one for one in subjects(plan(tmp_path), None, None)}
    alike = tuple(f"blocks.{i}.down" for i in range(3))
    assert set(found) == {
        alike, ("blocks.3.down",), ("half",), ("line",), ("patch",), ("video",),
    }  # fmt: skip
    one, biased, half = found[alike], found["blocks.3.down",], found["half",]
    assert (one.subject.bias, biased.subject.bias) == (False, True)
    assert (one.subject.dtype, half.subject.dtype) == ("F32", "BF16")
    assert one.evidence == ("user", "--geometry 'blocks.*=s2'")
    assert one.subject.weight_shape == (8, 8, 2, 2)
    assert one.subject.form == "conv2d"


def test_layers_that_are_left_out_are_not_timed(tmp_path: Path) -> None:
    found = plan(tmp_path, layers=["patch", "video"], exclude=["video"])
    assert [one.modules for one in subjects(found, None, None)] == [("patch",)]


def test_sizes_without_a_statement(tmp_path: Path) -> None:
    found = sizes(plan(tmp_path), None, None)
    assert found["patch"] == ((64, 64), "16×16 windows, since nothing states a size")
    assert found["line"] == ((512,), "256 windows, since nothing states a size")
    assert found["video"][0] == (2, 32, 32)


def test_a_config_speaks_about_layers_with_the_channels_of_its_images(tmp_path: Path) -> None:
    found = sizes(plan(tmp_path), None, image())
    assert found["patch"] == ((32, 24), "it")
    assert found["blocks.0.down"][0] == (32, 32)
    assert found["video"][0] == (2, 32, 32)
    assert found["line"][0] == (512,)
    video = sizes(plan(tmp_path), None, image(frames=8))
    assert (video["patch"][0], video["video"]) == ((32, 24), ((8, 32, 24), "it"))
    latent = sizes(plan(tmp_path), None, image(channels=8))
    assert (latent["patch"][0], latent["half"]) == ((64, 64), ((32, 24), "it"))


def test_a_config_with_smaller_images_than_the_kernel_says_nothing(tmp_path: Path) -> None:
    assert sizes(plan(tmp_path), None, image(sides=(32, 3)))["patch"][0] == (64, 64)


def test_the_user_speaks_about_all_layers_with_so_many_axes(tmp_path: Path) -> None:
    found = sizes(plan(tmp_path), (11, 13), image())
    assert found["patch"] == found["blocks.0.down"] == ((11, 13), "--input-size")
    assert found["line"][0] == (512,)


@pytest.mark.parametrize(
    ("asked", "says"),
    [((11, 3), "patch"), ((1, 1, 1, 1), "4 axes, the layers have 1 and 2 and 3"), ((1,), "line")],
)
def test_sizes_that_do_not_fit(asked: tuple[int, ...], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=says) as raised:
        subjects(plan(tmp_path), asked, None)
    assert (raised.value.code, raised.value.where) == ("CS090", "--input-size")


def test_sizes_as_they_are_typed() -> None:
    assert [read_size(text) for text in ("7", "224x224", "2x14x14")] == [
        (7,),
        (224, 224),
        (2, 14, 14),
    ]
    for wrong in ("", "x", "224x", "2.5", "-1", "224×224", "0x4", "1x2x3x"):
        with pytest.raises(UsageError, match="write 224x224") as raised:
            read_size(wrong)
        assert raised.value.code == "CS090"


def test_types_that_no_kernel_computes_in_run_in_another(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    write(path, {"p.weight": Tensor("F8_E4M3", (4, 3, 2, 2), bytes(48))})
    (found,) = cs.scan(path, geometry=["p=s2"]).files
    (one,) = subjects(found, None, None)
    assert (one.subject.dtype_in(None), one.subject.dtype_in("float32")) == ("bfloat16", "float32")


CONFIGS: list[tuple[dict[str, Any], tuple[Any, ...] | None]] = [
    ({"image_size": 224}, ((224, 224), 3, None, "config.json: image_size")),
    ({"image_size": [96, 64], "num_channels": 1}, ((96, 64), 1, None, "config.json: image_size")),
    ({"image_size": 24, "num_frames": 6}, ((24, 24), 3, 6, "config.json: image_size")),
    ({"vision_config": {"image_size": 336}}, ((336, 336), 3, None, "config.json: image_size")),
    ({"sample_size": 128, "in_channels": 16}, ((128, 128), 16, None, "config.json: sample_size")),
    (
        {"pretrained_cfg": {"input_size": [3, 518, 392]}},
        ((518, 392), 3, None, "config.json: input_size"),
    ),
    ({"input_size": [1, 8, 9]}, ((8, 9), 1, None, "config.json: input_size")),
    ({}, None),
    ({"hidden_size": 64}, None),
    ({"image_size": None}, None),
    ({"image_size": True}, None),
    ({"image_size": "224"}, None),
    ({"image_size": 224.0}, None),
    ({"image_size": 0}, None),
    ({"image_size": -3}, None),
    ({"image_size": 10**9}, None),
    ({"image_size": []}, None),
    ({"image_size": [1, 2, 3]}, None),
    ({"image_size": {"height": 3}}, None),
    ({"input_size": [224, 224]}, None),
    ({"vision_config": 3}, None),
    ({"image_size": 8, "num_channels": "x", "num_frames": []},
     ((8, 8), 3, None, "config.json: image_size")),
]  # fmt: skip


@pytest.mark.parametrize(("config", "expected"), CONFIGS, ids=str)
def test_what_configs_say(
    config: dict[str, Any], expected: tuple[Any, ...] | None, tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    found = ImageSize.beside(tmp_path / "model.safetensors")
    assert found == (None if expected is None else ImageSize(*expected))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=6,
)
FIELDS = ("image_size", "sample_size", "input_size", "num_channels", "num_frames", "vision_config")


@given(st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_config_breaks_it(config: dict[str, Any]) -> None:
    for found in ImageSize._in(config, "config.json"):
        values = (*found.sides, found.channels, found.frames or 1)
        assert len(found.sides) == 2
        assert all(type(value) is int and 0 < value <= 16_384 for value in values)


def test_no_config_and_a_broken_one(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    assert ImageSize.beside(path) is None
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(RefusedError, match="no JSON") as raised:
        ImageSize.beside(path)
    assert raised.value.code == "CS063"
