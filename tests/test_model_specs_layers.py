"""What stands against a live layer although its class is torch's own, and what does not."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="layers are its modules")

from torch import nn  # noqa: E402 (after the check that torch is there)
from torch.nn.utils import parametrizations  # noqa: E402

from convsurgeon.errors import ContradictionError  # noqa: E402
from convsurgeon.evidence import Statement  # noqa: E402
from convsurgeon.sources.model import ModelSpeaker  # noqa: E402

CONV = (4, 3, 2, 2)


def statement(module: nn.Module) -> Statement:
    return ModelSpeaker.of(nn.ModuleDict({"a": module}), "m").layers["a"].statement


class Watch:
    """A hook that is an object."""

    def __call__(self, *_: object) -> None:
        return None


def hook(*_: object) -> None:
    return None


Hang = Callable[[nn.Module], Any]
HOOKS: list[Hang] = [
    lambda conv: conv.register_forward_hook(hook),
    lambda conv: conv.register_forward_pre_hook(hook),
    lambda conv: conv.register_forward_pre_hook(lambda *_: None),
    lambda conv: conv.register_forward_hook(Watch()),
    lambda conv: conv.register_forward_hook(hook, with_kwargs=True),
]


@pytest.mark.parametrize("hang", HOOKS)
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_hook_of_somebody_else(hang: Hang, kind: Any) -> None:
    conv = kind(3, 3, 2, 2)
    assert statement(conv).refusal is None
    hang(conv)
    refusal = statement(conv).refusal
    assert refusal is not None
    assert (refusal.code, "hook" in refusal.reason) == ("CS007", True)


def test_a_removed_hook_and_one_on_the_parent() -> None:
    conv = nn.Conv2d(3, 4, 2, 2)
    conv.register_forward_hook(hook).remove()
    parent = nn.Sequential(conv)
    parent.register_forward_hook(hook)
    assert ModelSpeaker.of(parent, "m").layers["0"].statement.refusal is None


def test_a_hook_of_torch_itself_says_what_it_is() -> None:
    refusal = statement(nn.utils.spectral_norm(nn.Conv2d(3, 4, 2, 2))).refusal
    assert refusal is not None
    assert refusal.code == "CS008"
    plain = parametrizations.spectral_norm(nn.Conv2d(3, 4, 2, 2))
    nn.utils.parametrize.remove_parametrizations(plain, "weight")
    assert statement(plain).refusal is None


def test_one_module_under_two_names_is_said() -> None:
    conv = nn.Conv2d(3, 4, 2, 2)
    root = nn.ModuleDict({"a": conv, "b": nn.ModuleDict({"c": conv}), "d": nn.Conv2d(3, 4, 2, 2)})
    layers = ModelSpeaker.of(root, "m").layers
    sources = {name: layer.statement.source for name, layer in layers.items()}
    assert sources == {
        "a": "m; one tensor with b.c.weight",
        "b.c": "m; one tensor with a.weight",
        "d": "m",
    }
    assert len({layer.statement.geometry for layer in layers.values()}) == 1


@pytest.mark.parametrize("keys", [["a.weight"], ["b.weight"], ["a.weight", "b.weight"]])
def test_it_is_known_under_each_name_that_the_file_has(keys: list[str]) -> None:
    conv = nn.Conv2d(3, 4, 2, 2)
    speaker = ModelSpeaker.of(nn.ModuleDict({"a": conv, "b": conv}), "m").for_names(keys)
    for key in keys:
        said = speaker.about(key, CONV)
        assert said is not None
        assert said.refusal is None
    with pytest.raises(ContradictionError):
        speaker.about(keys[0], (4, 3, 4, 4))
