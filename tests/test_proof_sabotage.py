"""Tests of the tests: a verifier that is broken on purpose fails a named check."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import convsurgeon as cs
from convsurgeon.proof import Bits, Floats, compare, function, order, pairing, probes, rounding
from tests.proof_pairs import (
    BIAS,
    WEIGHT,
    Array,
    Case,
    build,
    change,
    flip,
    function_alone,
    recorded,
)

CASE = Case((12, 3, 2, 2), layout="p1 p2 c")
Files = tuple[Path, Path]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return build(tmp_path_factory.mktemp("pair"), CASE)


def swap_is_equivalent(files: Files) -> bool:
    return cs.verify(*files).equivalent


def mutant_is_refuted(files: Files) -> bool:
    return not cs.verify(files[0], change(files[1], lambda a: a.T)).equivalent


def mutant_is_refuted_by_its_bits(files: Files) -> bool:
    verdict = cs.verify(files[0], change(files[1], lambda a: a.T), function=False)
    return not verdict.equivalent


def mutant_is_refuted_by_its_function(files: Files) -> bool:
    return not function_alone(files[0], change(files[1], lambda a: a.T)).equal


def mutant_exceeds_its_bound(files: Files) -> bool:
    return not function_alone(files[0], change(files[1], lambda a: a.T)).within


def last_bit_is_seen_by_the_probes(files: Files) -> bool:
    return not function_alone(files[0], flip(files[1], WEIGHT, 32 * 7)).probes.equal


def bias_is_seen_by_the_probes(files: Files) -> bool:
    return not function_alone(files[0], flip(files[1], BIAS, 32 * 3)).probes.equal


def infinity_is_seen_by_the_probes(files: Files) -> bool:
    def first(value: int) -> Callable[[Array], Array]:
        def edit(array: Array) -> Array:
            array.reshape(-1)[0] = value
            return array

        return edit

    original = change(files[0], first(0x7F800000)).rename(files[0].with_name("infinite"))
    return not function_alone(original, change(files[1], first(0xFF800000))).probes.equal


def every_place_is_probed(files: Files) -> bool:
    probes = function_alone(*files).probes
    return probes.tried == probes.places == 12


def error_of_the_new_form_is_its_own(files: Files) -> bool:
    def floats(mutant: Path) -> Floats:
        found = cs.verify(files[0], mutant).files[0].layers[0].floats
        assert found is not None
        return found

    good, bad = floats(files[1]), floats(change(files[1], lambda a: a[::-1]))
    return bad.before == good.before and bad.after.ulps > 1000 > good.after.ulps > 0


def swap_has_its_function(files: Files) -> bool:
    return function_alone(*files).equal


def every_layer_has_a_verdict(files: Files) -> bool:
    layers = cs.verify(*files).files[0].layers
    return [layer.key for layer in layers] == ["proj.weight"] and layers[0].function is not None


def digests_fit(files: Files) -> bool:
    return recorded(files[1]).equivalent


def mutant_has_other_digests(files: Files) -> bool:
    return not recorded(change(files[1], lambda a: a.T)).equivalent


CHECKS: tuple[Callable[[Files], bool], ...] = (
    swap_is_equivalent,
    mutant_is_refuted,
    mutant_is_refuted_by_its_bits,
    mutant_is_refuted_by_its_function,
    mutant_exceeds_its_bound,
    last_bit_is_seen_by_the_probes,
    bias_is_seen_by_the_probes,
    infinity_is_seen_by_the_probes,
    every_place_is_probed,
    error_of_the_new_form_is_its_own,
    swap_has_its_function,
    every_layer_has_a_verdict,
    digests_fit,
    mutant_has_other_digests,
)

# What is broken, how, and a check that has to notice.
SABOTAGE: dict[str, tuple[object, str, object, Callable[[Files], bool]]] = {
    "columns in stored order": (
        order, "runs", lambda c, w, _: [(slice(0, c * w), slice(0, c * w))], swap_is_equivalent,
    ),
    "columns of the other layout": (
        order, "runs", lambda c, w, _: [(slice(i, c * w, c), slice(i * w, i * w + w)) for i in range(c)], digests_fit,
    ),
    "columns reversed": (
        order, "runs", lambda c, w, _: [(slice(i, i + 1), slice(c * w - 1 - i, c * w - i)) for i in range(c * w)], swap_is_equivalent,
    ),
    "no bound": (function, "factor", lambda _: float("inf"), swap_has_its_function),
    "huge bound": (function, "factor", lambda _: 1e9, mutant_exceeds_its_bound),
    "bound of zero": (function, "factor", lambda _: 0.0, swap_has_its_function),
    "layers skipped": (compare, "pairs", lambda _: (), every_layer_has_a_verdict),
    "function not run": (
        compare, "run_both", lambda *_, **__: (None, None), every_layer_has_a_verdict,
    ),
    "bits not compared": (
        compare, "compare_bits", lambda *_: Bits(equal=True, elements=1), mutant_is_refuted_by_its_bits,
    ),
    "outputs not looked at": (
        function._Worst, "see", lambda *_: None, mutant_exceeds_its_bound,
    ),
    "one-hot outputs not looked at": (probes, "_unequal", lambda *_: 0, last_bit_is_seen_by_the_probes),
    "bias not probed": (probes, "_on_zeros", lambda *_: 0, bias_is_seen_by_the_probes),
    "infinities not probed": (
        probes, "_kinds", lambda weight: weight.nan_to_num(0.0, 0.0, 0.0), infinity_is_seen_by_the_probes,
    ),
    "one place probed": (function, "places", lambda *_, **__: (0,), every_place_is_probed),
    "one side run twice": (
        function, "apply", lambda side, rows, geometry, x: x, mutant_exceeds_its_bound,
    ),
    "errors of one side for both": (
        rounding, "apply", lambda side, rows, geometry, x: x, error_of_the_new_form_is_its_own,
    ),
}  # fmt: skip


def module_of(target: object) -> object:
    # `convsurgeon.proof.compare` is the function of that name; its module stands in sys.modules.
    return sys.modules["convsurgeon.proof.compare"] if target is compare else target


@pytest.mark.parametrize("check", CHECKS)
def test_the_verifier_as_it_is_passes(check: Callable[[Files], bool], files: Files) -> None:
    assert check(files)


@pytest.mark.parametrize("name", SABOTAGE)
def test_a_broken_verifier_is_noticed(
    name: str, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    target, attribute, replacement, check = SABOTAGE[name]
    monkeypatch.setattr(module_of(target), attribute, replacement)
    assert not check(files)


def test_an_unknown_layout_is_no_layout() -> None:
    with pytest.raises(ValueError, match="unknown layout"):
        list(order.runs(2, 2, "p1 c p2"))


def test_steps_that_do_not_follow_are_refused(files: Files) -> None:
    from convsurgeon.errors import RecipeError
    from convsurgeon.store import read_safetensors
    from tests.proof_pairs import recipe

    (step,) = recipe(read_safetensors(files[1]).header).steps
    with pytest.raises(RecipeError, match="do not follow"):
        pairing.pairs((step, step))


def test_bits_are_proved_without_torch(files: Files) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; import convsurgeon as cs\n"
        "assert cs.verify(*sys.argv[1:], function=False).equivalent\n"
        "try: cs.verify(*sys.argv[1:])\n"
        "except cs.ConvsurgeonError as error: print(error.code)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, files)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("CS052\n", "")
