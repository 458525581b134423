"""What architectures teach about a body, and what a checkpoint is told: each yes beside its no."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.evidence import Level
from convsurgeon.geometry import Geometry, times
from convsurgeon.sources.catalogue.fingerprint import FingerprintSpeaker
from convsurgeon.sources.catalogue.outline import Tensor
from tests.made_rows import FILLER, Row, Shape, Small, ask, conv, row, said, shapes_of

P = "patch.weight"
RGB: Shape = (8, 3, 4, 4)
FOUR = "conv2d kernel 4×4, stride 4×4"
TWO = "conv2d kernel 4×4, stride 2×2"


def vit(
    name: str = "vit", stride: int = 4, shape: Shape = RGB, family: str = "", **more: int
) -> Row:
    return row(name, {P: (shape, conv(stride, **more))}, family=family)


def file(shape: Shape = RGB) -> dict[str, Shape]:
    return {P: shape, **FILLER}


# --- who agrees


def test_one_architecture_is_enough() -> None:
    found = ask([vit()], file(), P)
    assert found is not None
    assert (found.level, found.source) == (Level.FINGERPRINT, "torchvision vit")
    assert found.geometry == Geometry.plain((4, 4), (4, 4))
    assert found.details == ("the tensors of the file are those of torchvision vit",)


def test_names_that_nobody_taught_are_unknown() -> None:
    assert said([vit()], {**file(), "more": (1,)}, P) == "unknown"
    assert said([vit()], {P: RGB, **dict(list(FILLER.items())[1:])}, P) == "unknown"
    assert said([vit()], {"patches.weight": RGB, **FILLER}, "patches.weight") == "unknown"
    assert said([], file(), P) == "unknown"


def test_another_rank_is_another_name() -> None:
    assert said([vit()], file((8, 3, 1, 4, 4)), P) == "unknown"
    assert said([vit()], {**file(), "blocks.0.q": (8, 8, 1)}, P) == "unknown"


def test_several_that_agree_are_all_named() -> None:
    found = ask([vit(f"vit{i}") for i in range(11)], file(), P)
    assert found is not None
    assert found.source == "torchvision vit0 and 10 more architectures"
    assert found.details[0].endswith("torchvision vit7 and 3 more")
    two = ask([vit("a"), vit("b")], file(), P)
    assert two is not None
    assert two.source == "torchvision a and 1 more architecture"


def test_one_that_disagrees_about_the_stride_silences_all() -> None:
    rows = [vit("a"), vit("b"), vit("half", 2, RGB)]
    found = ask(rows, file(), P)
    assert found is not None
    assert found.failed
    assert found.details[1:] == (
        "the architectures disagree",
        f"{TWO}: torchvision half",
        f"{FOUR}: torchvision a, torchvision b",
    )
    assert said(rows[:2], file(), P) == FOUR


def test_the_kernel_may_tell_them_apart() -> None:
    rows = [vit("a"), vit("overlapping", 2, (8, 3, 3, 3), padding=1)]
    assert said(rows, file(), P) == FOUR
    assert said(rows, file((8, 3, 3, 3)), P) == "conv2d kernel 3×3, stride 2×2, padding 1×1"
    assert said(rows, file((8, 3, 5, 5)), P) == "not known with kernel 5×5"


@pytest.mark.parametrize(
    ("other", "says", "code"),
    [
        (vit("b", 1), "windows overlap", "CS001"),
        (
            vit("b", 2, padding=1),
            "; others that match differ, but none has separate patches",
            "CS001",
        ),
        (vit("b", 4), "the architectures disagree", None),
        (vit("b", 4, padding=1), "the architectures disagree", None),
        (vit("b", 8), "the architectures disagree", None),
    ],
    ids=["both overlap", "both overlap, one is padded", "separate", "padded", "gapped"],
)
def test_those_who_disagree_may_agree_in_refusing(other: Row, says: str, code: str | None) -> None:
    found = ask([vit("half", 2), other], file(), P)
    assert found is not None
    assert found.geometry is None
    assert found.failed is (code is None)
    assert (found.refusal and found.refusal.code) == code
    assert says in (found.refusal.reason if found.refusal else found.details[1])


def test_a_transposed_conv_is_refused_whatever_its_stride() -> None:
    rows = [row(str(n), {P: (RGB, conv(n, transposed=True))}) for n in (4, 2)]
    found = ask(rows, file(), P)
    assert found is not None
    assert found.refusal is not None
    assert found.refusal.code == "CS006"
    alone = ask(rows[:1], file(), P)
    assert alone is not None
    assert alone.form == "conv_transpose2d"
    assert said([rows[0], vit("c")], file(), P) == "the architectures disagree"


@pytest.mark.parametrize(
    ("more", "code", "says"),
    [
        ({"type": "timm.layers.StdConv2d"}, "CS007", "a StdConv2d"),
        ({"overrides_forward": True}, "CS007", "a Conv2d"),
        ({"parametrized": True}, "CS008", "computed from other tensors"),
        ({"padding_mode": "reflect", "padding": 1}, "CS013", "padding mode 'reflect'"),
    ],
)
def test_what_is_no_plain_conv_is_refused(more: Row, code: str, says: str) -> None:
    told = {**conv(4), **more}
    found = ask([row("a", {P: (RGB, told)})], file(), P)
    assert found is not None
    assert found.refusal is not None
    assert (found.refusal.code, found.geometry) == (code, None)
    assert says in found.refusal.reason


def test_a_weight_that_is_no_convs_is_refused() -> None:
    both = row("a", {P: (RGB, conv(4))}, rest={**FILLER, "table.weight": (1, 8, 4, 4)})
    found = ask([both], shapes_of(both), "table.weight")
    assert found is not None
    assert found.refusal is not None
    assert found.refusal.code == "CS007"


# --- other sizes


def test_a_kernel_that_was_never_seen() -> None:
    assert said([vit()], file((8, 3, 8, 8)), P) == "known with kernel 4×4, not with 8×8"
    assert said([vit()], file(), P) == FOUR


def test_a_stride_that_follows_the_kernel() -> None:
    eight = file((8, 3, 8, 8))
    seen_twice = [vit("a", family="vit"), vit("b", 2, (8, 3, 2, 2), family="vit")]
    assert said(seen_twice, eight, P) == "conv2d kernel 8×8, stride 8×8"
    of_two_families = [vit("a"), vit("b", 2, (8, 3, 2, 2))]
    assert said(of_two_families, eight, P) == "known with kernel 2×2, 4×4, not with 8×8"
    with_one_that_overlaps = [*seen_twice, vit("c", 2, (8, 3, 3, 3), family="vit")]
    assert said(with_one_that_overlaps, eight, P) == "not known with kernel 8×8"


@pytest.mark.parametrize("shape", [(8, 16, 16, 3), (16, 16, 3, 8), (8, 1, 1, 24)])
def test_a_kernel_that_is_square_in_another_order_of_axes(shape: Shape) -> None:
    """Such are channel-last weights of a file whose metadata does not say so."""
    rows = [vit("a", family="vit"), vit("b", 2, (8, 3, 2, 2), family="vit")]
    assert said(rows, file(shape), P).startswith("known with kernel 2×2, 4×4, not with ")
    for other in ((8, 3, 16, 16), (8, 3, 16, 8)):
        words = f"conv2d kernel {times(other[2:])}, stride {times(other[2:])}"
        assert said(rows, file(other), P) == words


def test_code_that_takes_stride_and_kernel_from_one_place() -> None:
    field, other = [{"f": "patch_size"}] * 2, [{"f": "stride"}] * 2
    told = {"padding": [0, 0], "dilation": [1, 1], "groups": 1, "kernel": field}
    same = row("a", {P: (RGB, conv(4) | {"from": {**told, "stride": field}})})
    another = row("a", {P: (RGB, conv(4) | {"from": {**told, "stride": other}})})
    assert said([same], file((8, 3, 8, 8)), P) == "conv2d kernel 8×8, stride 8×8"
    assert said([another], file((8, 3, 8, 8)), P) == "known with kernel 4×4, not with 8×8"


def test_any_width_will_do() -> None:
    wide = dict.fromkeys(FILLER, (32, 32))
    assert said([vit()], {P: (64, 3, 4, 4), **wide}, P) == FOUR


# --- input channels, which tell of groups


def stage(inputs: int, before: int, groups: int = 1, name: str = "net") -> Row:
    """A downsampling conv behind a stem of `before` channels."""
    convs = {
        "stem.weight": ((before, 3, 4, 4), conv(4)),
        "down.weight": ((16, inputs, 2, 2), conv(2, groups=groups)),
    }
    return row(name, convs)


def test_a_grouped_fork_has_fewer_inputs_than_the_layer_before_it() -> None:
    rows = [stage(8, 8)]
    assert said(rows, shapes_of(stage(8, 8)), "down.weight") == "conv2d kernel 2×2, stride 2×2"
    assert said(rows, shapes_of(stage(24, 24)), "down.weight") == "conv2d kernel 2×2, stride 2×2"
    for inputs in (4, 2, 1):
        fork = shapes_of(stage(inputs, 8, 8 // inputs))
        assert said(rows, fork, "down.weight") == f"{inputs} input channels where 8 are known"


def test_a_1x1_with_one_input_channel_may_be_a_depthwise_conv() -> None:
    rows = [row("net", {P: ((8, 3, 1, 1), conv(1))})]
    assert said(rows, {P: (8, 1, 1, 1), **FILLER}, P).startswith("one input channel, which a")
    assert said(rows, {P: (8, 2, 1, 1), **FILLER}, P) == "conv2d kernel 1×1, stride 1×1"
    grey = row("grey", {P: ((8, 1, 1, 1), conv(1))})
    one = said([*rows, grey], {P: (8, 1, 1, 1), **FILLER}, P)
    assert one == "conv2d kernel 1×1, stride 1×1"


def test_a_1x1_over_one_channel_where_a_larger_kernel_is_depthwise() -> None:
    full, deep = "x.0.weight", "x.1.weight"
    convs = {full: ((8, 8, 1, 1), conv(1)), deep: ((8, 1, 3, 3), conv(1, 1, groups=8))}
    rows = [row("net", convs)]
    fork = {**shapes_of(rows[0]), deep: (8, 1, 1, 1)}
    assert said(rows, fork, full) == "conv2d kernel 1×1, stride 1×1"
    assert said(rows, fork, deep).startswith("one input channel, which a grouped")
    one = row("one", {full: ((8, 8, 2, 2), conv(2)), deep: ((8, 1, 1, 1), conv(1, groups=8))})
    assert said([one], shapes_of(one), deep).endswith("8 groups")


def test_patches_of_grey_images_are_those_of_colour_images() -> None:
    assert said([vit()], file((8, 1, 4, 4)), P) == FOUR


def test_a_depthwise_conv_is_one_whatever_its_width() -> None:
    rows = [row("dw", {P: ((8, 1, 4, 4), conv(4, groups=8))})]
    found = ask(rows, file((16, 1, 4, 4)), P)
    assert found is not None
    assert found.geometry == Geometry((4, 4), (4, 4), (0, 0), (1, 1), 16)


# --- block numbers


def stages(strides: dict[str, int], name: str = "net") -> Row:
    """Convs of one kernel, whose stride depends on where they stand."""
    return row(name, {f"layer.{at}.weight": ((8, 8, 2, 2), conv(s)) for at, s in strides.items()})


def test_the_first_block_of_each_stage_has_another_stride() -> None:
    plan = {"0.0": 1, "0.1": 1, "1.0": 2, "1.1": 1}
    rows = [stages(plan)]
    for at, stride in plan.items():
        words = f"conv2d kernel 2×2, stride {stride}×{stride}"
        assert said(rows, shapes_of(stages(plan)), f"layer.{at}.weight") == words
    deeper = shapes_of(stages({**plan, "1.2": 1}))
    assert said(rows, deeper, "layer.1.0.weight") == "the architectures disagree"
    both = [*rows, stages({**plan, "1.2": 1}, "deeper")]
    assert said(both, deeper, "layer.1.0.weight") == "conv2d kernel 2×2, stride 2×2"


def test_the_place_tells_nothing_of_a_kernel_that_nobody_has_there() -> None:
    """A 1x1 has stride 1 at some places, as the 3x3 beside it: a 5x5 there is no patchify."""
    at = {"0.0": (1, 1), "0.1": (1, 2), "1.0": (3, 1)}
    rows = [row("net", {f"l.{a}.weight": ((8, 8, k, k), conv(s)) for a, (k, s) in at.items()})]
    known = shapes_of(rows[0])
    assert said(rows, known, "l.0.0.weight") == "conv2d kernel 1×1, stride 1×1"
    fork = {**known, "l.0.0.weight": (8, 8, 5, 5)}
    assert said(rows, fork, "l.0.0.weight") == "not known with kernel 5×5"


def test_two_that_have_the_same_places_and_other_strides() -> None:
    one, other = {"0.0": 1, "0.1": 2}, {"0.0": 2, "0.1": 1}
    rows = [stages(one, "a"), stages(other, "b")]
    assert said(rows, shapes_of(stages(one)), "layer.0.1.weight") == "the architectures disagree"
    assert (
        said(rows[:1], shapes_of(stages(one)), "layer.0.1.weight")
        == "conv2d kernel 2×2, stride 2×2"
    )


def test_a_place_in_a_sequence_is_no_block_number() -> None:
    def features(place: int) -> Row:
        return row("net", {f"features.{place}.weight": (RGB, conv(4))})

    rows = [features(0)]
    assert said(rows, shapes_of(features(0)), "features.0.weight") == FOUR
    moved = said(rows, shapes_of(features(3)), "features.3.weight")
    assert moved == "known at another place of its sequence"
    assert said([*rows, features(1)], shapes_of(features(3)), "features.3.weight") == FOUR


# --- where in the file


@pytest.mark.parametrize("prefix", ["model.", "a.b.c.", "towers.1.", "model.model."])
def test_below_a_prefix(prefix: str) -> None:
    tensors = {f"{prefix}{key}": shape for key, shape in file().items()}
    found = ask([vit()], tensors, f"{prefix}{P}")
    assert found is not None
    assert found.says() == FOUR
    assert "the tensors below " in found.details[0]


def test_two_models_in_one_file_are_judged_apart() -> None:
    other = {f"other.{name}.weight": (4, 4) for name in "abcdefg"}
    tensors = {**{f"vision.{key}": shape for key, shape in file().items()}, **other}
    assert said([vit()], tensors, f"vision.{P}") == FOUR
    assert said([vit()], {**tensors, "vision.more": (1,)}, f"vision.{P}") == "unknown"


def test_a_part_of_what_was_taught_is_known_by_itself() -> None:
    whole = row(
        "clip",
        {f"visual.{P}": (RGB, conv(4))},
        rest={f"visual.{k}": s for k, s in FILLER.items()} | {"text": (1,)},
    )
    assert said([whole], file(), P) == FOUR
    assert said([whole], {**file(), "text": (1,)}, P) == "unknown"


def test_the_largest_module_that_is_known_is_asked() -> None:
    """The head of the whole says what its part alone cannot tell."""
    part = {f"body.{key}": shape for key, shape in file().items()}
    overlapping = row(
        "half",
        {f"body.{P}": (RGB, conv(2))},
        rest={k: s for k, s in part.items() if k != f"body.{P}"} | {"extra": (1,)},
    )
    rows = [vit(), overlapping]
    assert said(rows, shapes_of(overlapping), f"body.{P}") == TWO
    assert said(rows, part, f"body.{P}") == "the architectures disagree"


def test_matrices_and_vectors_are_not_asked_about() -> None:
    def never() -> list[Tensor]:
        raise AssertionError("no tensor is looked at")

    speaker = FingerprintSpeaker(never, Small([vit()]))
    assert [speaker.about("q.weight", shape) for shape in ((), (8,), (8, 8), (1,) * 6)] == [
        None
    ] * 4
    with pytest.raises(AssertionError, match="looked at"):
        speaker.about("q.weight", RGB)


def test_a_key_that_is_not_there() -> None:
    assert FingerprintSpeaker(list, Small([vit()])).about(P, RGB) is None


# --- the order of what is taught

NUMBERS = ("kernel", "stride", "padding", "dilation")
ROWS = [
    *(vit(f"v{s}{k}", s, (8, 3, k, k), family="vit") for s in (2, 4) for k in (2, 4)),
    stages({"0.0": 1, "0.1": 2}, "s1"),
    stages({"0.0": 2, "0.1": 1}, "s2"),
    stages({"0.0": 1, "0.1": 2, "0.2": 1}, "s3"),
    stage(8, 8),
    stage(4, 8, 2, "grouped"),
]


@given(st.lists(st.sampled_from(ROWS), min_size=1, unique_by=lambda r: r["name"]), st.randoms())
def test_the_order_of_the_rows_changes_nothing(rows: list[Row], random: Random) -> None:
    mixed = list(rows)
    random.shuffle(mixed)
    one, other = Small(rows), Small(mixed)
    for made in ROWS:
        for key in (c["key"] for c in made["convs"]):
            assert said(one, shapes_of(made), key) == said(other, shapes_of(made), key)


@given(st.lists(st.sampled_from(ROWS), min_size=1, unique_by=lambda r: r["name"]))
def test_what_all_agree_about_is_true_of_each(rows: list[Row]) -> None:
    """A row is never told something else than what it taught; at worst nothing."""
    catalogue = Small(rows)
    for made in rows:
        for told in made["convs"]:
            found = ask(catalogue, shapes_of(made), told["key"])
            assert found is not None
            kernel, stride, padding, dilation = (tuple(told[n]) for n in NUMBERS)
            wanted = Geometry(kernel, stride, padding, dilation, told["groups"])
            assert found.failed or found.refusal or found.geometry == wanted
