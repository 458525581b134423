"""Tied weights: a head that is the embedding's matrix, in a live model and in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.errors import MismatchError, NothingToDoError, UsageError
from convsurgeon.nn import FlatConv2d, SplitConv
from tests.cli_helpers import document, invoke
from tests.live_cases import TO_CONV, close, refusal, rows, standing

UNTIE: dict[str, Any] = {**TO_CONV, "untie": True}
SOURCE = """
from tests.test_untie import Tied as build
"""


class Tied(nn.Module):
    """Looks words up in the matrix by which its head multiplies."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(9, 4, dtype=torch.float64)
        self.body = nn.Linear(4, 4, dtype=torch.float64)
        self.head: Any = nn.Linear(4, 9, bias=False, dtype=torch.float64)
        self.head.weight = self.embed.weight

    def forward(self, input_ids: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.body(self.embed(input_ids))))
        return out


WORDS = torch.tensor([[0, 3, 8], [1, 1, 2]])


def test_a_tied_head_stays_unless_it_is_untied() -> None:
    code, reason = refusal(Tied(), "head", **TO_CONV, where=lambda name, _: name == "head")
    assert code == "CS016"
    assert reason == "its weight is also used by Embedding, which would keep the old one"


@pytest.mark.parametrize("more", [{}, {"channels_first": "memory"}, {"max_channels": 4}])
def test_untied_the_head_has_a_copy_and_the_plan_says_so(more: dict[str, Any]) -> None:
    model, plain = Tied(), Tied()
    model(WORDS).sum().backward()
    gradient, table = model.embed.weight.grad, model.embed.weight
    (plan,) = cs.swap_module(model, **UNTIE, **more).files
    assert close(model(WORDS), plain(WORDS))
    row = next(row for row in plan.layers if row.module == "head")
    assert row.reason.endswith("untied, now a copy: its weight is also used by Embedding")
    assert [note for note in plan.notes if note.startswith("untied: a library that ties weights")]
    assert model.embed.weight is table
    assert table.grad is gradient
    assert all(one.grad is None for one in model.head.parameters())
    before = model(WORDS)
    with torch.no_grad():
        next(model.head.parameters()).zero_()
    assert torch.equal(table, plain.embed.weight)
    assert not close(model(WORDS), before)


def test_the_way_back_gives_the_bits_and_not_the_tie() -> None:
    model = Tied()
    cs.swap_module(model, **UNTIE)
    assert cs.restore_module(model).refused == ()
    assert type(model.head) is nn.Linear
    assert torch.equal(model.head.weight, Tied().head.weight)
    assert model.head.weight is not model.embed.weight


def test_two_heads_that_were_one_stay_one() -> None:
    model: Any = Tied()
    model.second = nn.Linear(4, 9, bias=False, dtype=torch.float64)
    model.second.weight = model.embed.weight
    cs.swap_module(model, **UNTIE)
    assert model.second.weight is model.head.weight
    assert model.second.weight.data_ptr() != model.embed.weight.data_ptr()
    other: Any = Tied()
    other.second = nn.Linear(4, 9, bias=False, dtype=torch.float64)
    other.second.weight = other.embed.weight
    cs.swap_module(other, **UNTIE, max_channels=4)
    assert isinstance(other.second, SplitConv)
    assert [id(p) for p in other.second.parameters()] == [id(p) for p in other.head.parameters()]


def test_what_is_not_tied_is_not_copied() -> None:
    model = Tied()
    old = model.body.weight.data_ptr()
    (plan,) = cs.swap_module(model, **UNTIE, where=lambda name, _: name == "body").files
    assert model.body.weight.data_ptr() == old
    assert not [note for note in plan.notes if "untied" in note]
    assert "untied" not in rows(cs.Plan((plan,)))["body"].reason


def test_biases_that_are_one_before_they_are_cut() -> None:
    model: Any = nn.Sequential(nn.Linear(4, 9), nn.Linear(4, 9), nn.Linear(4, 9))
    model[2].bias = model[0].bias
    assert len(cs.swap_module(model, **TO_CONV, max_channels=4).files[0].rewrites) == 3
    joined = [[id(part.bias) for part in one.convs] for one in model]
    assert joined[0] == joined[2] != joined[1]
    cs.restore_module(model)
    assert model[0].bias is model[2].bias
    model[1] = nn.BatchNorm1d(9)
    model[1].bias = model[0].bias
    code, reason = refusal(model, **TO_CONV, max_channels=4)
    assert (code, "its bias is also used by BatchNorm1d" in reason) == ("CS016", True)


def file_of(folder: Path, *, twice: bool, head: bool = False) -> Path:
    """Save the model as its library would: once, or, as old files do, under both names."""
    (folder / "model.py").write_text(SOURCE)
    state = {name: tensor.clone() for name, tensor in Tied().state_dict().items()}
    if not twice:
        del state["embed.weight" if head else "head.weight"]
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def test_a_file_that_holds_both_is_rewritten_on_request(tmp_path: Path) -> None:
    path, out = file_of(tmp_path, twice=True), tmp_path / "out.safetensors"
    spec: dict[str, Any] = {**TO_CONV, "model": f"{tmp_path / 'model.py'}:build"}
    (row,) = [r for r in cs.scan(path, **spec).files[0].layers if r.module == "head"]
    assert (row.code, row.verdict.value) == ("CS016", "refused")
    (file,) = cs.swap(path, out, **spec, untie=True).files
    (row,) = [r for r in file.plan.layers if r.module == "head"]
    assert row.rewrite
    assert row.evidence
    assert "untied from embed.weight, which the file holds as well" in row.evidence[1]
    stored = load_file(out)
    assert stored["head.weight"].shape == (9, 4, 1, 1)
    assert torch.equal(stored["head.weight"].flatten(1), stored["embed.weight"])
    assert cs.verify(path, out).equivalent
    cs.restore(out, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_such_a_file_goes_into_a_model_that_is_untied_as_well(tmp_path: Path) -> None:
    path, out = file_of(tmp_path, twice=True), tmp_path / "out.safetensors"
    cs.swap(path, out, **UNTIE, model=f"{tmp_path / 'model.py'}:build")
    tied = Tied()
    before = standing(tied)
    with pytest.raises(MismatchError, match="its weight is also used by Embedding") as caught:
        cs.load(tied, out)
    assert "untie=True" in str(caught.value)
    assert standing(tied) == before
    model = Tied()
    cs.swap_module(model, **UNTIE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    cs.load(model, out)
    assert isinstance(model.head, FlatConv2d)
    assert close(model(WORDS), Tied()(WORDS))


@pytest.mark.parametrize("key", [None, "head.weight", "embed.weight"])
def test_whole_models_are_compared_through_such_a_file(key: str | None, tmp_path: Path) -> None:
    path, out = file_of(tmp_path, twice=True), tmp_path / "out.safetensors"
    spec = f"{tmp_path / 'model.py'}:build"
    cs.swap(path, out, **UNTIE, model=spec)
    if key is not None:
        state = load_file(out)
        with safe_open(out, "pt") as file:
            metadata = file.metadata()
        state[key].flatten()[5] += 1
        save_file(state, out, metadata)
    verdict = cs.verify(path, out, model=spec, input=["input_ids=2x3"])
    assert verdict.equivalent == (key is None)
    (model,) = verdict.models
    assert model.refused == ()


def test_a_file_that_stores_them_once_says_so(tmp_path: Path) -> None:
    """The embedding needs the matrix; there is no second tensor, and none is made up."""
    path, spec = file_of(tmp_path, twice=False), f"{tmp_path / 'model.py'}:build"
    code, report = document(
        *("swap", path, "--to", "conv", "--method", "1x1", "--untie", "--model", spec, "--json")
    )
    assert code == 0
    (file,) = report["files"]
    (note,) = (
        [n for n in file["plan"]["notes"] if "head.weight" in n]
        if "plan" in file
        else [n for n in file["notes"] if "head.weight" in n]
    )
    assert note == (
        "head.weight is stored once, as embed.weight: --untie can copy it in a live model only"
    )
    out = load_file(tmp_path / "model.conv.safetensors")
    assert {name: tensor.dim() for name, tensor in out.items()} == {
        "embed.weight": 2,
        "body.weight": 4,
        "body.bias": 1,
    }


def test_the_only_copy_under_the_heads_name_stays_a_matrix(tmp_path: Path) -> None:
    path, spec = file_of(tmp_path, twice=False, head=True), f"{tmp_path / 'model.py'}:build"
    with pytest.raises(NothingToDoError):
        cs.swap(path, tmp_path / "out.safetensors", **UNTIE, model=spec, layers=["head"])
    (row,) = [r for r in cs.scan(path, **UNTIE, model=spec).files[0].layers if r.module == "head"]
    assert row.code == "CS016"


def test_untying_goes_with_conv(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="it goes with --to conv"):
        cs.swap_module(Tied(), untie=True)
    ran = invoke("scan", file_of(tmp_path, twice=True), "--untie")
    assert ran.code == 2
    assert "--untie" in ran.err
