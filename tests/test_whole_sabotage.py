"""Tests of the tests: a comparison of models that is broken on purpose fails a named check."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import safetensors.torch as safetensors_torch
import torch

from convsurgeon.api import whole as api
from convsurgeon.proof import moves, tape, watch, whole
from convsurgeon.sources.live import build_live
from tests.whole_cases import Model, changed, damage, run, sample, swap, within

Check = Callable[[Any], bool]


def swap_is_equivalent(_: Any) -> bool:
    return within(run(Model()))


def yardstick_is_a_response(_: Any) -> bool:
    """The response to last places of the input is larger than one last place of the output."""
    found = run(Model()).outputs[0]
    return found.yardstick > 2**-22 * found.scale and not run(Model()).notes


def one_output_is_equivalent(_: Any) -> bool:
    """A number that hardly depends on the input, and was rounded the other way."""
    model = Model(lambda y: 0.001 * y.sum() + 1000)
    other = swap(model)
    other.finish = lambda y: torch.nextafter(model.finish(y), torch.tensor(0.0))
    return within(run(model, other))


def damage_is_refuted(_: Any) -> bool:
    model = Model()
    return not within(run(model, damage(swap(model))))


def last_output_is_compared(_: Any) -> bool:
    model = Model(lambda y: (y, y[..., :1]))
    other = swap(model)
    other.finish = lambda y: (y, y[..., 1:2])
    return not within(run(model, other))


def dtypes_are_compared(_: Any) -> bool:
    model = Model()
    other = swap(model)
    other.finish = lambda y: y.double()
    return not within(run(model, other))


def drift_begins_at_the_damage(_: Any) -> bool:
    model = Model()
    off = [layer.name for layer in run(model, damage(swap(model))).layers if not layer.within]
    return off == ["proj", "head"]


def drop_in_has_a_partner(_: Any) -> bool:
    return [layer.name for layer in run(Model()).layers] == ["proj", "head"]


def random_forward_is_equivalent(_: Any) -> bool:
    found = run(Model(lambda y: y + torch.rand_like(y)))
    return within(found) and not found.notes


def noise_is_noted(_: Any) -> bool:
    drawn = random.Random(0)
    return len(run(Model(lambda y: y + 1e-3 * drawn.random())).notes) == 1


def layers_are_kept_as_they_were(_: Any) -> bool:
    model = Model(lambda y: y.mul_(0))
    return run(model).layers[-1].scale > 0


def swapped_file_is_loaded(folder: Any) -> bool:
    source, out, spec = sample("vit_digits", folder)
    wrong = changed(out, "patch_embed.proj.weight", lambda t: t[:, [0, 2, 1, 3]])
    return not api.try_models(source, wrong, api.Trial(spec, None, ("1x1x8x8",))).equivalent


def original_file_is_loaded(folder: Any) -> bool:
    """Two models that nothing was loaded into are the same, and another one."""
    source, out, spec = sample("vit_digits", folder)
    x = torch.ones(1, 1, 8, 8)
    safetensors_torch.save_file({"x": x}, folder / "x.safetensors")
    trial = api.Trial(spec, None, input_file=folder / "x.safetensors")
    expected = build_live(spec)
    expected.load_state_dict(safetensors_torch.load_file(source))
    scale = float(expected(x).detach().abs().max())
    return abs(api.try_models(source, out, trial).outputs[0].scale - scale) < 1e-3 * scale


CHECKS: tuple[Check, ...] = (
    swap_is_equivalent,
    yardstick_is_a_response,
    one_output_is_equivalent,
    damage_is_refuted,
    last_output_is_compared,
    dtypes_are_compared,
    drift_begins_at_the_damage,
    drop_in_has_a_partner,
    random_forward_is_equivalent,
    noise_is_noted,
    layers_are_kept_as_they_were,
    swapped_file_is_loaded,
    original_file_is_loaded,
)

DRIFTS, FORWARD, KEEP = tape.Tape.drifts, watch.forward, tape.Tape.keep


def first_output_only(self: Any, allowed: float) -> Any:
    outputs, layers = DRIFTS(self, allowed)
    return outputs[:1], layers


def swapped_not_run(model: Any, x: Any, layers: Any, seed: int, see: Any) -> Any:
    hold = getattr(see, "__name__", "") == "hold"
    return {} if hold else FORWARD(model, x, layers, seed, see)


def unseeded(model: Any, x: Any, layers: Any, seed: int, see: Any) -> Any:
    return FORWARD(model, x, layers, random.randrange(2**31), see)


def kept_by_reference(self: Any, place: Any, tensor: Any) -> None:
    self.kept[place] = tensor


def leaves_of_both(first: Any, second: Any) -> tuple[str, ...]:
    inner = {name.rpartition(".")[0] for name in (*first, *second)}
    return tuple(sorted((set(first) & set(second)) - inner - {""}))


# What is broken, how, and a check that has to notice.
SABOTAGE: dict[str, tuple[object, str, object, Check]] = {
    "an infinite yardstick": (tape, "response", lambda *_: float("inf"), damage_is_refuted),
    "a yardstick of zero": (tape, "response", lambda *_: 0.0, yardstick_is_a_response),
    "an input that is not moved": (moves.Move, "of", lambda _, x: x.clone(), yardstick_is_a_response),
    "no move at all": (whole, "moves", lambda *_: (), yardstick_is_a_response),
    "no last place of the output": (tape, "last_place", lambda _: 0.0, one_output_is_equivalent),
    "no difference": (tape, "difference", lambda *_: 0.0, damage_is_refuted),
    "no objection": (tape, "objection", lambda *_: "", dtypes_are_compared),
    "the first output only": (tape.Tape, "drifts", first_output_only, last_output_is_compared),
    "hooks skipped": (whole, "common_layers", lambda *_: (), drift_begins_at_the_damage),
    "leaves of both only": (whole, "common_layers", leaves_of_both, drop_in_has_a_partner),
    "the swapped model not run": (whole, "forward", swapped_not_run, swap_is_equivalent),
    "forwards not seeded": (whole, "forward", unseeded, random_forward_is_equivalent),
    "noise not measured": (tape.Tape, "noisy", lambda _: (), noise_is_noted),
    "outputs kept by reference": (tape.Tape, "keep", kept_by_reference, layers_are_kept_as_they_were),
    "any drift allowed": (api, "ALLOWED", {"float32": float("inf")}, swapped_file_is_loaded),
    "nothing loaded": (api, "put", lambda *_: None, swapped_file_is_loaded),
    "nothing loaded at all": (api, "put", lambda *_: None, original_file_is_loaded),
}  # fmt: skip


@pytest.mark.parametrize("check", CHECKS)
def test_the_comparison_as_it_is_passes(check: Check, tmp_path: Any) -> None:
    assert check(tmp_path)


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_broken_comparison_is_noticed(
    name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, attribute, replacement, check = SABOTAGE[name]
    monkeypatch.setattr(target, attribute, replacement)
    assert not check(tmp_path)
