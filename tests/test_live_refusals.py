"""What is refused in a live model alone: each reason, its code, and that the layer stays."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

import convsurgeon as cs
from convsurgeon.api.live.reading import weights_read
from convsurgeon.nn import GemmConv2d, PatchLinear
from tests.live_cases import refusal, rows, standing

TO_CONV: dict[str, Any] = {"to": "conv", "method": "1x1"}
EVERY_WAY: dict[str, dict[str, Any]] = {"gemm": {"kind": "gemm"}, "linear": {}, "conv": TO_CONV}


def conv(**options: Any) -> Any:
    return nn.Conv2d(3, 4, 2, 2, **options)


def layer(options: dict[str, Any]) -> Any:
    return nn.Linear(6, 4) if options is TO_CONV else conv()


every_way = pytest.mark.parametrize("options", EVERY_WAY.values(), ids=EVERY_WAY)
renewing = pytest.mark.parametrize("options", [{}, TO_CONV], ids=["linear", "conv"])


class Reader(nn.Module):
    """Has a child, and reads its weight within a method that its forward calls."""

    def __init__(self) -> None:
        super().__init__()
        self.read = nn.Linear(4, 4)
        self.cast = nn.Linear(4, 4)
        self.started = nn.Linear(4, 4)
        self.reset()

    def reset(self) -> None:
        nn.init.ones_(self.started.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.multiply(self.started(self.cast(x.to(self.cast.weight.dtype))))

    def multiply(self, x: Tensor) -> Tensor:
        return x @ self.read.weight


def test_children_whose_weight_a_forward_reads() -> None:
    assert weights_read(Reader) == {"read"}
    assert weights_read(nn.MultiheadAttention) == {"out_proj"}
    assert weights_read(nn.TransformerEncoderLayer) >= {"linear1", "linear2"}
    assert weights_read(nn.Sequential) == weights_read(nn.TransformerDecoderLayer) == set()


@pytest.mark.parametrize(
    ("model", "read", "free"),
    [
        (nn.TransformerEncoderLayer(8, 2), ["linear1", "linear2", "self_attn.out_proj"], []),
        (nn.MultiheadAttention(8, 2), ["out_proj"], []),
        (nn.TransformerDecoderLayer(8, 2), ["self_attn.out_proj"], ["linear1", "linear2"]),
        (Reader(), ["read"], ["cast", "started"]),
    ],
)
def test_a_child_whose_weight_its_parent_reads(
    model: nn.Module, read: list[str], free: list[str]
) -> None:
    inner = dict(model.named_modules())
    plan = rows(cs.swap_module(model, **TO_CONV))
    for name in read:
        assert plan[name].code == "CS021"
        assert "reads its weight" in plan[name].reason
        assert model.get_submodule(name) is inner[name]
    assert [name for name in free if not plan[name].rewrite] == []


def test_an_encoder_computes_the_same_on_its_fast_path() -> None:
    torch.manual_seed(0)
    inner = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, dtype=torch.float64)
    model: Any = nn.Sequential(inner, nn.Linear(8, 3, dtype=torch.float64)).eval()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    with torch.no_grad():
        want = model(x)
        plan = cs.swap_module(model, **TO_CONV)
        assert [row.module for row in plan.files[0].rewrites] == ["1"]
        assert torch.allclose(model(x), want, rtol=1e-12)


def test_a_conv_whose_weight_its_parent_reads_is_replaced() -> None:
    """A drop-in for a conv shows the conv's weight, so that reading goes on."""
    model = Reads2d()
    x = torch.randn(1, 3, 4, 4)
    want = model(x)
    assert cs.swap_module(model).files[0].rewrites
    assert torch.allclose(model(x), want, atol=1e-6)


class Reads2d(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.proj = conv()

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.proj.weight, self.proj.bias, 2)


@every_way
def test_the_model_itself(options: dict[str, Any]) -> None:
    code, reason = refusal(layer(options), "", **options)
    assert (code, reason) == ("CS022", "the model is the layer itself: wrap it in nn.Sequential")


@every_way
def test_what_was_compiled_by_itself(options: dict[str, Any]) -> None:
    compiled: Any = torch.compile(layer(options), backend="eager")
    code, reason = refusal(nn.Sequential(compiled), "0._orig_mod", **options)
    assert code == "CS022"
    assert "was compiled by itself" in reason
    in_place = layer(options)
    in_place.compile(backend="eager")
    assert refusal(nn.Sequential(in_place), **options)[0] == "CS022"


def test_a_drop_in_refuses_what_was_compiled_in_place() -> None:
    one = conv()
    one.compile(backend="eager")
    with pytest.raises(ValueError, match="compiled by itself"):
        GemmConv2d.from_conv(one)


class Note:
    def __init__(self, child: nn.Module) -> None:
        self.child = child

    def call(self, x: Tensor) -> object:
        return self.child(x)


HOLDS: dict[str, Callable[[Any], object]] = {
    "list": lambda m: [m],
    "tuple": lambda m: (m,),
    "dict": lambda m: {"a": m},
    "lists of lists": lambda m: [[1, "a"], [(2, [m])]],
    "lists in a dict": lambda m: {"a": [m]},
    "deque": lambda m: deque([m]),
    "method": lambda m: m.forward,
    "partial": lambda m: partial(m.forward, torch.zeros(1)),
    "closure": lambda m: lambda x: m(2 * x),
    "default": lambda m: lambda x, m=m: m(x),
    "object": Note,
    "object's method": lambda m: [partial(Note(m).call)],
}


class Holder(nn.Module):
    def __init__(self, child: nn.Module, aside: object) -> None:
        super().__init__()
        self.child = child
        self.aside = aside


@every_way
@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_what_something_holds_that_is_no_parent(
    options: dict[str, Any], hold: Callable[[nn.Module], object]
) -> None:
    child = layer(options)
    code, reason = refusal(Holder(child, hold(child)), "child", **options)
    assert (code, reason) == ("CS022", "Holder.aside holds it too, and not as a child")
    other = layer(options)
    loop: list[object] = [1, "no module", Note, torch.zeros(2), lambda: loop]
    loop.append(loop)
    vars(other)["note"] = loop
    assert rows(cs.swap_module(Holder(other, [nn.ReLU()]), **options))["child"].rewrite


class Packed(Tensor):
    """Stands for what quantisers and sharded models put in the place of a tensor."""


@every_way
@pytest.mark.parametrize("name", ["weight", "bias"])
def test_a_tensor_of_another_class(options: dict[str, Any], name: str) -> None:
    one = layer(options)
    setattr(one, name, nn.Parameter(getattr(one, name).detach().as_subclass(Packed)))
    code, reason = refusal(nn.Sequential(one), **options)
    assert code == "CS023"
    assert f"its {name} is a Packed" in reason


@every_way
def test_a_shard_of_a_weight(options: dict[str, Any]) -> None:
    one = layer(options)
    one.weight = nn.Parameter(one.weight.detach().flatten()[:4])
    code, reason = refusal(nn.Sequential(one), **options)
    assert code == "CS023"
    assert "its weight is [4], not [4, " in reason


@every_way
def test_a_sparse_weight(options: dict[str, Any]) -> None:
    one = layer(options)
    one.weight = nn.Parameter(one.weight.detach().to_sparse())
    code, reason = refusal(nn.Sequential(one), **options)
    assert code == "CS023"
    assert "sparse" in reason


@every_way
def test_parameters_of_inference_mode(options: dict[str, Any]) -> None:
    with torch.inference_mode():
        model = nn.Sequential(layer(options))
    code, reason = refusal(model, **options)
    assert (code, reason) == ("CS023", "its weight was made under torch.inference_mode")


@pytest.mark.parametrize("dtype", [torch.int8, torch.complex64, torch.complex128])
def test_what_is_no_plain_float(dtype: torch.dtype) -> None:
    one = conv()
    one.weight = nn.Parameter(torch.zeros(4, 3, 2, 2, dtype=dtype), requires_grad=False)
    assert refusal(nn.Sequential(one))[0] == "CS010"
    if dtype == torch.complex128:
        row = rows(cs.swap_module(nn.Sequential(one)))["0"]
        assert (row.dtype, row.reason) == (
            "complex128",
            "torch.complex128 is no plain floating dtype",
        )


def weight_normed(one: nn.Module) -> nn.Module:
    normed: nn.Module = parametrizations.weight_norm(one)
    return normed


def pruned(one: nn.Module) -> nn.Module:
    identity: Any = prune.identity
    identity(one, "weight")
    return one


@every_way
@pytest.mark.parametrize("compute", [weight_normed, pruned])
def test_a_weight_that_is_computed(
    options: dict[str, Any], compute: Callable[[nn.Module], nn.Module]
) -> None:
    model = nn.Sequential(compute(layer(options)))
    before = standing(model)
    plan = cs.swap_module(model, **options).files[0]
    assert not plan.rewrites
    assert {row.code for row in plan.layers} <= {"CS008"}
    assert standing(model) == before


@pytest.mark.parametrize("options", [{"kind": "gemm"}, {}])
def test_a_lazy_convolution(options: dict[str, Any]) -> None:
    code, reason = refusal(nn.Sequential(nn.LazyConv2d(4, 2, 2)), **options)
    assert (code, reason) == ("CS007", "a LazyConv2d without a shape yet")


def test_a_lazy_linear() -> None:
    model = nn.Sequential(nn.LazyLinear(4))
    row = rows(cs.swap_module(model, **TO_CONV))["0"]
    assert (row.code, row.weight_shape) == ("CS007", (4, 0))
    model(torch.ones(2, 3))
    assert rows(cs.swap_module(model, **TO_CONV))["0"].rewrite


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("options", [{"kind": "gemm"}, {}])
def test_torchscript(options: dict[str, Any]) -> None:
    inner = nn.Sequential(conv())
    trace: Any = torch.jit.trace
    for scripted in (torch.jit.script(inner), trace(inner, torch.ones(1, 3, 4, 4))):
        code, reason = refusal(nn.Sequential(scripted), "0.0", **options)
        assert code == "CS007"
        assert "not of a torch convolution" in reason


class Blur(nn.Module):
    """Holds a fixed kernel as a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(4, 1, 2, 2))


def test_a_buffer_that_has_the_shape_of_a_weight() -> None:
    code, reason = refusal(nn.Sequential(Blur()))
    assert code == "CS007"
    assert "a module of class Blur" in reason


@every_way
def test_a_forward_that_was_replaced(options: dict[str, Any]) -> None:
    one = layer(options)
    vars(one)["forward"] = torch.relu
    assert refusal(nn.Sequential(one), **options)[0] == "CS007"


@renewing
@pytest.mark.parametrize("other", ["embedding", "parameter of the model"])
def test_a_weight_that_something_else_uses_too(options: dict[str, Any], other: str) -> None:
    model: Any = nn.Sequential(layer(options))
    if other == "embedding":
        model.append(nn.Embedding(4, 6))
        model[1].weight = model[0].weight
    else:
        model.register_parameter("tied", model[0].weight)
    code, reason = refusal(model, **options)
    assert code == "CS016"
    assert "its weight is also used by" in reason


def test_a_tied_weight_of_which_one_user_stays() -> None:
    model: Any = nn.Sequential(conv(), nn.Conv2d(3, 4, 2, 1))
    model[1].weight = model[0].weight
    assert refusal(model)[0] == "CS016"
    model[1].stride = (2, 2)
    assert refusal(model, where=lambda name, _: name == "0")[0] == "CS016"
    assert len(cs.swap_module(model).files[0].rewrites) == 2


def test_tied_matrices_that_become_different_kernels() -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.Linear(8, 4))
    model[1].weight = model[0].weight
    shapes: dict[str, Any] = {"to": "conv", "input_shape": ["0=2x2x2", "1=8x1x1"]}
    assert refusal(model, **shapes)[0] == "CS016"


@pytest.fixture
def _one_process(tmp_path: Path) -> Iterator[None]:
    if not dist.is_available():
        pytest.skip("torch was built without torch.distributed")
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("_one_process")
@renewing
def test_a_replicated_model_keeps_its_parameters(options: dict[str, Any]) -> None:
    from torch.nn.parallel import DistributedDataParallel

    model: Any = DistributedDataParallel(nn.Sequential(layer(options)))
    code, reason = refusal(model, "module.0", **options)
    assert (code, "DistributedDataParallel" in reason) == ("CS025", True)
    same: Any = DistributedDataParallel(nn.Sequential(conv()))
    assert cs.swap_module(same, kind="gemm").files[0].rewrites
    same(torch.ones(1, 3, 4, 4)).sum().backward()
    assert same.module[0].weight.grad.abs().sum() > 0


@pytest.mark.usefixtures("_one_process")
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::FutureWarning")
@every_way
def test_a_sharded_model(options: dict[str, Any]) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard

    cpu = torch.device("cpu")
    old = FullyShardedDataParallel(
        nn.Sequential(layer(options)), device_id=cpu, use_orig_params=True
    )
    code, reason = refusal(old, "_fsdp_wrapped_module.0", **options)
    assert code == "CS025"
    assert "swap before wrapping" in reason
    new = nn.Sequential(layer(options))
    fully_shard(new, mesh=init_device_mesh("cpu", (1,)))
    code, reason = refusal(new, **options)
    assert code == "CS023"
    assert "its weight is a DTensor" in reason


def test_a_drop_in_whose_weight_is_tied_stays() -> None:
    """What is refused on the way there is refused on the way back."""
    model: Any = nn.Sequential(PatchLinear(3, 4, (2, 2)))
    model.register_parameter("tied", model[0].linear.weight)
    (row,) = cs.restore_module(model).refused
    assert row.code == "CS016"
    assert isinstance(model[0], PatchLinear)
