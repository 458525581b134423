"""`load`: every form of file into every form of model, and what nobody can know is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch
from torch import nn

import convsurgeon as cs
from convsurgeon.errors import MismatchError
from tests.live_cases import close, contents

SIZE = 6 * 2 * 2
"""Features of the head."""
FIRST, LAST = LAYOUTS = ("c p1 p2", "p1 p2 c")


class Net(nn.Module):
    """A convolution of patches, one of kernel 1, and a Linear that takes what they make."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.proj: Any = nn.Conv2d(3, 8, (2, 3), (2, 3))
        self.point: Any = nn.Conv2d(8, 6, 1, bias=False)
        self.head: Any = nn.Linear(SIZE, 2 * SIZE + 3)
        self.double()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.point(self.proj(x)).flatten(1))
        return out


def image() -> torch.Tensor:
    generator = torch.Generator().manual_seed(7)
    return torch.randn(3, 3, 5, 6, dtype=torch.float64, generator=generator)


TO_LINEAR: dict[str, Any] = {"geometry": ["proj=s2x3", "point=s1"]}
TO_CONV: dict[str, Any] = {"to": "conv", "layers": ["head"]}
KERNEL, POINT = {"input_shape": ["head=6x2x2"]}, {"method": "1x1"}
FILES: dict[str, list[dict[str, Any]]] = {
    "original": [],
    "linear": [TO_LINEAR],
    "linear, channels last": [{**TO_LINEAR, "layout": LAST}],
    "child": [{**TO_LINEAR, "child_keys": True}],
    "child, channels last": [{**TO_LINEAR, "child_keys": True, "layout": LAST}],
    "there and back": [TO_LINEAR, {"to": "conv", "layers": ["proj", "point"], "layout": FIRST}],
    "child, there and back": [
        {**TO_LINEAR, "child_keys": True, "layout": LAST},
        {"to": "conv", "layers": ["proj.linear", "point.linear"]},
    ],
    "conv": [{**TO_CONV, **KERNEL}],
    "conv, channels last": [{**TO_CONV, **KERNEL, "layout": LAST}],
    "conv of one position": [{**TO_CONV, **POINT}],
    "both": [TO_LINEAR, {**TO_CONV, **KERNEL}],
}
MODELS: dict[str, list[dict[str, Any]]] = {
    "plain": [],
    "linear": [{}],
    "linear, channels last": [{"layout": LAST}],
    "gemm": [{"kind": "gemm"}],
    "conv": [TO_CONV_LIVE := {"to": "conv", "input_shape": ["head=6x2x2"]}],
    "conv of one position": [{"to": "conv", "method": "1x1"}],
    "gemm and conv": [{"kind": "gemm"}, TO_CONV_LIVE],
    "conv in parts": [{"to": "conv", "method": "1x1", "max_channels": SIZE}],
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("files")
    original = folder / "in.safetensors"
    safetensors_torch.save_model(Net(), str(original))
    found = {}
    for name, swaps in FILES.items():
        path = original
        for number, options in enumerate(swaps):
            out = folder / f"{name} {number}.safetensors"
            cs.swap(path, out, verify="bits", **options)
            path = out
        found[name] = path
    return found


def model(form: str, seed: int = 1) -> Net:
    made = Net(seed)
    for options in MODELS[form]:
        cs.swap_module(made, **options)
    return made


TOUCHED = {"linear": {"proj", "point"}, "child": {"proj", "point"}, "conv": {"head"}, "both": {"proj", "point", "head"}}  # fmt: skip


def touched(file: str) -> set[str]:
    """The layers that a file has in another form."""
    word = file.replace(",", " ").split(maxsplit=1)[0]
    return set() if "back" in file else TOUCHED.get(word, set())


@pytest.mark.parametrize("form", MODELS)
@pytest.mark.parametrize("file", FILES)
def test_every_file_goes_into_every_model(file: str, form: str, files: dict[str, Path]) -> None:
    for kind in ("linear", "gemm", "keep"):
        made = model(form)
        before = {name: type(module) for name, module in made.named_children()}
        plain = {name for name in before if before[name].__module__.startswith("torch.")}
        report = cs.load(made, files[file], kind=kind)
        expected = touched(file) & plain if kind != "keep" else set()
        assert {row.module for row in report.replaced} == expected
        changed = {n for n, m in made.named_children() if type(m) is not before[n]}
        assert changed == expected
        assert close(made(image()), Net()(image()))
        cs.restore_module(made)
        assert contents(made) == contents(Net())


def test_a_file_with_child_keys_is_plain_torch_to_a_model_in_linear_form(
    files: dict[str, Path],
) -> None:
    for layout, name in zip(LAYOUTS, ("child", "child, channels last"), strict=True):
        made = Net(seed=1)
        cs.swap_module(made, kind="linear", layout=layout)
        made.load_state_dict(safetensors_torch.load_file(files[name]), strict=True)
        assert close(made(image()), Net()(image()))


def rewritten(path: Path, out: Path) -> Path:
    """Write a file anew without its recipe."""
    safetensors_torch.save_file(safetensors_torch.load_file(path), out)
    return out


@pytest.mark.parametrize("form", ["linear", "linear, channels last", "gemm"])
def test_columns_in_an_order_that_nobody_states_are_refused(
    form: str, files: dict[str, Path], tmp_path: Path
) -> None:
    lost = rewritten(files["linear"], tmp_path / "lost.safetensors")
    made = model(form)
    before = contents(made)
    with pytest.raises(MismatchError, match="in which order the columns"):
        cs.load(made, lost)
    assert contents(made) == before


def test_another_form_without_a_recipe_is_refused(files: dict[str, Path], tmp_path: Path) -> None:
    for name in ("linear", "conv", "conv of one position", "child"):
        lost = rewritten(files[name], tmp_path / f"{name}.safetensors")
        for kind in ("linear", "keep"):
            with pytest.raises(MismatchError, match="CS084"):
                cs.load(Net(), lost, kind=kind)


def tied() -> Any:
    made = nn.Sequential(*(nn.Conv2d(3, 3, 2, 2) for _ in range(2)))
    made[1].weight = made[0].weight
    return made.double()


def test_what_swap_module_keeps_is_kept(tmp_path: Path) -> None:
    path, out = tmp_path / "in.safetensors", tmp_path / "out.safetensors"
    torch.manual_seed(0)
    original = tied()
    safetensors_torch.save_model(original, str(path))
    cs.swap(path, out, geometry=["*=s2"], layout=LAST)
    for kind in ("linear", "gemm"):
        made, calls = tied(), list[str]()
        handle = made[1].register_forward_hook(lambda *_, calls=calls: calls.append("called"))
        made[0].note = "kept"
        report = cs.load(made, out, kind=kind)
        assert sorted(row.module for row in report.replaced) == ["0", "1"]
        weights = [getattr(m, "linear", m).weight for m in made]
        assert weights[0] is weights[1]
        x = torch.randn(1, 3, 8, 8, dtype=torch.float64)
        assert close(made(x), original(x))
        handle.remove()
        made(x)
        assert calls == ["called"]
        assert made[0].note == "kept"
        cs.restore_module(made)
        assert made[0].weight is made[1].weight
        assert contents(made) == contents(original)
