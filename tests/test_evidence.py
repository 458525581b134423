"""Whom to believe: the whole matrix of pairs, and what more than two come to."""

from __future__ import annotations

from itertools import permutations, product

import pytest

from convsurgeon.errors import ContradictionError
from convsurgeon.evidence import Level, Statement, Weighed, weigh
from convsurgeon.geometry import LINEAR, Geometry, Refusal

SIXTEEN = Geometry.plain((16, 16), (16, 16))
TEN = Geometry.plain((16, 16), (10, 10))
USER, MODEL, CONFIG = Level.USER, Level.MODEL, Level.CONFIG
RECIPE, FINGERPRINT = Level.RECIPE, Level.FINGERPRINT
STATED = [level for level in Level if level is not Level.NONE]
PAIRS = list(product(STATED, repeat=2))
SUBCLASS = Refusal("CS007", "a StdConv2d")


def say(
    level: Level,
    geometry: Geometry | None = SIXTEEN,
    form: str = "conv2d",
    refusal: Refusal | None = None,
) -> Statement:
    return Statement(level, f"the {level.label}", form, geometry, refusal)


# Two that disagree, the stronger first: "error", "warning".
DISAGREE = {
    (USER, USER): "error",
    (USER, MODEL): "error",
    (USER, CONFIG): "warning",
    (USER, RECIPE): "warning",
    (USER, FINGERPRINT): "warning",
    (MODEL, MODEL): "error",
    (MODEL, CONFIG): "error",
    (MODEL, RECIPE): "error",
    (MODEL, FINGERPRINT): "warning",
    (CONFIG, CONFIG): "error",
    (CONFIG, RECIPE): "error",
    (CONFIG, FINGERPRINT): "warning",
    (RECIPE, RECIPE): "error",
    (RECIPE, FINGERPRINT): "warning",
    (FINGERPRINT, FINGERPRINT): "warning",
}
OTHERS = {"stride": say(USER, TEN), "form": say(USER, form="conv_transpose2d"), "linear": say(USER, None, LINEAR)}  # fmt: skip


def test_levels_are_those_of_the_options() -> None:
    assert [level.label for level in sorted(Level)] == [
        "none", "fingerprint", "recipe", "config", "model", "user",
    ]  # fmt: skip
    assert len(DISAGREE) == len(STATED) * (len(STATED) + 1) // 2


@pytest.mark.parametrize(("pair", "outcome"), list(DISAGREE.items()), ids=str)
@pytest.mark.parametrize("other", OTHERS.values(), ids=OTHERS)
@pytest.mark.parametrize("reverse", [False, True])
def test_two_that_disagree(
    pair: tuple[Level, Level], outcome: str, other: Statement, *, reverse: bool
) -> None:
    first = say(pair[0])
    second = Statement(pair[1], "another", other.form, other.geometry)
    statements = [second, first] if reverse and pair[0] is not pair[1] else [first, second]
    if second.empty:
        # It says no more than the rank of the weight: there is nothing to disagree with.
        assert weigh("proj", statements) == Weighed(first)
    elif outcome == "error":
        with pytest.raises(ContradictionError) as caught:
            weigh("proj", statements)
        assert (caught.value.code, caught.value.where) == ("CS060", "proj")
        assert first.source in caught.value.message
        assert second.source in caught.value.message
    else:
        weighed = weigh("proj", statements)
        assert weighed.statement == first
        (warning,) = weighed.warnings
        inferred = "an inference from " if second.level is FINGERPRINT else ""
        assert warning.startswith(
            f"proj: {first.named} says {first.says()}, {inferred}another says "
        )
        assert warning.endswith("; the first is used")


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_two_that_agree(pair: tuple[Level, Level]) -> None:
    weighed = weigh("proj", [say(level) for level in pair])
    assert weighed == Weighed(say(max(pair)))


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_dilation_of_a_kernel_of_one_is_no_disagreement(pair: tuple[Level, Level]) -> None:
    one = Geometry((1, 1), (1, 1), (0, 0), (1, 1))
    dilated = Geometry((1, 1), (1, 1), (0, 0), (2, 3))
    assert weigh("proj", [say(pair[0], one), say(pair[1], dilated)]).warnings == ()


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_known_obstacle_is_kept_unless_it_is_only_inferred(pair: tuple[Level, Level]) -> None:
    """A statement that knows of an obstacle knows more; an inference never vetoes a statement."""
    knowing, refusing = say(pair[0]), say(pair[1], None, refusal=SUBCLASS)
    weighed = weigh("proj", [knowing, refusing])
    vetoed = refusing.level is not FINGERPRINT or knowing.level is FINGERPRINT
    assert weighed.statement == (refusing if vetoed else knowing)
    words = [f"{knowing.source} says", "an inference from", "says a StdConv2d; the first is used"]
    assert len(weighed.warnings) == (not vetoed)
    assert all(word in warning for warning in weighed.warnings for word in words)


@pytest.mark.parametrize("pair", PAIRS, ids=str)
def test_a_form_alone_is_completed_by_whoever_knows_the_geometry(
    pair: tuple[Level, Level],
) -> None:
    form_only, knowing = say(pair[0], None), say(pair[1])
    weighed = weigh("proj", [form_only, knowing])
    only_inferred = knowing.level is FINGERPRINT and form_only.level is not FINGERPRINT
    assert weighed == Weighed(form_only if only_inferred else knowing)


def test_an_overruled_refusal_of_another_form_does_not_refuse() -> None:
    overruled = say(CONFIG, None, "conv_transpose2d", SUBCLASS)
    weighed = weigh("proj", [say(USER), overruled])
    assert weighed.statement == say(USER)
    (warning,) = weighed.warnings
    assert warning.endswith("the config says a StdConv2d; the first is used")


def test_an_overruled_geometry_completes_nothing() -> None:
    weighed = weigh("proj", [say(USER, None, LINEAR), say(CONFIG)])
    assert weighed.statement == say(USER, None, LINEAR)
    assert len(weighed.warnings) == 1


def test_nobody_said_anything() -> None:
    assert weigh("proj", []) == Weighed(None)


def test_the_order_of_three_does_not_matter() -> None:
    three = [say(USER, TEN), say(CONFIG), say(FINGERPRINT)]
    found = {weigh("proj", order) for order in permutations(three)}
    (weighed,) = found
    assert weighed.statement == three[0]
    assert len(weighed.warnings) == 2


def test_two_below_the_user_may_not_disagree_either() -> None:
    with pytest.raises(ContradictionError, match=r"the config says .* the recipe says"):
        weigh("proj", [say(USER, TEN), say(CONFIG, TEN), say(RECIPE)])


@pytest.mark.parametrize(
    ("statement", "text"),
    [
        (say(USER), "conv2d kernel 16×16, stride 16×16"),
        (say(USER, None, LINEAR), "linear"),
        (say(USER, refusal=SUBCLASS), "a StdConv2d"),
        (
            say(USER, Geometry((2, 1), (2, 1), (0, 1), (2, 1), 4)),
            "conv2d kernel 2×1, stride 2×1, padding 0×1, dilation 2×1, 4 groups",
        ),
    ],
)
def test_says(statement: Statement, text: str) -> None:
    assert statement.says() == text
