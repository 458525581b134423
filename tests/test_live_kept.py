"""What stays of a layer that is replaced, there and on the way back."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.api.live import exchange
from convsurgeon.nn import FlatConv2d, GemmConv2d, PatchLinear
from tests.live_cases import (
    FORMS,
    MAPS,
    POINTWISE,
    TO_CONV,
    contents,
    counting,
    net,
    pixels,
    refusal,
    same_tree,
    standing,
)

WAYS = {**FORMS, **POINTWISE, "maps": MAPS}
every_way = pytest.mark.parametrize("options", WAYS.values(), ids=WAYS)
renewing = pytest.mark.parametrize("options", [{}, TO_CONV], ids=["linear", "conv"])


def layer(options: dict[str, Any], **rest: Any) -> Any:
    torch.manual_seed(0)
    if "to" in options:
        return nn.Linear(4, 6, **rest)
    return nn.Conv2d(3, 4, 2, 2, **rest)


def data(options: dict[str, Any]) -> Tensor:
    shape = (2, 4, 4, 4) if options is MAPS else (2, 4) if "to" in options else (2, 3, 4, 4)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    # What is the same, turned: rows and maps, so that it is an input before and after the swap.
    return x if options is not MAPS else x + x.movedim(1, 3) + x.movedim(3, 1)


def swapped(one: nn.Module, options: dict[str, Any]) -> Any:
    model = nn.Sequential(one)
    assert cs.swap_module(model, **options).files[0].rewrites
    assert model[0] is not one
    return model


@every_way
@settings(max_examples=20)
@given(
    training=st.booleans(),
    weight=st.booleans(),
    bias=st.sampled_from([None, True, False]),
    dtype=st.sampled_from([torch.float16, torch.bfloat16, torch.float32, torch.float64]),
    device=st.sampled_from(["cpu", "meta"]),
)
def test_flags_dtype_and_device(
    options: dict[str, Any],
    training: bool,
    weight: bool,
    bias: bool | None,
    dtype: torch.dtype,
    device: str,
) -> None:
    one = layer(options, bias=bias is not None, dtype=dtype, device=device).train(training)
    one.weight.requires_grad = weight
    if bias is not None:
        one.bias.requires_grad = bias
    want = flags(one)
    model = swapped(one, options)
    for step in (lambda: None, lambda: cs.restore_module(model)):
        step()
        assert flags(model) == want
        assert {module.training for module in model[0].modules()} == {training}
        assert model.training
    assert type(model[0]) is type(one)


def flags(model: nn.Module) -> set[tuple[object, ...]]:
    """What holds of all weights, and of all biases."""
    named = ((name.rpartition(".")[2], p) for name, p in model.named_parameters())
    return {(last, p.dtype, p.device, p.requires_grad) for last, p in named}


HOOKS: dict[str, Callable[[Any, list[str]], Any]] = {
    "forward": lambda m, c: m.register_forward_hook(counting(c, "f")),
    "forward with keywords": lambda m, c: m.register_forward_hook(
        counting(c, "f"), with_kwargs=True
    ),
    "forward always": lambda m, c: m.register_forward_hook(counting(c, "f"), always_call=True),
    "before": lambda m, c: m.register_forward_pre_hook(counting(c, "f")),
    "before with keywords": lambda m, c: m.register_forward_pre_hook(
        counting(c, "f"), with_kwargs=True
    ),
    "backward": lambda m, c: m.register_full_backward_hook(counting(c, "b")),
    "before backward": lambda m, c: m.register_full_backward_pre_hook(counting(c, "b")),
}


def run(model: nn.Module, x: Tensor) -> None:
    out: Any = model(x.clone().requires_grad_())
    out.sum().backward()


@every_way
@pytest.mark.parametrize("register", HOOKS.values(), ids=HOOKS)
def test_hooks_go_on_being_called_and_their_handles_removing(
    options: dict[str, Any], register: Callable[[Any, list[str]], Any]
) -> None:
    one, calls = layer(options), list[str]()
    handles = [register(one, calls) for _ in range(3)]
    model = swapped(one, options)
    for left in (3, 2):
        run(model, data(options))
        assert len(calls) == left
        calls.clear()
        handles.pop().remove()
    cs.restore_module(model)
    run(model, data(options))
    assert len(calls) == 1
    handles.pop().remove()
    run(model, data(options))
    assert len(calls) == 1
    register(model[0], calls)
    run(model, data(options))
    assert len(calls) == 2


@every_way
def test_a_hook_sees_the_new_module_and_what_the_old_one_saw(options: dict[str, Any]) -> None:
    one = layer(options)
    seen: list[tuple[Any, ...]] = []
    size: Any = sorted if options is MAPS else tuple  # the same axes, in another order
    one.register_forward_hook(lambda m, i, o: seen.append((m, size(i[0].shape), size(o.shape))))
    one.register_full_backward_hook(
        lambda m, i, o: seen.append((m, size(i[0].shape), size(o[0].shape)))
    )
    plain = nn.Sequential(one)
    run(plain, data(options))
    model = swapped(one, options)
    run(model, data(options))
    before, after = seen[:2], seen[2:]
    assert [row[1:] for row in after] == [row[1:] for row in before]
    assert {id(row[0]) for row in after} == {id(model[0])}


def test_a_hook_may_change_what_comes_out() -> None:
    one = layer({})
    one.register_forward_hook(lambda _m, _i, out: out * 0 + 7)
    model = swapped(one, {})
    assert bool((model(data({})) == 7).all())


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
@every_way
def test_hooks_of_the_old_kind_see_the_last_operation_only(options: dict[str, Any]) -> None:
    one = layer(options)
    handle = one.register_backward_hook(lambda *_: None)
    code, reason = refusal(nn.Sequential(one), **options)
    assert code == "CS024"
    assert "register_backward_hook" in reason
    handle.remove()
    swapped(one, options)


STATE_HOOKS: dict[str, Callable[[Any, list[str]], Any]] = {
    "saving": lambda m, c: m.register_state_dict_post_hook(counting(c, "s")),
    "before saving": lambda m, c: m.register_state_dict_pre_hook(counting(c, "s")),
    "loaded": lambda m, c: m.register_load_state_dict_post_hook(counting(c, "s")),
    "loading, unbound": lambda m, c: m._register_load_state_dict_pre_hook(counting(c, "s")),
}


@pytest.mark.parametrize("register", STATE_HOOKS.values(), ids=STATE_HOOKS)
def test_hooks_on_a_state_dict_stay_where_it_stays(
    register: Callable[[Any, list[str]], Any],
) -> None:
    one, calls = layer({}), list[str]()
    register(one, calls)
    for options in ({}, {"layout": "p1 p2 c"}):
        code, reason = refusal(nn.Sequential(one), **options)
        assert code == "CS024"
        assert "its state dict will be another" in reason
    model = swapped(one, {"kind": "gemm"})
    for _ in range(2):
        calls.clear()
        model.load_state_dict(model.state_dict())
        assert calls == ["s"]
        cs.restore_module(model)


def test_a_hook_on_loading_that_knows_its_module_is_refused() -> None:
    one = layer({})
    one.register_load_state_dict_pre_hook(lambda *_: None)
    for kind in ("gemm", "linear"):
        assert refusal(nn.Sequential(one), kind=kind)[0] == "CS024"


@renewing
@pytest.mark.parametrize("name", ["register_hook", "register_post_accumulate_grad_hook"])
def test_hooks_on_the_gradient_of_a_weight(options: dict[str, Any], name: str) -> None:
    one, calls = layer(options), list[str]()
    handle = getattr(one.weight, name)(counting(calls, "g"))
    code, reason = refusal(nn.Sequential(one), **options)
    assert (code, "gradient" in reason) == ("CS024", True)
    handle.remove()
    getattr(one.bias, name)(counting(calls, "g"))
    model = swapped(one, options)
    run(model, data(options))
    assert calls == ["g"]


def test_hooks_on_gradients_stay_with_the_parameters_of_a_gemm() -> None:
    one, calls = layer({}), list[str]()
    one.weight.register_hook(counting(calls, "g"))
    run(swapped(one, {"kind": "gemm"}), data({}))
    assert calls == ["g"]


@every_way
def test_gradients_stay_and_go_on_adding_up(options: dict[str, Any]) -> None:
    plain, one = nn.Sequential(layer(options)), layer(options)
    for model in (plain, nn.Sequential(one)):
        run(model, data(options))
    weight_grad = one.weight.grad.clone()
    model = swapped(one, options)
    cs.restore_module(model)
    assert torch.equal(model[0].weight.grad, weight_grad)
    cs.swap_module(model, **options)
    run(model, data(options))
    run(plain, data(options))
    cs.restore_module(model)
    for got, want in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(got.grad, want.grad, atol=1e-5)  # type: ignore[arg-type] # both are there


@every_way
def test_what_was_set_on_a_layer_and_on_its_parameters(options: dict[str, Any]) -> None:
    one, note = layer(options), object()
    one.note, one.weight.note, one.bias.note = note, note, note
    one.my_hooks = [note]
    model = swapped(one, options)
    assert model[0].note is note
    assert model[0].my_hooks == [note]
    assert all(vars(parameter)["note"] is note for parameter in model.parameters())
    model[0].late = note
    if isinstance(model[0], PatchLinear):
        model[0].linear.inner = note
    cs.restore_module(model)
    assert model[0].note is model[0].late is model[0].weight.note is model[0].bias.note is note
    inner = isinstance(one, nn.Conv2d) and "kind" not in options
    assert hasattr(model[0], "inner") == inner


@renewing
def test_what_cannot_be_kept_is_refused(options: dict[str, Any]) -> None:
    one = layer(options)
    name = "input" if options is TO_CONV else "layout"
    setattr(one, name, "somebody's")
    code, reason = refusal(nn.Sequential(one), **options)
    assert (code, f"somebody set {name} on it" in reason) == ("CS024", True)
    other = layer(options)
    other.register_buffer("seen", torch.zeros(1), persistent=False)
    code, reason = refusal(nn.Sequential(other), **options)
    assert (code, reason) == ("CS024", "it holds seen beside its weight and bias")
    third = layer(options)
    third.act = nn.ReLU()
    assert refusal(nn.Sequential(third), **options)[0] == "CS024"


def test_a_gemm_keeps_buffers_and_children() -> None:
    one = layer({})
    one.register_buffer("seen", torch.zeros(1), persistent=False)
    one.act = nn.ReLU()
    model = swapped(one, {"kind": "gemm"})
    assert model[0].seen is one.seen
    assert model[0].act is one.act


@pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)
def test_one_parameter_of_two_layers_stays_one(options: dict[str, Any]) -> None:
    model: Any = nn.Sequential(layer({}), nn.Conv2d(4, 3, 1), layer({}))
    model[2].weight, model[2].bias = model[0].weight, model[0].bias
    model[0].weight.grad = torch.ones_like(model[0].weight)
    assert len(cs.swap_module(model, **options).files[0].rewrites) == 3
    drop_ins = (model[0], model[2])
    inner: Any = [one.linear if isinstance(one, PatchLinear) else one for one in drop_ins]
    assert inner[0].weight is inner[1].weight
    assert inner[0].bias is inner[1].bias
    assert inner[0].weight.grad.sum() == 48
    assert len(list(model.parameters())) == 4
    cs.restore_module(model)
    assert model[0].weight is model[2].weight
    assert model[0].weight.grad.sum() == 48


def test_tied_matrices_become_one_kernel() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    assert len(cs.swap_module(model, to="conv", method="1x1").files[0].rewrites) == 2
    assert model[0].weight is model[1].weight
    assert isinstance(model[0], FlatConv2d)


def test_a_gemm_lets_other_users_of_its_weight_be() -> None:
    model = nn.Sequential(layer({}), nn.Conv2d(3, 4, 2, 1))
    model[1].weight = model[0].weight
    assert [r.module for r in cs.swap_module(model, kind="gemm").files[0].rewrites] == ["0"]
    assert model[1].weight is model[0].weight
    assert isinstance(model[0], GemmConv2d)


@every_way
def test_no_random_number_is_drawn(options: dict[str, Any]) -> None:
    model = nn.Sequential(layer(options))
    state = torch.get_rng_state()
    cs.swap_module(model, **options)
    cs.restore_module(model)
    assert torch.equal(torch.get_rng_state(), state)


@every_way
def test_a_swap_under_inference_mode_leaves_a_model_that_trains(options: dict[str, Any]) -> None:
    one = layer(options)
    if "to" not in options:
        one = one.to(memory_format=torch.channels_last)  # so that a new tensor has to be made
    with torch.inference_mode():
        model = swapped(one, options)
    run(model, data(options))
    assert all(p.grad is not None for p in model.parameters())


class Full(dict[str, Any]):
    """A table of children that takes a few values and then fails."""

    left = 1

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, PatchLinear):
            self.left -= 1
            if self.left < 0:
                raise MemoryError
        super().__setitem__(key, value)


def test_a_failure_while_modules_are_put_in_place_undoes_it() -> None:
    model = nn.Sequential(layer({}), layer({}), layer({}))
    vars(model)["_modules"] = Full(model._modules)
    before = standing(model)
    with pytest.raises(MemoryError):
        cs.swap_module(model)
    assert standing(model) == before


@every_way
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_a_failure_while_modules_are_built_changes_nothing(
    options: dict[str, Any], failing: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Sequential(*(layer(options) for _ in range(3)))
    built = iter(range(1, 4))
    original = exchange._built

    def fail(*arguments: Any) -> Any:
        if next(built) == failing:
            raise MemoryError
        return original(*arguments)

    monkeypatch.setattr(exchange, "_built", fail)
    before, values = standing(model), contents(model)
    with pytest.raises(MemoryError):
        cs.swap_module(model, **options)
    assert standing(model) == before
    assert contents(model) == values


def test_a_failure_on_the_way_back_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = net()
    cs.swap_module(model)
    before = standing(model)
    monkeypatch.setattr(exchange, "_share", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cs.restore_module(model)
    assert standing(model) == before
    monkeypatch.undo()
    cs.restore_module(model)
    assert same_tree(model, net())
    assert torch.equal(model(pixels()), net()(pixels()))
