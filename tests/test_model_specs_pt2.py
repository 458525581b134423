"""`FILE.pt2`: exported programs, read as data."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="it exports the programs")

from torch import nn  # noqa: E402 (after the check that torch is there)
from torch.nn import functional  # noqa: E402
from torch.nn.utils import parametrizations  # noqa: E402

from convsurgeon.errors import ModelError  # noqa: E402
from convsurgeon.evidence import Level, Statement  # noqa: E402
from convsurgeon.geometry import Geometry  # noqa: E402
from convsurgeon.sources.build import build  # noqa: E402
from convsurgeon.sources.model import ModelSpeaker  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore")  # torch.export warns of its own internals


class Standard(nn.Conv2d):
    """Weight standardised in its forward."""

    def forward(self, x: Any) -> Any:
        return self._conv_forward(x, self.weight - self.weight.mean(), self.bias)


class Padding(nn.Conv2d):
    """Pads before it convolves."""

    def forward(self, x: Any) -> Any:
        return super().forward(functional.pad(x, (1, 1, 1, 1)))


class Gain(nn.Conv2d):
    """Computes exactly what its parent does, but is a class of its own."""


class Net(nn.Module):
    """One layer of every kind, beside each other."""

    def __init__(self, **layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleDict(layers)

    def forward(self, x: Any) -> Any:
        return [layer(x) for layer in self.layers.values()]


class Twice(nn.Module):
    """One weight, convolved at two strides."""

    def __init__(self, second: int) -> None:
        super().__init__()
        self.conv, self.second = nn.Conv2d(3, 4, 4, 4), second

    def forward(self, x: Any) -> Any:
        other = functional.conv2d(x, self.conv.weight, stride=self.second)
        return self.conv(x).mean() + other.mean()


class Scaled(nn.Module):
    """A weight that is read outside its layer too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 4, 4)

    def forward(self, x: Any) -> Any:
        return self.conv(x) * self.conv.weight.mean()


def exported(model: nn.Module, folder: Path, size: tuple[int, ...] = (2, 3, 16, 16)) -> Path:
    program = torch.export.export(model.eval(), (torch.zeros(size),))
    torch.export.save(program, folder / "model.pt2")
    return folder / "model.pt2"


def of_layers(folder: Path, **layers: nn.Module) -> ModelSpeaker:
    size = (2, 3, 16, 16)
    return build(str(exported(Net(**layers), folder, size)))


def test_geometries(tmp_path: Path) -> None:
    layers = {
        "plain": nn.Conv2d(3, 4, 4, 4),
        "rich": nn.Conv2d(3, 6, (2, 3), (1, 2), (0, 1), (2, 1), 3, bias=False),
        "valid": nn.Conv2d(3, 4, 2, 2, "valid"),
        "same1": nn.Conv2d(3, 4, 1, 1, "same"),
        "up": nn.ConvTranspose2d(3, 4, 2, 2),
        "uneven": nn.ConvTranspose2d(3, 3, 3, 2, 1, groups=3, dilation=2),
    }
    speaker = of_layers(tmp_path, **layers)
    live = ModelSpeaker.of(Net(**layers), "model.pt2")
    assert dict(speaker.layers) == dict(live.layers)
    key = "layers.plain.weight"
    assert speaker.for_names([key]).about(key, (4, 3, 4, 4)) == Statement(
        Level.MODEL, "model.pt2", "conv2d", Geometry.plain((4, 4), (4, 4))
    )


@pytest.mark.parametrize(
    ("layer", "size"),
    [
        (nn.Conv1d(3, 4, 2, 2), (2, 3, 8)),
        (nn.Conv3d(3, 4, (1, 2, 2), (1, 2, 2)), (2, 3, 2, 8, 8)),
        (nn.ConvTranspose1d(3, 4, 2, 2), (2, 3, 8)),
        (nn.ConvTranspose3d(3, 4, 2, 2), (2, 3, 2, 8, 8)),
        (nn.Linear(8, 5), (2, 8)),
    ],
)
def test_other_ranks(layer: nn.Module, size: tuple[int, ...], tmp_path: Path) -> None:
    speaker = build(str(exported(Net(a=layer), tmp_path, size)))
    assert dict(speaker.layers) == dict(ModelSpeaker.of(Net(a=layer), "model.pt2").layers)


REFUSED: list[tuple[Callable[[], nn.Module], str, str]] = [
    (lambda: nn.Conv2d(3, 4, 3, 1, "same"), "CS013", "same"),
    (lambda: nn.Conv2d(3, 4, 2, 2, 1, padding_mode="reflect"), "CS007", "more than"),
    (lambda: Padding(3, 4, 2, 2), "CS007", "Padding"),
    (lambda: Gain(3, 4, 2, 2), "CS007", "Gain"),
    (lambda: Standard(3, 4, 2, 2), "CS007", "not in a convolution"),
]


@pytest.mark.parametrize(("make", "code", "words"), REFUSED)
def test_refused(make: Callable[[], nn.Module], code: str, words: str, tmp_path: Path) -> None:
    refusal = of_layers(tmp_path, a=make()).layers["layers.a"].statement.refusal
    assert refusal is not None
    assert refusal.code == code
    assert words in refusal.reason


def test_a_computed_weight_has_no_layer(tmp_path: Path) -> None:
    speaker = of_layers(tmp_path, a=parametrizations.weight_norm(nn.Conv2d(3, 4, 2, 2)))
    key = "layers.a.parametrizations.weight.original1"
    assert key in speaker.names
    assert speaker.about(key, (4, 3, 2, 2)) is None


@pytest.mark.parametrize("hooked", [True, False])
def test_a_hook_leaves_operations(hooked: bool, tmp_path: Path) -> None:
    conv = nn.Conv2d(3, 4, 2, 2)
    if hooked:
        conv.register_forward_hook(lambda module, inputs, output: output * 2)
    refusal = of_layers(tmp_path, a=conv).layers["layers.a"].statement.refusal
    assert (refusal is not None) is hooked


@pytest.mark.parametrize("second", [2, 1])
def test_one_weight_at_two_strides(second: int, tmp_path: Path) -> None:
    speaker = build(str(exported(Twice(second), tmp_path)))
    refusal = speaker.layers["conv"].statement.refusal
    assert refusal is not None
    assert refusal.code == "CS016"


def test_a_weight_that_is_read_elsewhere(tmp_path: Path) -> None:
    refusal = build(str(exported(Scaled(), tmp_path))).layers["conv"].statement.refusal
    assert refusal is not None
    assert refusal.code == "CS016"


@pytest.mark.parametrize(("stride", "code"), [(4, None), (2, "CS016")])
def test_tied_layers(stride: int, code: str | None, tmp_path: Path) -> None:
    first, second = nn.Conv2d(3, 4, 4, 4), nn.Conv2d(3, 4, 4, stride)
    second.weight = first.weight
    layers = of_layers(tmp_path, a=first, b=second).layers
    assert set(layers) == {"layers.a", "layers.b"}
    refusals = [layer.statement.refusal for layer in layers.values()]
    assert [refusal and refusal.code for refusal in refusals] == [code, code]


def test_one_layer_that_runs_twice(tmp_path: Path) -> None:
    conv = nn.Conv2d(3, 4, 4, 4)
    layers = of_layers(tmp_path, a=conv, b=conv).layers
    assert all(layer.statement.refusal is None for layer in layers.values())
    assert all(layer.statement.geometry for layer in layers.values())


def altered(path: Path, member: str, change: Callable[[bytes], bytes]) -> Path:
    """Write the archive again with another member."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    name = next(name for name in content if name.endswith(member))
    content[name] = change(content[name])
    with zipfile.ZipFile(path, "w") as archive:
        for each, value in content.items():
            archive.writestr(each, value)
    return path


def version(content: bytes) -> bytes:
    data = json.loads(content)
    data["schema_version"]["major"] = 9
    return json.dumps(data).encode()


class Bomb:
    """What a hostile file would have unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return pytest.fail, ("code of the file was run",)


def test_nothing_of_the_file_is_run(tmp_path: Path) -> None:
    path = exported(Net(a=nn.Conv2d(3, 4, 4, 4)), tmp_path)
    config = "weights/model_weights_config.json"
    altered(path, config, lambda old: old.replace(b'"use_pickle": false', b'"use_pickle": true'))
    altered(path, "weight_0", lambda _: pickle.dumps(Bomb()))
    altered(path, "sample_inputs/model.pt", lambda _: pickle.dumps(Bomb()))
    assert build(str(path)).layers["layers.a"].statement.refusal is None


@pytest.mark.parametrize(
    ("member", "change", "words"),
    [
        ("models/model.json", version, "version 9, known is 8"),
        ("models/model.json", lambda old: old[: len(old) // 2], "JSONDecodeError"),
        ("models/model.json", lambda _: b"[]", "TypeError"),
        ("models/model.json", lambda _: b"{}", "KeyError"),
        ("weights/model_weights_config.json", lambda _: b"{}", "KeyError"),
    ],
)
def test_damaged_programs(
    member: str, change: Callable[[bytes], bytes], words: str, tmp_path: Path
) -> None:
    path = altered(exported(Net(a=nn.Conv2d(3, 4, 4, 4)), tmp_path), member, change)
    with pytest.raises(ModelError, match=words) as caught:
        build(str(path))
    assert caught.value.code == "CS062"
    assert "\n" not in str(caught.value)


def test_what_is_no_program(tmp_path: Path) -> None:
    path = tmp_path / "model.pt2"
    with pytest.raises(ModelError, match="FileNotFoundError"):
        build(str(path))
    path.write_bytes(b"no zip")
    with pytest.raises(ModelError, match="BadZipFile"):
        build(str(path))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("serialized_exported_program.json", "{}")
    with pytest.raises(ModelError, match=r"0 members \*/models/model\.json"):
        build(str(path))
