"""What people do with a model works on a swapped one: copy, save, capture, train."""

from __future__ import annotations

import io
import pickle
import shutil
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils.checkpoint import checkpoint

import convsurgeon as cs
from tests.live_cases import FORMS, Net, close, contents, net, pixels, same_tree

every_form = pytest.mark.parametrize("options", FORMS.values(), ids=FORMS)


def swapped(options: dict[str, Any], **factory: Any) -> Any:
    model = net(**factory)
    assert cs.swap_module(model, **options).files[0].rewrites
    return model


def through_a_file(model: nn.Module) -> Any:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[nn.Module], Any]] = {
    "deepcopy": deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "torch.save": through_a_file,
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
@every_form
def test_copies_compute_the_same_and_can_be_restored(
    options: dict[str, Any], copied: Callable[[nn.Module], Any]
) -> None:
    model = swapped(options)
    twin = copied(model)
    assert twin.stem[1] is twin.proj
    assert torch.equal(twin(pixels()), model(pixels()))
    assert not cs.restore_module(twin).refused
    assert contents(twin) == contents(net())
    assert same_tree(twin, net())
    assert type(model.proj) is not nn.Conv2d


@every_form
def test_a_state_dict_goes_into_a_model_that_was_swapped_alike(options: dict[str, Any]) -> None:
    model, other = swapped(options), swapped(options, seed=1)
    assert other.load_state_dict(model.state_dict()).missing_keys == []
    assert torch.equal(model(pixels()), other(pixels()))


def test_the_state_dict_of_a_gemm_is_the_plain_models() -> None:
    model, plain = swapped({"kind": "gemm"}), net()
    assert list(model.state_dict()) == list(plain.state_dict())
    plain.load_state_dict(model.state_dict())
    model.load_state_dict(plain.state_dict())


@every_form
def test_functional_call(options: dict[str, Any]) -> None:
    model, other = swapped(options), swapped(options, seed=1)
    parameters = dict(model.named_parameters())
    assert torch.equal(torch.func.functional_call(other, parameters, (pixels(),)), model(pixels()))


def gradients(model: nn.Module, call: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    model.zero_grad()
    loss: Any = call(pixels()).square().sum()
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@every_form
def test_gradients_and_gradient_checkpointing(options: dict[str, Any]) -> None:
    model, plain = swapped(options), net()
    want = gradients(plain, plain)
    got = gradients(model, model)
    assert len(got) == len(want)
    cs.restore_module(model)
    assert all(close(p.grad, want[name]) for name, p in model.named_parameters())
    again = swapped(options)

    def saving(x: Tensor) -> Tensor:
        out: Any = checkpoint(again.proj, x, use_reentrant=False)
        last: Tensor = again.head(again.point(again.mix(out)).flatten(1))
        return last

    assert all(torch.equal(value, got[name]) for name, value in gradients(again, saving).items())


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # inductor's own, as it is imported
def test_compiled_before_and_after_a_swap_in_one_graph() -> None:
    torch._dynamo.reset()
    model = net()
    compiled: Any = torch.compile(model, fullgraph=True)
    want = compiled(pixels())
    plan = cs.swap_module(compiled)
    assert {row.module for row in plan.files[0].rewrites} >= {"_orig_mod.proj", "_orig_mod.point"}
    assert close(compiled(pixels()), want)
    with torch.no_grad():
        model.proj.linear.weight.zero_()
        assert close(compiled(pixels()), model(pixels()))
        assert not close(compiled(pixels()), want)


@every_form
def test_one_graph_for_all_sizes(options: dict[str, Any]) -> None:
    torch._dynamo.reset()
    model = swapped(options)
    stem: Any = torch.compile(model.stem, backend="eager", fullgraph=True, dynamic=True)
    for size in ((3, 3, 5, 11), (2, 3, 8, 8), (1, 3, 7, 9)):
        x = torch.randn(size, dtype=torch.float64)
        assert close(stem(x), net().stem(x))


@every_form
def test_export_with_a_dynamic_batch(options: dict[str, Any]) -> None:
    model = swapped(options).eval()
    dynamic = {"x": {0: Dim.DYNAMIC}}
    program = torch.export.export(model, (pixels(),), dynamic_shapes=dynamic)
    convolutions = [n for n in program.graph.nodes if "conv" in str(n.target)]
    assert len(convolutions) == 1  # the one that overlaps
    for batch in (1, 3, 6):
        x = pixels(batch=batch)
        assert close(program.module()(x), net()(x))


@every_form
def test_autocast(options: dict[str, Any]) -> None:
    model, plain = swapped(options, dtype=torch.float32), net(dtype=torch.float32)
    x = pixels(dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got, want = model(x).detach(), plain(x).detach()
    assert got.dtype == want.dtype == torch.bfloat16
    # Five sums, each rounded to 8 bits of precision in its own order.
    assert float((got - want).abs().max()) <= 5 * 2**-8 * float(want.abs().max())


@every_form
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(options: dict[str, Any], dtype: torch.dtype) -> None:
    model, plain = swapped(options, dtype=dtype), net(dtype=dtype)
    got, want = (one(pixels(dtype=dtype)).detach() for one in (model, plain))
    assert got.dtype == want.dtype == dtype
    assert float((got - want).abs().max()) <= 5 * 2**-8 * float(want.abs().max())


@every_form
def test_channels_last(options: dict[str, Any]) -> None:
    plain: Any = net().to(memory_format=torch.channels_last)
    model = deepcopy(plain)
    cs.swap_module(model, **options)
    for x in (pixels(), pixels().to(memory_format=torch.channels_last)):
        assert close(model(x), plain(x))
        assert model.proj(x).is_contiguous(memory_format=torch.channels_last)
    cs.restore_module(model)
    assert contents(model) == contents(plain)


@every_form
def test_tokens_behind_the_layer_cost_nothing(options: dict[str, Any]) -> None:
    model = swapped(options)
    out = model.proj(pixels())
    tokens = out.flatten(2).transpose(1, 2)
    assert tokens.is_contiguous()
    assert tokens.untyped_storage().data_ptr() == out.untyped_storage().data_ptr()
    assert not net().proj(pixels()).flatten(2).transpose(1, 2).is_contiguous()


@every_form
def test_patches_that_were_cut_already(options: dict[str, Any]) -> None:
    model, layout = swapped(options), options.get("layout", "c p1 p2")
    x, plain = pixels(), net().proj(pixels())
    cells = x[..., :4, :8].reshape(3, 3, 2, 2, 2, 4).permute(0, 2, 4, 1, 3, 5)
    rows = (cells if layout == "c p1 p2" else cells.movedim(3, -1)).flatten(3)
    assert close(model.proj.forward_patches(rows), plain.permute(0, 2, 3, 1))
    assert close(model.proj.forward_patches(rows[0, 0, 0]), plain[0, :, 0, 0])
    with pytest.raises(RuntimeError, match="expected rows of 24 features"):
        model.proj.forward_patches(x)


def test_a_swapped_model_trains_as_the_plain_one() -> None:
    model, plain = swapped({"kind": "gemm"}), net()
    for one in (model, plain):
        optimiser = torch.optim.AdamW(one.parameters(), lr=1e-3)
        for step in range(3):
            gradients(one, one)
            optimiser.step()
            assert step < 3
    assert all(close(a, b) for a, b in zip(model.parameters(), plain.parameters(), strict=True))


def test_a_plan_shows_the_model_and_counts_what_is_tied_once() -> None:
    model = Net()
    (file,) = cs.swap_module(model).files
    assert str(file).startswith("live Net: 9 tensors\n")
    assert file.bytes == sum(p.nbytes for p in model.parameters())
