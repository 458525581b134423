"""What a name in a config says, from entries made here: rows, switches, prefixes, other towers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from convsurgeon.errors import RefusedError
from convsurgeon.evidence import Statement
from convsurgeon.sources.known import Known
from convsurgeon.sources.unlike import unlike
from tests.made_rows import FILLER, conv, row
from tools.catalogue.facts import facts_of

PATCH = {"f": "patch"}
FOUR = "conv2d kernel 4×4, stride 4×4"
Entry = dict[str, Any]
Shape = tuple[int, ...]


def fact(k: Any = 4, s: Any = 4, **more: Any) -> Entry:
    found = {"k": [k, k], "s": [s, s], "p": [0, 0], "d": [1, 1], "t": False, "g": 1}
    return found | more


def entry(slots: Mapping[str, list[Entry]], **more: Any) -> Entry:
    return {"slots": dict(slots), "defaults": {}, **more}


def known(*entries: Entry, config: Mapping[str, Any] | None = None, prefixes: str = "") -> Known:
    words = frozenset(prefixes.split())
    return Known("config.json: model_type x", "config.json", entries, config or {}, "here", words)


def says(speaker: Known, name: str, shape: Shape = (8, 3, 4, 4)) -> str:
    """What is said in words; `untold` where the class has the layer and no more is known of it."""
    found: Statement | None = speaker.about(name, shape)
    if found is None:
        return "nothing"
    return "untold" if found.empty else found.says()


ONE = entry({"p.weight": [fact()]})


def test_a_constant_holds_for_its_kernel_only() -> None:
    assert says(known(ONE), "p.weight") == FOUR
    assert says(known(ONE), "p.weight", (8, 3, 2, 2)) == "untold"
    assert says(known(ONE), "q.weight") == "nothing"


def test_a_field_holds_for_every_kernel() -> None:
    made = entry({"p.weight": [fact(PATCH, PATCH)]}, defaults={"patch": 4})
    assert says(known(made), "p.weight") == FOUR
    assert says(known(made, config={"patch": 8}), "p.weight", (8, 3, 8, 8)) == FOUR.replace(
        "4", "8"
    )
    found = known(made, config={"patch": 8}).about("p.weight", (8, 3, 4, 4))
    assert found is not None
    assert found.says() == FOUR.replace("4", "8")  # the plan sees that the weight has another


def test_classes_of_one_type_must_agree() -> None:
    other = entry({"p.weight": [fact(s=2)]})
    assert says(known(ONE, ONE), "p.weight") == FOUR
    assert says(known(ONE, other), "p.weight") == "untold"
    assert says(known(ONE, entry({})), "p.weight") == FOUR


def test_a_layer_of_which_nothing_is_known_is_untold() -> None:
    """An inference from its relatives would be no better."""
    assert says(known(entry({"p.weight": []})), "p.weight") == "untold"
    assert says(known(entry({"p.weight": []})), "p.weight", (8, 3)) == "nothing"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("p.weight", FOUR),
        ("model.p.weight", FOUR),
        ("vit.p.weight", FOUR),
        ("other.p.weight", "nothing"),
        ("model.model.p.weight", "nothing"),
        ("x.weight", FOUR),
        ("vit.x.weight", FOUR),
    ],
)
def test_a_library_drops_and_adds_the_name_of_its_base(name: str, expected: str) -> None:
    made = entry({"p.weight": [fact()], "vit.x.weight": [fact()]})
    assert says(known(made, prefixes="model vit"), name) == expected
    without = says(known(made), name)
    assert without == (FOUR if name in made["slots"] else "nothing")


@pytest.mark.parametrize(
    ("config", "expected"),
    [({}, FOUR), ({"half": False}, FOUR), ({"half": True}, "untold"), ({"half": 0}, FOUR)],
)
def test_a_switch_must_have_the_value_that_was_seen(config: Entry, expected: str) -> None:
    made = entry({"p.weight": [fact(**{"if": {"half": False}})]}, defaults={"half": False})
    assert says(known(made, config=config), "p.weight") == expected


def test_rows_for_some_block_numbers() -> None:
    made = entry({"b.*.weight": [fact(i=[[0], [2]]), fact(s=2, i=[[1]])]})
    found = [says(known(made), f"b.{n}.weight") for n in range(4)]
    assert found == [FOUR, "conv2d kernel 4×4, stride 2×2", FOUR, "untold"]


def test_too_few_stages() -> None:
    stage = {"f": "sizes", "i": [[0, 0]]}
    made = entry({"b.*.weight": [fact(stage, stage)]}, defaults={"sizes": [4, 2]})
    assert says(known(made), "b.0.weight") == FOUR
    assert says(known(made), "b.2.weight") == "untold"
    assert says(known(made, config={"sizes": [1, 1, 4]}), "b.2.weight") == FOUR


def test_one_group_per_output() -> None:
    made = entry({"p.weight": [fact(g="out")]})
    assert says(known(made), "p.weight", (8, 1, 4, 4)) == f"{FOUR}, 8 groups"
    assert says(known(made), "p.weight", (8, 2, 4, 4)) == "untold"


def test_check_reads_what_no_layer_of_a_file_asks_for() -> None:
    made = entry({"p.weight": [fact(PATCH, PATCH)]}, defaults={"patch": 4})
    known(made).check()
    for value in (0, "4", None, [4, 4, 4], -1):
        with pytest.raises(RefusedError, match="patch"):
            known(made, config={"patch": value}).check()


# --- other towers


TYPED = entry({}, types={"": "x", "vision_config": "clip", "text_config": "bert"})


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({}, None),
        ({"vision_config": None}, None),
        ({"vision_config": {}}, None),
        ({"vision_config": {"model_type": "clip"}}, None),
        ({"text_config": {"model_type": "gpt"}}, None),
        ({"vision_config": {"model_type": "vit"}}, "is of model_type 'vit', known with 'clip'"),
        ({"vision_config": {"auto_map": {"a": "b"}}}, "auto_map replaces the code"),
    ],
)
def test_a_section_of_another_type_is_another_model(config: Entry, what: str | None) -> None:
    found = unlike(config, TYPED, "here")
    assert (found is None) is (what is None)
    assert what is None or (found is not None and what in found.what)


@pytest.mark.parametrize("section", [1, [], "clip", {"model_type": 3}])
def test_a_section_that_is_none(section: Any) -> None:
    with pytest.raises(RefusedError, match="vision_config"):
        unlike({"vision_config": section}, TYPED, "here")


def test_a_guarded_field_must_have_the_value_that_was_seen() -> None:
    made = entry({}, guards={"c.backbone": "resnet50", "c.model_args": None})
    assert unlike({}, made, "here") is None
    assert unlike({"c": {"backbone": "resnet50"}}, made, "here") is None
    other = unlike({"c": {"backbone": "vit"}}, made, "here")
    hidden = unlike({"c": {"model_args": {"output_stride": 8}}}, made, "here")
    assert other is not None
    assert hidden is not None
    assert (other.hidden, hidden.hidden) == (False, True)


@pytest.mark.parametrize(
    ("old", "same"),
    [({"patch": 4}, True), ({}, True), ({"patch": 8}, False), (None, True), ("x", True)],
)
def test_a_sections_old_name_must_say_the_same(old: Any, same: bool) -> None:
    made = entry({}, defaults={"vision_config.patch": 4})
    found = unlike({"vision_config": {"patch": 4}, "vision_config_dict": old}, made, "here")
    assert (found is None) is same


# --- from a row to its entry


def origin(kernel: Any, stride: Any) -> Entry:
    numbers = {"padding": [0, 0], "dilation": [1, 1], "groups": 1}
    return {"from": {"kernel": [kernel] * 2, "stride": [stride] * 2, **numbers}}


def slots(told: Entry, *, constant: bool = False) -> Any:
    made = row("n", {"p.weight": ((8, 3, 4, 4), conv(4) | told)}, rest=FILLER)
    made["defaults"] = {"patch": 4}
    return facts_of(made, constant=constant)["slots"]["p.weight"]


def test_fields_count_where_other_values_were_tried() -> None:
    tried = {**origin(PATCH, PATCH), "probed": True}
    assert slots(tried) == [fact(PATCH, PATCH)]
    assert slots(origin(PATCH, PATCH)) == []
    assert slots(origin(4, 4)) == [fact()]
    assert slots({}) == []
    assert slots({}, constant=True) == [{"k": [4, 4], "o": {"stride": "kernel"}}]
    power = {"op": "**", "a": PATCH, "b": 2}
    assert slots({**origin(power, 4), "probed": True}) == []
