"""Models that are put together in unusual ways: they compute what they did, or a layer stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.api.live.inside import parameters_in
from convsurgeon.errors import MismatchError
from tests.live_cases import TO_CONV, refusal, rows


@pytest.mark.parametrize("options", [{}, TO_CONV], ids=["linear", "conv"])
def test_a_bias_that_is_a_buffer_is_refused(options: dict[str, Any]) -> None:
    one: Any = nn.Linear(6, 4) if options else nn.Conv2d(3, 4, 2, 2)
    del one._parameters["bias"]
    one.register_buffer("bias", torch.zeros(len(one.weight)))
    code, reason = refusal(nn.Sequential(one), **options)
    assert (code, reason) == ("CS024", "it holds a buffer bias beside its weight and bias")


class Versioned(nn.Module):
    """Takes what has no version for a state of its first, in which a gain was a hundredth."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, 4, 2, 2)
        self.gain = nn.Parameter(torch.ones(1))

    def _load_from_state_dict(
        self, state_dict: Any, prefix: str, local_metadata: Any, *more: Any
    ) -> None:
        if local_metadata.get("version", 1) < 2:
            state_dict[f"{prefix}gain"] = 100 * state_dict[f"{prefix}gain"]
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *more)


def test_a_state_dict_keeps_the_versions_of_its_modules() -> None:
    model = Versioned()
    cs.swap_module(model)
    state = cs.original_state_dict(model)
    assert list(state) == list(Versioned().state_dict())
    other = Versioned()
    other.load_state_dict(state)
    assert other.gain.item() == 1
    other.load_state_dict(dict(state))  # shows what is at stake
    assert other.gain.item() == 100


class Reader(nn.Module):
    """Has layers, one behind another; a subclass reads a weight in one of the ways of `READS`."""

    def __init__(self) -> None:
        super().__init__()
        self.one: Any = nn.Linear(4, 4)
        self.many: Any = nn.ModuleList([nn.Sequential(nn.Linear(4, 4))])
        self.many[0].inner = Inner()
        self.free: Any = nn.Sequential(Inner())


class Inner(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc(x.to(self.fc.weight.dtype))
        return out


def by_place(self: Any, x: Tensor) -> Any:
    return x @ self.many[0][0].weight.T


def by_variable(self: Any, x: Tensor) -> Any:
    one = self.one
    return x @ one.weight.T


def by_text(self: Any, x: Tensor) -> Any:
    return x @ getattr(self.one, "weight").T  # noqa: B009 - what is tested


def by_loop(self: Any, x: Tensor) -> Any:
    return sum(x @ fc.weight.T for fc in self.many[0] if isinstance(fc, nn.Linear))


def within_another(self: Any, x: Tensor) -> Any:
    for layer in self.many:
        x = x @ layer.inner.fc.weight.T
    return x


READS: dict[str, tuple[Callable[[Any, Tensor], Any], str]] = {
    "by its place in a list": (by_place, "many.0.0"),
    "behind a variable": (by_variable, "one"),
    "by a text": (by_text, "one"),
    "in a loop within": (by_loop, "many.0.0"),
    "within one of a list": (within_another, "many.0.inner.fc"),
}


@pytest.mark.parametrize(("read", "name"), READS.values(), ids=READS)
def test_a_weight_that_is_read_without_a_name(
    read: Callable[[Any, Tensor], Any], name: str
) -> None:
    """`x @ weight.T` of a weight with four axes is no error, only another result."""
    model: Any = type("OwnReader", (Reader,), {"forward": read})()
    x = torch.ones(2, 4)
    want = model(x)
    plan = rows(cs.swap_module(model, **TO_CONV))
    assert plan[name].code == "CS021"
    assert plan["free.0.fc"].rewrite
    assert torch.equal(model(x), want)


class Keeps(nn.Module):
    def __init__(self, child: Any, keep: Callable[[Any], object]) -> None:
        super().__init__()
        self.child = child
        self.keep = keep(child.weight)
        if isinstance(self.keep, nn.Parameter):  # which torch takes for one of the model's own
            vars(self)["keep"] = self._parameters.pop("keep")


KEEPS: dict[str, Callable[[Any], object]] = {
    "itself": lambda weight: weight,
    "list": lambda weight: [weight],
    "lists in a dict": lambda weight: {"decay": [(weight, 0.1)]},
}


@pytest.mark.parametrize("keep", KEEPS.values(), ids=KEEPS)
def test_a_weight_that_a_list_of_the_model_keeps(keep: Callable[[Any], object]) -> None:
    """A term of a loss that is computed of it would go on with the old parameter."""
    code, reason = refusal(Keeps(nn.Conv2d(3, 4, 2, 2), keep), "child")
    assert (code, "its weight is also used by Keeps" in reason) == ("CS016", True)
    assert refusal(Keeps(nn.Linear(4, 4), keep), "child", **TO_CONV)[0] == "CS016"
    same = Keeps(nn.Conv2d(3, 4, 2, 2), keep)
    assert rows(cs.swap_module(same, kind="gemm"))["child"].rewrite
    assert next(iter(parameters_in(same.keep))) is same.child.weight


def test_an_optimiser_is_made_again_anyway() -> None:
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 2, 2))
    model.optimiser = torch.optim.SGD(model.parameters())
    assert rows(cs.swap_module(model))["0"].rewrite


def renaming(_: nn.Module, state: Any, *more: Any) -> None:
    for name in list(state):
        state[f"net.{name}"] = state.pop(name)


def dropping(_: nn.Module, state: Any, *more: Any) -> None:
    for name in list(state):
        if name.startswith("0."):
            del state[name]


def test_hooks_on_a_state_dict_that_a_drop_in_is_in() -> None:
    """Under a new name nobody would find the weight, and the original class gets a matrix."""
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 2, 2), nn.Conv2d(4, 4, 3))
    cs.swap_module(model)
    handle = model.register_state_dict_post_hook(renaming)
    with pytest.raises(MismatchError, match=r"has no 0\.linear\.weight.*renames.*CS084"):
        cs.original_state_dict(model)
    handle.remove()
    model.register_state_dict_post_hook(dropping)
    assert list(cs.original_state_dict(model)) == ["1.weight", "1.bias"]


class Closed:
    """As proxies do it that stand for something else, or for nothing yet."""

    def __getattribute__(self, name: str) -> object:
        raise RuntimeError(name)

    __iter__ = None


def test_what_a_model_holds_is_not_asked_what_it_is() -> None:
    model: Any = nn.Sequential(nn.Conv2d(3, 4, 2, 2))
    vars(model)["closed"] = [Closed(), {"a": Closed()}]
    assert rows(cs.swap_module(model))["0"].rewrite
    assert cs.restore_module(model).refused == ()
