"""Running whole models side by side: every output, every layer, and the yardstick."""

from __future__ import annotations

import math
import random
from copy import deepcopy
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from convsurgeon.errors import ModelError
from convsurgeon.proof.moves import ModelInputs, Move, moves
from convsurgeon.proof.watch import common_layers
from convsurgeon.proof.whole import run_models
from tests.whole_cases import OUTPUTS, Model, Opaque, damage, image, run, swap, within


@pytest.mark.parametrize("kind", OUTPUTS)
def test_every_tensor_of_an_output_has_a_name(kind: str) -> None:
    finish, names = OUTPUTS[kind]
    model = Model(finish)
    found = run(model)
    assert [one.name for one in found.outputs] == names
    assert within(found)
    assert found.notes == ()
    refuted = run(model, damage(swap(model)))
    assert [one.name for one in refuted.outputs if one.within] == (["1"] if kind == "empty" else [])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_a_true_swap_and_a_wrong_one_in_every_dtype(dtype: torch.dtype) -> None:
    model = Model().to(dtype)
    assert within(run(model, x=image(dtype), allowed=4.0))
    wrong = run(model, damage(swap(model)), x=image(dtype), allowed=4.0)
    assert not within(wrong)
    assert [layer.name for layer in wrong.layers if not layer.within] == ["proj", "head"]


def test_one_wrong_output_among_others_is_seen() -> None:
    model = Model(lambda y: (y, y[..., :1]))
    other = swap(model)
    other.finish = lambda y: (y, y[..., 1:2])
    assert [one.within for one in run(model, other).outputs] == [True, False]


DIFFERENT: dict[str, tuple[Any, Any, str]] = {
    "another shape": (lambda y: y, lambda y: y[:1], r"shape \[2, 4, 5\] became \[1, 4, 5\]"),
    "another dtype": (lambda y: y, lambda y: y.double(), "torch.float32 became torch.float64"),
    "NaN on one side": (lambda y: y, lambda y: y / (y > 0) * 0, "NaN at other places"),
    "NaN at other places": (
        lambda y: y.masked_fill(y > 0, torch.nan), lambda y: y.masked_fill(y < 0, torch.nan), "NaN at other places: 40 of 40",
    ),
    "NaN and nothing else": (lambda y: y * torch.nan, lambda y: y * torch.nan, "nothing to compare"),
    "an output less": (lambda y: (y, y), lambda y: (y,), "returns no such tensor"),
    "an output more": (lambda y: (y,), lambda y: (y, y), "returns more than the original"),
    "other integers": (lambda y: y.argmax(-1), lambda y: y.argmin(-1), "8 of 8 integers differ"),
    "other large integers": (
        lambda y: torch.full((3,), 2**62), lambda y: torch.full((3,), 2**62 + 1), "3 of 3 integers differ",
    ),
    "another truth": (lambda y: y > 0, lambda y: y > 1e9, "integers differ"),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_structure_that_differs_is_a_no(name: str) -> None:
    finish, other_finish, words = DIFFERENT[name]
    model = Model(finish)
    other = swap(model)
    other.finish = other_finish
    wrong = [one for one in run(model, other).outputs if not one.within]
    assert len(wrong) == 1
    with pytest.raises(AssertionError, match=words):
        raise AssertionError(wrong[0].note)


def test_integers_and_infinities_that_are_equal() -> None:
    found = run(Model(lambda y: (y.argmax(-1), y > 0, y.masked_fill(y > 0, torch.inf))))
    assert within(found)
    assert [one.difference for one in found.outputs[:2]] == [0.0, 0.0]


def test_an_overflow_is_no_yardstick() -> None:
    model = Model(lambda y: torch.where(y == y.detach().max(), torch.inf, y))
    other = swap(model)
    other.finish = lambda y: torch.full_like(y, torch.inf)
    found = run(model, other).outputs[0]
    assert found.difference == float("inf") > found.yardstick > 0
    assert not found.within


@pytest.mark.parametrize(
    "finish", [lambda y: None, lambda y: "text", lambda y: [3, {}], lambda y: y[:0]]
)
def test_a_model_that_returns_no_tensor(finish: Any) -> None:
    with pytest.raises(ModelError, match="no tensor") as caught:
        run(Model(finish))
    assert caught.value.code == "CS064"


def test_what_is_not_compared_is_said() -> None:
    assert run(Model(lambda y: {"y": y, "cache": Opaque()})).notes == (
        "output cache is a Opaque and is not compared",
    )


def test_random_numbers_of_a_forward_are_the_same_for_both() -> None:
    model = Model(lambda y: y + torch.rand_like(y))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = run(model)
    assert within(found)
    assert found.notes == ()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_forward_that_cannot_be_repeated_is_noted() -> None:
    drawn = random.Random(0)
    noisy = Model(lambda y: y + 1e-3 * drawn.random())
    found = run(noisy)
    (note,) = found.notes
    assert note.startswith("output 0: two runs of the original on one input differ by ")
    assert found.outputs[0].yardstick > 1e-5
    assert within(found)


class Twice(Model):
    """Calls its projection twice, the second time on something larger."""

    def forward(self, x: Tensor) -> Any:
        return self.proj(x).sum() + self.proj(100 * x).sum()


def test_of_a_module_that_is_called_twice_the_largest_drift_counts() -> None:
    model = Twice()
    other = swap(model)
    calls = []

    def second(_: Any, __: Any, output: Tensor) -> Tensor:
        calls.append(0)
        return output + len(calls) - 1 if len(calls) < 3 else output

    other.proj.register_forward_hook(second)
    (layer,) = run(model, other).layers
    assert layer.difference == pytest.approx(1, rel=1e-3)
    assert layer.scale > 50


def test_a_module_that_is_called_less_often_is_seen() -> None:
    model = Twice()
    other = swap(model)
    other.forward = lambda x: 2 * other.proj(x).sum()
    (layer,) = run(model, other).layers
    assert "less often" in layer.note
    assert not layer.within


class Tied(Model):
    """One module under two names, and one weight in two modules."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.head
        self.last = nn.Linear(8, 5)
        self.last.weight = self.head.weight

    def forward(self, x: Tensor) -> Any:
        y = self.proj(x).flatten(2).transpose(1, 2)
        return self.head(y) + self.again(y) + self.last(y)


def test_tied_modules() -> None:
    found = run(Tied())
    assert within(found)
    assert [layer.name for layer in found.layers] == ["proj", "head", "last"]


class Overwriting(Model):
    """Writes to its input, and to what its layers return."""

    def forward(self, x: Tensor) -> Any:
        y = self.proj(x)
        x.zero_()
        nn.functional.relu_(y)
        return self.head(y.flatten(2).transpose(1, 2).mul_(2))


def test_what_a_model_overwrites_is_compared_as_it_was() -> None:
    x = image()
    before = x.args[0].clone()
    found = run(Overwriting(), x=x)
    assert within(found)
    assert torch.equal(x.args[0], before)
    seen = Model().proj(before).detach()
    assert found.layers[0].scale == pytest.approx(float(seen.abs().max()))


def test_hooks_are_gone_afterwards() -> None:
    model = Model()
    other = swap(model)
    run(model, other)
    modules = [*model.modules(), *other.modules()]
    assert not any(module._forward_hooks for module in modules)
    with pytest.raises(RuntimeError):
        run(model, other, x=ModelInputs((torch.zeros(1, 7),), {}))
    assert not any(module._forward_hooks for module in modules)


class Text(nn.Module):
    """Tokens in, scores out: nothing of the input can move by a last place."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = nn.Embedding(10, 8)
        self.head: nn.Module = nn.Linear(8, 5)

    def forward(self, ids: Tensor) -> Tensor:
        scores: Tensor = self.head(self.table(ids))
        return scores


def test_of_tokens_their_vectors_are_moved() -> None:
    from convsurgeon.nn import FlatConv2d

    model = Text().eval()
    other = deepcopy(model)
    other.head = FlatConv2d.from_linear(other.head, 2, 2)
    x = ModelInputs((), {"ids": torch.arange(10)[None]})
    found = run_models(model, other, x)
    assert found.outputs[0].yardstick > 0
    assert within(found)
    with torch.no_grad():
        other.head.weight[0, 0] *= 2
    assert not within(run_models(model, other, x))


class Bytes(Model):
    """Takes pixels as integers."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x.float())


def test_without_anything_to_move_the_yardstick_is_a_last_place_of_the_output() -> None:
    x, model = ModelInputs((image().args[0].mul(8).long(),), {}), Bytes()
    found = run(model, x=x)
    (output,) = found.outputs
    assert output.yardstick == 2.0 ** (math.floor(math.log2(output.scale)) - 23)
    assert within(found)
    assert found.notes[0].startswith("nothing moves with a last place of the input")
    assert not within(run(model, damage(swap(model)), x=x))


@given(
    seed=st.integers(0, 2**31),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
)
@settings(max_examples=20)
def test_the_yardstick_of_a_model_that_depends_on_its_input_is_positive(
    seed: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(seed)
    model = Model().to(dtype)
    x = ModelInputs((torch.randn(2, 3, 8, 8).to(dtype),), {})
    found = run(model, x=x)
    assert all(0 < one.yardstick < one.scale for one in found.outputs)
    assert all(0 < one.yardstick < one.scale for one in found.layers)


@given(
    number=st.floats(-1e4, 1e4, width=16),
    dtype=st.sampled_from([torch.float64, torch.float32, torch.bfloat16, torch.float16]),
    seed=st.integers(0, 99),
)
@settings(max_examples=50)
def test_a_move_goes_to_a_neighbour(number: float, dtype: torch.dtype, seed: int) -> None:
    x = torch.full((4,), number).to(dtype)
    for sign in (1, -1, 0):
        moved = Move(sign, seed).of(x)
        assert moved.dtype == dtype
        assert bool((moved != x).all())
        between = (x.double() + moved.double()) / 2
        assert bool(((between.to(dtype) == x) | (between.to(dtype) == moved)).all())
        if sign:
            assert bool(((moved > x) if sign > 0 else (moved < x)).all())


def test_moves_are_up_down_and_drawn() -> None:
    x = torch.ones(1000)
    ways = [(move.of(x) > x).double().mean().item() for move in moves(4, 0)]
    assert ways[:2] == [1.0, 0.0]
    assert all(0.4 < way < 0.6 for way in ways[2:])
    assert Move(0, 7).of(torch.arange(3)).tolist() == [0, 1, 2]


LAYERS = [
    (["", "a", "b"], ["", "a", "b"], ("a", "b")),
    (["", "a", "a.b"], ["", "a", "a.b"], ("a.b",)),
    (["", "proj"], ["", "proj", "proj.linear"], ("proj",)),
    (["", "proj", "proj.linear"], ["", "proj"], ("proj",)),
    (["", "a", "a.b", "a.b.c"], ["", "a"], ("a",)),
    (["", "a", "c"], ["", "a", "b"], ("a",)),
    ([""], [""], ()),
]


@pytest.mark.parametrize(("first", "second", "expected"), LAYERS)
def test_layers_that_have_a_partner(
    first: list[str], second: list[str], expected: tuple[str, ...]
) -> None:
    assert common_layers(first, second) == common_layers(second, first) == expected
