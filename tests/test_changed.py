"""The changed configurations in tests/census: that they are what its README says."""

from __future__ import annotations

import json
import lzma
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tools.zoo import changed as tool
from tools.zoo.changed import changed_row, changes, title
from tools.zoo.models import prepare

CENSUS = Path(__file__).parent / "census"
README = CENSUS / "README.md"
NAMED = re.compile(r'\{"source":"(\w+)","name":"([^"]+)"')
PLAIN = {f"torch.nn.Conv{rank}d" for rank in (1, 2, 3)}
Row = dict[str, Any]


def name_of(row: Row) -> tuple[str, str]:
    return row["source"], row["base"]


@pytest.fixture(scope="module")
def changed() -> list[Row]:
    with lzma.open(CENSUS / "changed.jsonl.xz", "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def bases(changed: list[Row]) -> dict[tuple[str, str], Row]:
    """The unchanged architectures, from the census; its other lines are not parsed."""
    wanted = {name_of(row) for row in changed}
    with lzma.open(CENSUS / "census.jsonl.xz", "rt", encoding="utf-8") as lines:
        begun = ((NAMED.match(line), line) for line in lines)
        found = (((m[1], m[2]), line) for m, line in begun if m)
        return {name: json.loads(line) for name, line in found if name in wanted}


def eligible(conv: Row) -> bool:
    """Decide from the geometry alone, apart from the code that wrote the file."""
    kernel, padding = conv["kernel"], conv["padding"]
    pointwise = set(kernel) == {1}
    if conv["type"] not in PLAIN or conv["transposed"] or conv["parametrized"]:
        return False
    if conv["groups"] != 1 or conv["stride"] != kernel:
        return False
    if not pointwise and set(conv["dilation"]) != {1}:
        return False
    return padding == "valid" or (pointwise if padding == "same" else set(padding) == {0})


def turned(row: Row, base: Row, *, to: bool) -> list[str]:
    """Return the keys of patchifying convs that were not (or were) eligible by default."""
    before = {c["key"]: c for c in base["convs"]}
    return [
        c["key"]
        for c in row["convs"]
        if max(c["kernel"]) > 1
        and c["eligible"] is to
        and c["key"] in before
        and before[c["key"]]["eligible"] is not to
        and (to or max(before[c["key"]]["kernel"]) > 1)
    ]


def test_there_are_enough_and_they_are_spread(changed: list[Row]) -> None:
    assert len(changed) >= 300
    assert len({(row["source"], row["family"]) for row in changed}) >= 100
    assert Counter(row["change"] for row in changed)["stride"] >= 30
    assert len({row["source"] for row in changed}) == 5
    assert len({(row["source"], row["name"]) for row in changed}) == len(changed)
    assert f"\n{len(changed)} configurations" in README.read_text(encoding="utf-8")


def test_the_file_holds_the_tables_row_for_row(changed: list[Row]) -> None:
    written = [(r["source"], r["name"], r["base"], r["change"]) for r in changed]
    wanted = [(s, title(c), c.base, c.word) for s, c in changes()]
    assert written == sorted(wanted)


def test_every_row_differs_from_the_architecture_that_it_changes(
    changed: list[Row], bases: dict[tuple[str, str], Row]
) -> None:
    for row in changed:
        base = bases[name_of(row)]
        assert (row["cls"], row["family"]) == (base["cls"], base["family"]), row["name"]
        shapes = [{key: t[1] for key, t in each["tensors"].items()} for each in (row, base)]
        strides = [{c["module"]: c["stride"] for c in each["convs"]} for each in (row, base)]
        assert shapes[0] != shapes[1] or strides[0] != strides[1], row["name"]


def test_changes_turn_eligibility_both_ways(
    changed: list[Row], bases: dict[tuple[str, str], Row]
) -> None:
    lost = [row for row in changed if turned(row, bases[name_of(row)], to=False)]
    gained = [row for row in changed if turned(row, bases[name_of(row)], to=True)]
    assert len(lost) >= 10
    assert len(gained) >= 10
    told = README.read_text(encoding="utf-8")
    assert f"{len(lost)} have a convolution" in told
    assert f"{len(gained)} the reverse" in told


def test_every_conv_has_its_tensor_with_the_kernel_that_is_stated(changed: list[Row]) -> None:
    for row in changed:
        found = {c["key"]: row["tensors"].get(c["key"]) for c in row["convs"]}
        shapes = {(c["key"], tuple(c["kernel"])) for c in row["convs"] if found[c["key"]]}
        assert shapes <= {(key, tuple(t[1][2:])) for key, t in row["tensors"].items()}, row["name"]
        missing = [c for c in row["convs"] if not found[c["key"]] and not c["parametrized"]]
        # UDOP registers one patch embedding under two names and saves it under one.
        assert not missing or row["base"].startswith("udop."), (row["name"], missing)


def test_eligible_is_what_the_geometry_says(changed: list[Row]) -> None:
    for row in changed:
        for conv in row["convs"]:
            assert conv["eligible"] is eligible(conv), (row["name"], conv)


@pytest.mark.parametrize(
    "spoilt",
    [
        {"stride": [2, 4]}, {"padding": [0, 1]}, {"padding": "same"}, {"dilation": [1, 2]},
        {"groups": 2}, {"parametrized": True}, {"type": "timm.layers.Conv2dSame"},
    ],
)  # fmt: skip
def test_the_recomputation_can_say_no(spoilt: Row) -> None:
    conv = {
        "type": "torch.nn.Conv2d", "kernel": [4, 4], "stride": [4, 4], "padding": "valid",
        "dilation": [1, 1], "groups": 1, "transposed": False, "parametrized": False,
    }  # fmt: skip
    assert eligible(conv)
    assert not eligible(conv | spoilt)


def test_a_stride_that_no_file_shows_is_marked(changed: list[Row]) -> None:
    hidden = [row for row in changed if not row["states_stride"]]
    assert {row["base"] for row in hidden} == {"resnet50", "resnet101"}
    assert all(not row["config"] for row in hidden)


def test_nothing_is_written_where_a_configuration_cannot_be_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(source: str, change: object) -> Row:
        raise ValueError("no such\nwidth")

    monkeypatch.setattr(tool, "changed_row", refuse)
    monkeypatch.setattr(tool, "prepare", lambda: None)
    out = tmp_path / "rows.jsonl.xz"
    monkeypatch.setattr("sys.argv", ["changed", str(out), "--only", "torchvision:vit_b_16"])
    assert tool.main() == 1
    assert not out.exists()
    told = capsys.readouterr().err
    assert "torchvision:vit_b_16|patch_size=14: ValueError: no such width\n" in told


@pytest.mark.long
@pytest.mark.parametrize(
    ("source", "base"),
    [
        ("diffusers", "WanTransformer3DModel"), ("open_clip", "RN50"), ("timm", "convnext_tiny"),
        ("torchvision", "convnext_tiny"), ("torchvision", "resnet50"),
        ("transformers", "deepseek_vl_hybrid.DeepseekVLHybridModel"),
        ("transformers", "cvt.CvtModel"),
    ],
)  # fmt: skip
def test_the_libraries_still_build_what_the_file_says(
    source: str, base: str, changed: list[Row]
) -> None:
    prepare()
    pytest.importorskip(source, reason="builds its models")
    rows = {row["name"]: row for row in changed if name_of(row) == (source, base)}
    again = [changed_row(s, c) for s, c in changes() if (s, c.base) == (source, base)]
    assert {row["name"]: row for row in again} == rows
