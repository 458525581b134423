"""Provenance, rows, comparison and probes of tools/zoo, with models made here."""

from __future__ import annotations

import copy
import json
import pickle
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tools.zoo import tables
from tools.zoo.build import attempt, full_row
from tools.zoo.check import differences
from tools.zoo.models import Built, Candidate, Library, TooLongError, made, time_limit
from tools.zoo.probe import changed, foretold, probed
from tools.zoo.provenance import Tagged, evaluated, expression_of, fields_of, tagged
from tools.zoo.rows import row_of
from tools.zoo.second import by_origin, spread
from tools.zoo.switches import flips, switched, with_switches

torch = pytest.importorskip("torch", reason="rows are read from modules")
from torch import nn  # noqa: E402 - after the line that skips without it

INTS = st.integers(-(2**40), 2**40)


@given(INTS, INTS, INTS.filter(bool))
def test_arithmetic_remembers_where_it_comes_from(a: int, b: int, c: int) -> None:
    x, y = tagged(a, "x"), tagged([b, c], "y")
    made_of = ((x + 3) * y[0] - x) // y[1] % 7 + -y[0]
    assert made_of == ((a + 3) * b - a) // c % 7 + -b
    assert evaluated(made_of.expression, {"x": a, "y": [b, c]}) == made_of
    other = {"x": 5, "y": (2, 3)}
    assert evaluated(made_of.expression, other) == ((5 + 3) * 2 - 5) // 3 % 7 - 2
    assert set(fields_of(made_of.expression)) == {"x", "y"}


def test_plain_numbers_on_the_left_are_remembered_too() -> None:
    x = tagged(3, "x")
    for value, by_hand in ((2 * x, 6), (7 // x, 2), (7 - x, 4), (7 + x, 10), (7 % x, 1), (2**x, 8)):
        assert value == by_hand
        assert evaluated(value.expression, {"x": 3}) == by_hand


def test_a_tagged_number_passes_for_a_number() -> None:
    x = tagged(16, "vision_config.patch_size")
    assert (x, hash(x), str(x), json.dumps([x])) == (16, hash(16), "16", "[16]")
    for other in (copy.deepcopy(x), pickle.loads(pickle.dumps(x)), copy.copy(x)):
        assert other.expression == {"f": "vision_config.patch_size"}


def test_what_leaves_the_integers_loses_the_field() -> None:
    x = tagged(16, "x")
    assert expression_of(int(x / 2)) == 8
    assert not isinstance(x * 2.0, Tagged)
    assert not isinstance(x == 16, Tagged)


def test_bools_and_text_stay_what_they_are() -> None:
    found = tagged({"a": True, "b": "x", "c": (1, [2])}, "p")
    assert found["a"] is True
    assert found["c"] == (1, [2])
    assert expression_of(found["c"][1][0]) == {"f": "p.c", "i": [1, 0]}
    with pytest.raises(TypeError):
        evaluated({"f": "a"}, {"a": True})
    with pytest.raises(LookupError):
        evaluated({"f": "a", "i": 3}, {"a": [1, 2]})


class Sub(nn.Conv2d):
    def forward(self, x: Any) -> Any:
        return x


def every_kind(k: Any = 4) -> Any:
    model = nn.ModuleDict()
    model["plain"] = nn.Conv2d(3, 8, k, k)
    model["valid"] = nn.Conv1d(3, 8, 2, 2, padding="valid")
    model["same1"] = nn.Conv2d(3, 8, 1, padding="same")
    model["same3"] = nn.Conv2d(3, 8, 3, padding="same")
    model["overlap"] = nn.Conv2d(3, 8, k, k // 2)
    model["padded"] = nn.Conv2d(3, 8, 4, 4, padding=1)
    model["dilated"] = nn.Conv2d(3, 8, 2, 2, dilation=2)
    model["dilated1"] = nn.Conv2d(3, 8, 1, dilation=2)
    model["grouped"] = nn.Conv2d(4, 8, 2, 2, groups=4)
    model["strided"] = nn.Conv2d(3, 8, 1, 2)
    model["up"] = nn.ConvTranspose2d(8, 8, 2, 2)
    model["sub"] = Sub(3, 8, 2, 2)
    model["normed"] = nn.utils.parametrizations.weight_norm(nn.Conv2d(3, 8, 2, 2))
    model["spectral"] = nn.utils.parametrizations.spectral_norm(nn.Conv3d(3, 8, 2, 2))
    return model


def test_only_what_is_a_linear_layer_is_eligible() -> None:
    row = row_of(every_kind(), "timm", "n", "f", None)
    found = {conv["module"]: conv for conv in row["convs"]}
    assert {name for name, conv in found.items() if conv["eligible"]} == {
        "plain", "valid", "same1", "dilated1",
    }  # fmt: skip
    assert {name for name, conv in found.items() if conv["overrides_forward"]} == {"sub"}
    assert {n for n, conv in found.items() if conv["parametrized"]} == {"normed", "spectral"}
    assert [name for name, conv in found.items() if conv["transposed"]] == ["up"]
    assert found["sub"]["type"] == f"{__name__}.Sub"
    assert row["tensors"]["plain.weight"] == ["float32", [8, 3, 4, 4]]
    assert "normed.weight" not in row["tensors"]
    assert (row["cls"], row["config"], found["same3"]["padding"]) == ("ModuleDict", None, "same")


def test_each_number_of_a_geometry_has_its_origin() -> None:
    row = row_of(made(lambda: every_kind(tagged(4, "patch"))), "timm", "n", "f", None)
    found = {conv["module"]: conv["from"] for conv in row["convs"]}
    field, half = {"f": "patch"}, {"op": "//", "a": {"f": "patch"}, "b": 2}
    assert found["overlap"] == {
        "kernel": [field, field], "stride": [half, half], "padding": [0, 0],
        "dilation": [1, 1], "groups": 1,
    }  # fmt: skip
    assert found["valid"]["padding"] == "valid"
    assert found["grouped"]["groups"] == 4


def test_an_attribute_set_later_is_read_as_it_is() -> None:
    model = every_kind(tagged(4, "patch"))
    model["plain"].stride = (1, 1)
    (conv,) = [c for c in row_of(model, "timm", "", "", None)["convs"] if c["module"] == "plain"]
    assert (conv["stride"], conv["from"]["stride"], conv["eligible"]) == ([1, 1], [1, 1], False)


class Net(nn.Module):
    """A stem with a patch size that a field gives, and a stride that tags do not survive."""

    def __init__(self, patch: int, image: int, *, halved: bool, mode: str) -> None:
        super().__init__()
        if image % patch:
            raise ValueError("image size must be divisible by patch size")
        self.stem = nn.Conv2d(3, 8, patch, patch)
        self.lost = nn.Conv2d(8, 8, int(patch / 2), int(patch / 2))
        self.step = nn.Conv2d(8, 8, 2, 1 if halved else 2, padding=int(mode == "padded"))


def candidate(**defaults: Any) -> Candidate:
    def build(changes: dict[str, Any]) -> Built:
        values = {"patch": 4, "image": 8, "halved": False, "mode": "plain"} | defaults | changes
        net = made(lambda: Net(**{name: tagged(value, name) for name, value in values.items()}))
        return Built(net, dict(values), values, {"": "net"})

    return Candidate("net", build, "nets")


LIBRARY = Library("nets", "1", ())


def test_a_probe_drops_what_it_refutes_and_keeps_the_rest() -> None:
    row = full_row(candidate().build({}), LIBRARY, candidate())
    assert (row["defaults"], row["version"]) == ({"patch": 4}, "1")
    found = probed(row, candidate())
    assert (found["probe"], found["probe_differs"]) == ("differs", ["lost"])
    kept = {conv["module"]: conv["from"] is not None for conv in found["convs"]}
    assert kept == {"stem": True, "lost": False, "step": True}
    assert all(conv["probed"] for conv in found["convs"])


def test_a_probe_tells_why_nothing_was_built() -> None:
    row = full_row(candidate().build({}), LIBRARY, candidate())

    def build(changes: dict[str, Any]) -> Built:
        if changes:
            raise ValueError("never")
        return candidate().build({})

    found = probed(row, Candidate("net", build, "nets"))
    assert found["probe"] == "not built: ValueError: never"
    assert not any(conv["probed"] for conv in found["convs"])


def test_fields_grow_by_factors_of_their_own() -> None:
    first = next(changed(["kernel", "stride"], {"kernel": [4, 4], "stride": 4, "flag": True}))
    assert first == {"kernel": [8, 12], "stride": 12}


def test_switches_are_found_with_the_value_they_have() -> None:
    row = full_row(candidate().build({}), LIBRARY, candidate())
    found = switched(row, candidate())
    assert found == {"step": {"halved": False, "mode": "plain"}}
    marked = {c["module"]: c.get("switches") for c in with_switches(row, found)["convs"]}
    assert marked == {"stem": None, "lost": None, "step": found["step"]}


def test_what_switches_one_switches_all_that_are_alike() -> None:
    row = full_row(candidate().build({}), LIBRARY, candidate())
    longer = copy.deepcopy(row)
    for conv in longer["convs"]:
        conv["module"] = f"model.{conv['module']}.0"
    grouped = by_origin(longer, {"model.step.0": {"halved": False}})
    assert spread(longer, grouped) == {"model.step.0": {"halved": False}}
    assert spread(row, grouped) == {}
    alike = copy.deepcopy(longer)
    alike["convs"] = [conv | {"module": f"1.{conv['module']}"} for conv in longer["convs"]]
    assert spread(alike, grouped) == {"1.model.step.0": {"halved": False}}


def test_constants_have_nothing_to_probe() -> None:
    def build(changes: dict[str, Any]) -> Built:
        return Built(nn.Conv2d(3, 8, 2, 2), None, {} | changes, {"": "net"})

    fixed = Candidate("fixed", build, "nets")
    found = probed(full_row(build({}), LIBRARY, fixed), fixed)
    assert (found["probe"], found["probe_differs"]) == ("no field", [])


def test_only_fields_that_may_tell_are_flipped() -> None:
    values = {"use_cache": True, "hidden": 3, "stride_of_stem": 0, "t.qkv_bias": True, "deep": True}
    built = Built(Net(4, 8, halved=False, mode="plain"), None, values, {})
    assert dict(flips(built)) == {
        "deep": {"deep": False}, "stride_of_stem": {"stride_of_stem": 1},
    }  # fmt: skip


def test_foretelling_needs_every_field() -> None:
    model = made(lambda: every_kind(tagged(4, "patch")))
    origin = row_of(model, "timm", "n", "f", None)["convs"][0]
    assert foretold(origin["from"], {"patch": 8}) is not None
    assert foretold(origin["from"], {}) is None


def test_a_failure_is_a_row_with_its_reason() -> None:
    row = attempt(candidate(image=9), LIBRARY, {})
    assert row == {
        "source": "nets", "name": "net",
        "error": "ValueError: image size must be divisible by patch size",
    }  # fmt: skip


def test_a_limit_cuts_through_code_that_swallows_exceptions() -> None:
    def stubborn() -> None:
        while True:
            with suppress(Exception):
                sum(range(1000))

    with pytest.raises(TooLongError), time_limit(1):
        stubborn()


def test_code_that_computes_with_tensors_is_built_without_parameters() -> None:
    def make() -> Any:
        steps = torch.linspace(0, 1, 3).tolist()  # has no numbers on the meta device
        first = nn.Linear(len(steps), 2)
        second = nn.Linear(3, 2)
        second.weight = first.weight
        return nn.ModuleList([first, second])

    model = made(make)
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model[0].weight is model[1].weight


def test_differences_have_their_kind() -> None:
    mine = row_of(every_kind(), "timm", "n", "f", None)
    assert list(differences([mine], [mine, {"source": "other", "name": "x"}])) == []
    oracle = copy.deepcopy(mine) | {"cls": "Other"}
    oracle["convs"][0]["stride"] = [9, 9]
    oracle["tensors"]["plain.weight"] = ["float16", [8, 3, 4, 4]]
    del oracle["tensors"]["plain.bias"]
    kinds = [line.partition(":")[0] for line in differences([mine], [oracle])]
    assert kinds == ["cls", "more keys", "tensor", "stride"]
    (line,) = differences([mine], [mine | {"name": "m"}])
    assert line == "missing: timm:m"


def test_rows_survive_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    tables.append(path, {"a": 1})
    path.write_bytes(path.read_bytes() + b'{"a": ')
    assert tables.read(path) == [{"a": 1}]
    tables.write(tmp_path / "all.jsonl.xz", tables.read(path))
    assert tables.read(tmp_path / "all.jsonl.xz") == [{"a": 1}]


def test_elsewhere_a_file_has_the_names_of_the_model() -> None:
    row = row_of(every_kind(), "torchvision", "n", "f", SimpleNamespace().__dict__)
    assert all(conv["key"] == f"{conv['module']}.weight" for conv in row["convs"])
    assert row["tied"] == {}
