"""Names folded: what counts, which block numbers stand where, digests of subtrees; strange names."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convsurgeon.sources.catalogue.folding import fold, fold_all
from convsurgeon.sources.catalogue.outline import (
    COPIES,
    HEADS,
    MAX_DEPTH,
    MAX_ELEMENTS,
    MIN_ELEMENTS,
    Body,
    Member,
    Outline,
    Tensor,
    partner,
    positions,
    prefixes,
)

ANY = (2, 3)
PARTS = st.sampled_from(
    ["x_layer_3", "a", "b", "a-", "a/", "", "0", "1", "12", "*", "é", "head", "²", "a b", "\n"]
)
KEYS = st.lists(PARTS, min_size=1, max_size=4).map(".".join)
SHAPES = st.lists(st.integers(1, 3), max_size=5).map(tuple)
FILES = st.dictionaries(KEYS, SHAPES, max_size=30)


def outline(keys: Iterable[str], dtype: str = "F32") -> Outline:
    return Outline.of(Tensor(key, dtype, ANY) for key in keys)


def of_shapes(shapes: dict[str, tuple[int, ...]]) -> Outline:
    return Outline.of(Tensor(key, "F32", shape) for key, shape in shapes.items())


def digests(found: Outline, prefix: str = "") -> set[str]:
    return {body.digest for body in found.subtree(prefix).bodies}


# --- one name


@pytest.mark.parametrize(
    ("name", "folded", "numbers"),
    [
        ("blocks.0.conv.weight", "blocks.*.conv.weight", (0,)),
        ("0.1.22.weight", "*.*.*.weight", (0, 1, 22)),
        ("layer1.0.conv2.weight", "layer1.*.conv2.weight", (0,)),
        ("a.007.b", "a.*.b", (7,)),
        ("5", "*", (5,)),
        ("", "", ()),
        ("a..b", "a..b", ()),
        # No block numbers: other digits, signs, and more digits than a count of blocks has.
        ("a.².b", "a.².b", ()),
        ("a.٣.b", "a.٣.b", ()),
        ("a.-1.b", "a.-1.b", ()),
        ("a.999999999.b", "a.*.b", (999_999_999,)),
        ("a.1000000000.b", "a.1000000000.b", ()),
        # A name's own star is none of ours, nor does a line end cut a name in two.
        ("a.*.b", r"a.\x2a.b", ()),
        ("a.*.1.b", r"a.\x2a.*.b", (1,)),
        ("encoder_layer_11.a", "encoder_layer_*.a", (11,)),
        ("conv2d_7x7.a", "conv2d_7x7.a", ()),
        ("player_1.a", "player_1.a", ()),
        ("a\n0.b", r"a\n0.b", ()),
    ],
)
def test_a_name_is_folded(name: str, folded: str, numbers: tuple[int, ...]) -> None:
    assert fold(name) == (folded, numbers)
    found = outline([name])
    assert found.elements == (f"{folded} 2",)
    assert found.by_key[name] == Member(numbers, ANY)


def test_a_number_of_a_million_digits_is_text() -> None:
    digits = "9" * 1_000_000
    assert fold(f"a.{digits}.b") == (f"a.{digits}.b", ())


@given(KEYS)
def test_folding_a_name_is_folding_a_file_of_one(name: str) -> None:
    folded, numbers = fold(name)
    assert outline([name]).by_key[name].numbers == numbers
    assert folded.count("*") == len(numbers)


@pytest.mark.parametrize(
    ("key", "dtype"),
    [
        ("bn.running_mean", "F32"),
        ("bn.running_var", "BF16"),
        ("bn.num_batches_tracked", "I64"),
        ("a.weight", "I8"),
        ("a.mask", "BOOL"),
        ("attn.relative_position_index", "F32"),
        ("rope.inv_freq", "F32"),
        ("a.lora_A.weight", "F32"),
        ("a.lora_B.default.weight", "F16"),
        ("lora_up.weight", "F16"),
        ("a.lora_embedding_A", "F32"),
        ("a.hada_w1_a", "F32"),
        ("a.dora_scale", "F32"),
        ("a.alpha", "F32"),
    ],
)
def test_buffers_integers_and_adapters_are_left_out(key: str, dtype: str) -> None:
    assert outline([key], dtype).elements == ()


@pytest.mark.parametrize(
    "key",
    ["a.weight", "running_mean.weight", "a.exploration.weight", "a.alphabet", "a.lora.weight"],
)
def test_names_that_only_look_like_those_count(key: str) -> None:
    assert len(outline([key]).elements) == 1


def test_the_base_of_an_adapter_has_the_name_of_its_layer() -> None:
    wrapped = outline(["a.0.base_layer.weight", "a.0.lora_A.weight"])
    assert wrapped.elements == outline(["a.0.weight"]).elements == ("a.*.weight 2",)
    assert wrapped.of_key["a.0.base_layer.weight"] == "a.*.weight 2"


def test_ranks_tell_names_apart() -> None:
    found = of_shapes({"a.0.w": (1,), "a.1.w": (1, 2)})
    assert found.elements == ("a.*.w 1", "a.*.w 2")


# --- subtrees


def naive(shapes: dict[str, tuple[int, ...]], prefix: str) -> list[str]:
    """The elements below a module, by looking at each name."""
    elements = {f"{fold(key)[0]} {len(shape)}" for key, shape in shapes.items()}
    if not prefix:
        return sorted(elements)
    return sorted(e[len(prefix) + 1 :] for e in elements if e.startswith(prefix + "."))


@given(FILES)
def test_a_subtree_is_what_stands_below_its_name(shapes: dict[str, tuple[int, ...]]) -> None:
    found = of_shapes(shapes)
    for prefix in {p for element in found.elements for p in prefixes(element)} | {"", "no", "a/"}:
        subtree = found.subtree(prefix)
        assert list(subtree.relative) == naive(shapes, prefix)
        for relative in subtree.relative:
            body = Body.of(subtree.relative)
            at = body.place(relative)
            assert at is not None
            assert body.elements[at] == relative
            assert subtree.members(relative)


@given(FILES, st.randoms())
def test_the_order_of_a_file_changes_nothing(
    shapes: dict[str, tuple[int, ...]], random: Random
) -> None:
    mixed = list(shapes.items())
    random.shuffle(mixed)
    one, other = of_shapes(shapes), of_shapes(dict(mixed))
    assert one.elements == other.elements
    for prefix in {p for element in one.elements for p in prefixes(element)}:
        assert digests(one, prefix) == digests(other, prefix)


SIX = [f"{name}.weight" for name in "abcdef"]


def test_a_prefix_changes_no_digest() -> None:
    below = outline([f"x.3.{key}" for key in SIX])
    assert digests(below, "x.*") == digests(outline(SIX)) != digests(below)


def test_depth_changes_no_digest_and_a_module_more_does() -> None:
    blocks = [f"blocks.{i}.{key}" for i in range(2) for key in SIX]
    deeper = [f"blocks.{i}.{key}" for i in range(40) for key in SIX]
    assert digests(outline(blocks)) == digests(outline(deeper))
    assert digests(outline(blocks)).isdisjoint(digests(outline([*blocks, "blocks.0.g.weight"])))
    assert digests(outline(blocks)).isdisjoint(digests(outline([*blocks, "g.*.weight"])))


@pytest.mark.parametrize(("count", "bodies"), [(MIN_ELEMENTS - 1, 0), (MIN_ELEMENTS, 1)])
def test_small_subtrees_have_no_body(count: int, bodies: int) -> None:
    assert len(outline(f"{chr(97 + i)}.weight" for i in range(count)).subtree("").bodies) == bodies


def test_huge_subtrees_have_no_body() -> None:
    names = [f"x{i}" for i in range(MAX_ELEMENTS)]
    assert len(outline(names).subtree("").bodies) == 1
    assert outline([*names, "more"]).subtree("").bodies == ()


@pytest.mark.parametrize("head", sorted(HEADS))
def test_a_subtree_has_a_body_without_its_head_too(head: str) -> None:
    with_head = outline([*SIX, f"{head}.weight", f"{head}.3.bias"])
    whole, rest = with_head.subtree("").bodies
    assert rest == Body.of(outline(SIX).elements)
    assert whole != rest


@pytest.mark.parametrize("copies", sorted(COPIES))
def test_a_subtree_has_a_body_without_copies_of_its_weights_too(copies: str) -> None:
    with_head = [*SIX, "head.weight"]
    found = outline([*with_head, *(f"{copies}.{key}" for key in with_head)])
    bodies = [Body.of(outline(keys).elements) for keys in (with_head, SIX)]
    assert list(found.subtree("").bodies[1:]) == bodies
    assert digests(outline(with_head)) == digests(found, copies)


def test_what_is_called_like_a_head_further_inside_is_none() -> None:
    assert len(outline([*SIX, "x.head.weight", "headless.weight"]).subtree("").bodies) == 1


def test_a_body_of_heads_alone_stays_whole() -> None:
    assert len(outline([f"head.{key}" for key in SIX]).subtree("").bodies) == 1


def test_a_place_that_is_not_there() -> None:
    body = Body.of(("a 1", "b 1"))
    assert [body.place(e) for e in ("a 1", "b 1", "", "a 2", "c 1")] == [0, 1, None, None, None]


def test_prefixes() -> None:
    assert list(prefixes("a.*.b.weight 4")) == ["", "a", "a.*", "a.*.b"]
    assert list(prefixes("weight 4")) == list(prefixes(" 4")) == [""]


def test_modules_beyond_the_limit_are_not_looked_up() -> None:
    found = list(prefixes("a." * 100_000 + "weight 4"))
    assert len(found) == MAX_DEPTH + 1
    assert found[-1] == ".".join("a" * MAX_DEPTH)


# --- places


MEMBERS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3)).map(lambda n: Member(n, n)), min_size=1
)


@given(MEMBERS, st.tuples(st.integers(0, 4), st.integers(0, 4)))
def test_a_partner_is_the_first_of_those_that_agree_longest(
    members: list[Member], numbers: tuple[int, int]
) -> None:
    ordered = sorted(members)

    def agreement(other: Member) -> int:
        same = [a == b for a, b in zip(numbers, other.numbers, strict=True)]
        return [*same, False].index(False)

    best = max(agreement(m) for m in members)
    assert partner(Member(numbers, ()), ordered) == next(m for m in ordered if agreement(m) == best)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12))), st.randoms())
def test_positions_depend_on_numbers_and_not_on_their_order(
    numbers: list[tuple[int, int]], random: Random
) -> None:
    mixed = list(numbers)
    random.shuffle(mixed)
    assert positions(mixed) == positions(numbers) != positions([*numbers, (13, 0)])


def test_digits_of_neighbours_do_not_run_together() -> None:
    assert len({positions(p) for p in ([(1, 12)], [(11, 2)], [(1,), (12,)], [(112,)])}) == 4


def test_a_subtree_knows_the_numbers_below_itself() -> None:
    found = outline(f"stages.{s}.blocks.{b}.{key}" for s in (1, 0) for b in (10, 2) for key in SIX)
    assert found.subtree("stages.*").places("blocks.*.a.weight 2").numbers == [
        (2,),
        (2,),
        (10,),
        (10,),
    ]
    whole = found.subtree("").places("stages.*.blocks.*.a.weight 2")
    assert whole.numbers == [(0, 2), (0, 10), (1, 2), (1, 10)]
    assert whole.digest == positions(whole.numbers)


# --- large


def test_a_hundred_thousand_names_fold_into_few() -> None:
    found = outline(f"blocks.{i}.{key}" for i in range(20_000) for key in SIX[:5])
    assert len(found.of_key) == 100_000
    assert len(found.elements) == 5


def test_a_hundred_thousand_names_of_their_own() -> None:
    found = outline(f"m{i}.w" for i in range(100_000))
    assert len(found.elements) == 100_000
    assert found.subtree("").bodies == ()
    assert found.subtree("m99999").relative == ("w 2",)


PIECES = [
    "a",
    "0",
    "12",
    "123456789",
    "1234567890",
    "*",
    "\n",
    "x\n3",
    "base_layer",
    "_layer_7",
    "٣",
    "",
]
NAMES = st.lists(st.sampled_from(PIECES), min_size=1, max_size=6).map(".".join)


@given(st.lists(NAMES | st.text("a.0*\n_layer", max_size=20), max_size=8))
def test_all_names_at_once_are_folded_as_each_is(names: list[str]) -> None:
    each = [fold(name.replace(".base_layer.", ".")) for name in names]
    assert list(zip(*fold_all(names), strict=True)) == each
