"""`swap_module(..., channels_first=)`: models that have their channels first, in axes or in memory."""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.export import Dim

import convsurgeon as cs
from convsurgeon.errors import UsageError
from convsurgeon.nn import ChannelNorm, FlatConv2d, SplitConv
from tests.live_cases import MAPS, TO_CONV, close, contents, counting, rows, same_tree, standing

MEMORY: dict[str, Any] = {**TO_CONV, "channels_first": "memory"}
EVERY: dict[str, dict[str, Any]] = {"rows": TO_CONV, "memory": MEMORY, "maps": MAPS}


def mlp() -> Any:
    torch.manual_seed(0)
    layers = (nn.LayerNorm(6), nn.Linear(6, 10), nn.GELU(), nn.Dropout(0.5), nn.Linear(10, 4))
    return nn.Sequential(*layers).double().eval()


def to_maps(x: Tensor) -> Tensor:
    return x.mT.unsqueeze(2)


def words() -> Tensor:
    return torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def test_layers_that_stay_channel_first_between_them() -> None:
    model, x = mlp(), words()
    want = model(x)
    (plan,) = cs.swap_module(model, **MAPS).files
    assert [type(m) for m in model][:2] == [ChannelNorm, FlatConv2d]
    seen: list[tuple[int, ...]] = []
    for one in model:
        one.register_forward_hook(lambda _m, _i, out: seen.append(tuple(out.shape)))
    assert close(model(to_maps(x)), to_maps(want))
    assert seen == [(2, 6, 1, 5), *[(2, 10, 1, 5)] * 3, (2, 4, 1, 5)]
    assert close(model(to_maps(x).expand(2, 6, 3, 5))[:, :, 2], want.mT)
    assert "[B, C, *positions]" in plan.notes[0]
    assert plan.notes[1] == "layer norms over channels: 1"


@pytest.mark.parametrize(("method", "axes"), [("1", 1), ("1x1", 2), ("1x1x1", 3)])
def test_maps_of_each_number_of_axes(method: str, axes: int) -> None:
    model, x = mlp(), words()
    want = model(x).mT
    cs.swap_module(model, to="conv", method=method, channels_first=True)
    maps = x.mT.reshape(2, 6, *(1,) * (axes - 1), 5)
    assert close(model(maps).flatten(2), want)


class Turned(nn.Module):
    """Has its channels first, `[B, C, 1, S]`, and turns them around each Linear and the norm."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm = nn.LayerNorm(6)
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = self.up(y.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        y = self.down(torch.relu(y).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        out: Tensor = x + y
        return out


@pytest.mark.parametrize("options", [TO_CONV, MEMORY], ids=["rows", "memory"])
def test_a_channel_first_model_that_turns_around_each_linear(options: dict[str, Any]) -> None:
    """In memory, its permutes and those of the drop-ins undo each other."""
    model = Turned().double()
    x = to_maps(words()).contiguous()
    want = model(x)
    cs.swap_module(model, **options)
    assert close(model(x), want)
    turned: list[bool] = []

    def look(_module: nn.Module, inputs: tuple[Tensor, ...], out: Tensor) -> None:
        turned.extend(rows.permute(0, 3, 1, 2).is_contiguous() for rows in (*inputs, out))

    for layer in (model.norm, model.up, model.down):
        layer.register_forward_hook(look)
    model(x)
    assert len(turned) == 6
    assert all(turned) == (options is MEMORY)


def test_an_exported_model_copies_at_its_border_only() -> None:
    model = mlp()
    cs.swap_module(model, **MEMORY)
    program = torch.export.export(model, (words(),))
    aten, found = torch.ops.aten, list[Any](program.graph.nodes)
    assert len([node for node in found if node.target is aten.conv2d.default]) == 2
    laid = [node.args[0].meta["val"] for node in found if node.target is aten.contiguous.default]
    assert [x.is_contiguous() for x in laid] == [False, *[True] * (len(laid) - 1)]
    assert torch.equal(program.module()(words()), model(words()))


@pytest.mark.filterwarnings("ignore:.isinstance.treespec, LeafSpec:FutureWarning")  # torch's own
@pytest.mark.parametrize(
    ("options", "convs"),
    [(MAPS, 1), ({**MEMORY, "max_channels": 6}, 2)],
    ids=["maps", "memory, parts"],
)
def test_onnx(options: dict[str, Any], convs: int, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="reads what was exported")
    runtime = pytest.importorskip("onnxruntime", reason="runs what was exported")
    pytest.importorskip("onnxscript", reason="torch exports through it")
    model, x = mlp().float()[:2].eval(), words().float()
    want, maps = model(x), options is MAPS
    cs.swap_module(model, **options)
    example, file = (to_maps(x).contiguous() if maps else x), str(tmp_path / "model.onnx")
    moving = {"input": {0: Dim.DYNAMIC, 3 if maps else 1: Dim.DYNAMIC}}
    torch.onnx.export(model, (example,), file, dynamo=True, dynamic_shapes=moving, verbose=False)
    operators = [node.op_type for node in onnx.load(file).graph.node]
    assert operators.count("Conv") == convs
    assert not {"MatMul", "Gemm"} & set(operators)
    session = runtime.InferenceSession(file, providers=["CPUExecutionProvider"])
    for given in (example, torch.cat([example, example])):
        (got,) = session.run(None, {"input": given.numpy()})
        rows_of = torch.from_numpy(got).squeeze(2).mT if maps else torch.from_numpy(got)
        assert torch.allclose(rows_of[:2], want, atol=1e-5)


@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
def test_the_way_back_and_the_names_in_between(options: dict[str, Any]) -> None:
    model, plain = mlp(), mlp()
    cs.swap_module(model, **options)
    assert list(model.state_dict()) == list(plain.state_dict())
    assert tuple(model[1].weight.shape) == (10, 6, 1, 1)
    report = cs.restore_module(model)
    assert report.refused == ()
    assert contents(model) == contents(plain)
    assert same_tree(model, plain)
    assert torch.equal(model(words()), plain(words()))


@pytest.mark.parametrize("options", EVERY.values(), ids=EVERY)
def test_file_and_model_hold_the_same_tensors(options: dict[str, Any], tmp_path: Path) -> None:
    model, x = mlp(), words()
    want = model(x)
    save_file(model.state_dict(), tmp_path / "plain.safetensors")
    out = tmp_path / "conv.safetensors"
    cs.swap(tmp_path / "plain.safetensors", out, **TO_CONV, layers=["1", "4"])
    cs.swap_module(model, **options)
    stored, live = load_file(out), model.state_dict()
    assert stored.keys() == live.keys()
    assert all(torch.equal(stored[name], live[name]) for name in live)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    cs.load(model, out)
    got = model(to_maps(x)).squeeze(2).mT if options is MAPS else model(x)
    assert close(got, want)
    loaded = mlp()
    cs.load(loaded, out)
    assert torch.equal(loaded[1].weight, live["1.weight"])


class Written(nn.Module):
    """Channel-first from the start, with the names of `mlp`, as models for neural engines are."""

    def __init__(self) -> None:
        super().__init__()
        modules = (nn.LayerNorm(6), nn.Conv2d(6, 10, 1), nn.GELU(), nn.Identity())
        for name, module in enumerate((*modules, nn.Conv2d(10, 4, 1))):
            self.add_module(str(name), module)

    def forward(self, x: Tensor) -> Tensor:
        norm, up, act, _, down = self.children()
        out: Tensor = down(act(up(norm(x.movedim(1, -1)).movedim(-1, 1))))
        return out


def test_a_model_that_was_written_channel_first_takes_the_file(tmp_path: Path) -> None:
    save_file(mlp().state_dict(), tmp_path / "plain.safetensors")
    out = tmp_path / "conv.safetensors"
    cs.swap(tmp_path / "plain.safetensors", out, **TO_CONV, layers=["1", "4"])
    model, strict = Written().double(), Written().double()
    assert cs.load(model, out).replaced == ()
    strict.load_state_dict(load_file(out))
    want = to_maps(mlp()(words()))
    assert close(model(to_maps(words())), want)
    assert close(strict(to_maps(words())), want)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (lambda model: setattr(model[4], "act", nn.ReLU()), "4 stays as it is .CS024"),
        (lambda model: setattr(model[0], "input", "mine"), "0 normalises its last axis still"),
        (lambda model: model.__setitem__(0, nn.LayerNorm((5, 6))), "0 stays as it is .CS015"),
        (lambda model: model.append(Bilingual(4, 4)), "5 stays as it is .CS007"),
        (lambda model: model.append(nn.Softmax(-1)), "5 stays as it is .Softmax"),
        (lambda model: model.append(nn.RMSNorm(4)), "5 stays as it is .RMSNorm"),
    ],
)
def test_one_layer_that_cannot_follow_holds_all_back(
    spoil: Callable[[Any], object], code: str
) -> None:
    model = mlp()
    spoil(model)
    before = standing(model)
    (plan,) = cs.swap_module(model, **MAPS).files
    assert standing(model) == before
    assert (plan.rewrites, plan.notes) == ((), ())
    row = next(row for row in plan.layers if row.module == "1")
    assert (row.code, row.verdict.value) == ("CS088", "refused")
    assert re.match(code, row.reason)


def test_what_was_swapped_for_rows_holds_back_as_well() -> None:
    model = mlp()
    cs.swap_module(model, **TO_CONV, where=lambda name, _: name == "4")
    assert rows(cs.swap_module(model, **MAPS))["1"].reason.startswith(
        "4 stays as it is (FlatConv2d)"
    )
    others = (nn.Embedding(4, 4), nn.Softmax(1), nn.BatchNorm2d(4))
    patches: Any = nn.Sequential(nn.Conv2d(3, 6, 2, 2), nn.Linear(6, 4), *others)
    cs.swap_module(patches)
    assert rows(cs.swap_module(patches, **MAPS))["1"].rewrite


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::UserWarning")
def test_a_layer_that_no_plan_lists_holds_back_as_well() -> None:
    dynamic: Any = torch.ao.nn.quantized.dynamic.Linear
    quantised = dynamic(4, 4)
    model = nn.Sequential(nn.Linear(4, 4), quantised)
    (row,) = cs.swap_module(model, **MAPS).files[0].layers
    assert (row.code, row.reason[:26]) == ("CS088", "1 stays as it is (Linear),")


class Bilingual(nn.Linear):
    """A subclass, which may compute anything."""


def test_what_the_caller_leaves_out_stands_outside() -> None:
    model = mlp()
    plan = rows(cs.swap_module(model, **MAPS, where=lambda name, _: name != "4"))
    assert type(model[4]) is nn.Linear
    assert isinstance(model[1], FlatConv2d)
    assert plan["4"].reason.endswith("left out by where")
    other = mlp()
    cs.swap_module(other, **MAPS, where=lambda name, _: name != "0")
    assert type(other[0]) is nn.LayerNorm
    encoder: Any = nn.Sequential(nn.MultiheadAttention(6, 2), nn.Linear(6, 4))
    assert rows(cs.swap_module(encoder, **MAPS))["1"].code == "CS088"
    assert rows(cs.swap_module(encoder, **MAPS, where=lambda name, _: name == "1"))["1"].rewrite


def test_a_norm_that_cannot_follow_is_named_where_rows_stay_rows() -> None:
    model = mlp()
    model[0] = nn.LayerNorm((5, 6)).double()
    want = model(words())
    notes = cs.swap_module(model, **MEMORY).files[0].notes
    assert notes[1] == "layer norms over channels: 0"
    assert notes[2].startswith("0 normalises its last axis still: cannot replace this LayerNorm")
    assert close(model(words()), want)


class Doubled(nn.LayerNorm):
    """As those of vision models that turn maps around, or add a gain."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return 2 * super().forward(input)


def with_a_buffer() -> nn.LayerNorm:
    norm = nn.LayerNorm(6)
    norm.register_buffer("seen", torch.zeros(1))
    return norm


def test_a_norm_that_is_more_than_a_norm_stays() -> None:
    """What its class or its tables have beside a weight and a bias would be gone."""
    for norm, code in ((Doubled(6), "CS007"), (with_a_buffer(), "CS024")):
        model = mlp()
        model[0] = norm.double()
        want, names = model(words()), list(model.state_dict())
        notes = cs.swap_module(model, **MEMORY).files[0].notes
        assert notes[1] == "layer norms over channels: 0"
        assert notes[2].endswith(f"({code})")
        assert close(model(words()), want)
        assert list(model.state_dict()) == names
        cs.restore_module(model)
        assert rows(cs.swap_module(model, **MAPS))["1"].code == "CS088"
    back = mlp()
    cs.swap_module(back, **MEMORY)
    back[0].register_buffer("seen", torch.zeros(1))
    (stays,) = cs.restore_module(back).refused
    assert (stays.module, stays.code) == ("0", "CS024")


def test_a_norm_without_parameters_and_one_of_two_names() -> None:
    model = mlp()
    model[0] = nn.LayerNorm(6, elementwise_affine=False).double()
    model.again = model[0]
    plain = deepcopy(model)
    cs.swap_module(model, **MAPS)
    assert model.again is model[0]
    assert isinstance(model.again, ChannelNorm)
    report = cs.restore_module(model)
    assert {row.module for row in report.restored} >= {"0", "again"}
    assert same_tree(model, plain)
    assert model.again is model[0]


@pytest.mark.parametrize("options", [MEMORY, MAPS], ids=["memory", "maps"])
def test_a_norm_keeps_what_a_layer_keeps(options: dict[str, Any]) -> None:
    model, calls, note = mlp(), list[str](), object()
    norm = model[0].train()
    norm.note = norm.weight.note = note
    norm.bias.requires_grad = False
    handle = norm.register_forward_hook(counting(calls, "f"))
    norm.weight.register_hook(counting(calls, "g"))
    parameters = [id(p) for p in norm.parameters()]
    x = to_maps(words()) if options is MAPS else words()
    for step in (cs.swap_module, cs.restore_module):
        step(model, **(options if step is cs.swap_module else {}))
        assert model[0].note is model[0].weight.note is note
        assert [id(p) for p in model[0].parameters()] == parameters
        assert [m.training for m in model] == [True, False, False, False, False]
        model(x if step is cs.swap_module else words()).sum().backward()
        assert calls == ["f", "g"]
        calls.clear()
    handle.remove()
    model(words()).sum().backward()
    assert calls == ["g"]
    model[0].register_backward_hook(lambda *_: None)
    notes = cs.swap_module(model, **MEMORY).files[0].notes
    assert "register_backward_hook" in notes[2]


def test_layer_norms_alone_are_left_alone() -> None:
    model = nn.Sequential(nn.LayerNorm(6), nn.ReLU())
    before = standing(model)
    assert cs.swap_module(model, **MAPS).files[0].notes == ()
    assert standing(model) == before


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"channels_first": True}, "channels_first"),
        ({"to": "conv", "channels_first": True}, "channels_first"),
        ({"to": "conv", "max_channels": 8}, "max_channels"),
        ({**TO_CONV, "channels_first": "axes"}, "channels_first"),
        ({**TO_CONV, "channels_first": ["*.mlp"]}, "channels_first"),
        ({**TO_CONV, "max_channels": 0}, "max_channels"),
        ({**TO_CONV, "max_channels": True}, "max_channels"),
        ({**TO_CONV, "max_channels": 1.5}, "max_channels"),
    ],
)
def test_what_does_not_go_together(options: dict[str, Any], where: str) -> None:
    model = mlp()
    before = standing(model)
    with pytest.raises(UsageError, match=f"CS090.*{where}|{where}.*CS090"):
        cs.swap_module(model, **options)
    assert standing(model) == before


@pytest.mark.parametrize("channels_first", [False, "memory", True])
def test_a_wide_layer_is_cut_along_its_outputs(channels_first: Any) -> None:
    model, plain, x = mlp(), mlp(), words()
    plan = cs.swap_module(model, **TO_CONV, channels_first=channels_first, max_channels=6)
    row = rows(plan)["4"]
    assert row.code == "CS087"
    assert "10 inputs, the limit is 6" in row.reason
    if channels_first is True:
        assert rows(plan)["1"].code == "CS088"
        return
    assert isinstance(model[1], SplitConv)
    assert rows(plan)["1"].reason.endswith("; cut into 2 parts of at most 6 outputs")
    assert close(model(x), plain(x))
    (again,) = [r for r in cs.swap_module(model, **TO_CONV).files[0].layers if r.module == "1"]
    assert (again.verdict.value, again.reason) == ("already", "already a SplitConv")
    assert again.key == "1.parts.0.weight"
    assert rows(cs.swap_module(model))["1"].code == "CS026"
    cs.restore_module(model)
    assert contents(model) == contents(plain)
    assert same_tree(model, plain)
