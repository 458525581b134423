"""`fully_convolutional` on classifiers as people write them: the same numbers, on larger images."""

from __future__ import annotations

import copy
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as models are written
from safetensors.torch import load_file
from torch import nn

from tests.dense_cases import (
    FLATTENED,
    AlexLike,
    Excited,
    Styled,
    TwoHeads,
    VggLike,
    convert,
    outputs,
    random_net,
    trained,
)

SAMPLE = Path(__file__).parent.parent / "sample_checkpoints" / "lenet_digits"


def same_at_native(model: nn.Module, dense: nn.Module, shape: tuple[int, ...]) -> None:
    """The network gives the model's numbers, as a map of one cell."""
    old, new = outputs(model, 2, *shape[1:]), outputs(dense, 2, *shape[1:])
    assert new.shape == (*old.shape, *(1,) * (len(shape) - 2))
    torch.testing.assert_close(new.flatten(1), old)


@pytest.mark.parametrize("style", FLATTENED)
@pytest.mark.parametrize("norm", [False, True], ids=["plain", "batch norm"])
def test_every_way_to_flatten(style: str, norm: bool) -> None:
    model = trained(Styled(FLATTENED[style], norm=norm))
    report = convert(model, Styled.shape)
    same_at_native(model, report.model, Styled.shape)
    assert report.plan.map == (6, 6, 4)
    assert report.plan.stride == (2, 2)
    assert [step.weight_shape for step in report.plan.convs] == [(8, 6, 6, 4), (3, 8, 1, 1)]
    assert outputs(report.model, 1, 1, 31, 40).shape == (1, 3, 6, 13)
    assert report.verdict.equivalent
    assert report.verdict.crops_count


def test_the_sample_slides_over_a_canvas() -> None:
    model = runpy.run_path(str(SAMPLE / "model.py"))["build"]()
    model.load_state_dict(load_file(SAMPLE / "model.safetensors"))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        model(torch.zeros(1, 1, 84, 140))
    report = convert(model, (1, 1, 28, 28), verify="exhaustive")
    same_at_native(model.eval(), report.model.eval(), (1, 1, 28, 28))
    assert report.plan.stride == (4, 4)
    assert report.plan.field == (28, 28)
    assert outputs(report.model, 1, 1, 84, 140).shape == (1, 10, 15, 29)
    assert report.verdict.equivalent
    assert report.verdict.crops_count


def test_an_unpadded_alexnet_passes_both_proofs() -> None:
    report = convert(AlexLike(), AlexLike.shape)
    verdict = report.verdict
    assert verdict.equivalent
    assert verdict.crops_count
    assert all(one.equal for one in (*verdict.cells, *verdict.crops))
    assert [one.cells for one in verdict.cells] == [(1, 1), (3, 2), (2, 3)]
    assert report.plan.stride == (8, 8)
    assert report.plan.steps[0].module == "avgpool"
    assert "it changes nothing at 3×2" in report.plan.steps[0].after


def test_a_padded_vgg_passes_the_first_and_tells_the_difference_of_the_second() -> None:
    torch.manual_seed(0)
    report = convert(VggLike(), VggLike.shape)
    verdict = report.verdict
    assert report.plan.stride == (32, 32)
    assert verdict.equivalent
    assert all(one.equal for one in verdict.cells)
    assert not verdict.crops_count
    assert len(report.plan.borders) == 13
    assert not any(one.equal for one in verdict.crops)
    assert max(one.difference for one in verdict.crops) > 1e-3
    assert "features.0: pads by 1×1 explains" in str(report.verdict)


@pytest.mark.parametrize("seed", range(5))
def test_networks_of_random_geometry(seed: int) -> None:
    model, shape = random_net(seed)
    model = trained(model)
    report = convert(model, shape)
    same_at_native(model, report.model, shape)
    assert report.verdict.crops_count
    assert report.verdict.equivalent


def test_two_heads_on_one_map() -> None:
    report = convert(TwoHeads(), TwoHeads.shape)
    found = report.model.eval()(torch.randn(2, 3, 16, 12))
    assert {name: tuple(one.shape) for name, one in found.items()} == {
        "classes": (2, 5, 3, 2),
        "both": (2, 9, 3, 2),
    }
    assert [len(one.outputs) for one in report.verdict.cells] == [2, 2, 2]


def test_a_block_with_linears_of_its_own_stays_in_the_trunk() -> None:
    head = [nn.Flatten(), nn.Linear(4 * 8 * 6, 3)]
    model = nn.Sequential(nn.Conv2d(3, 4, 3), Excited(4), *head)
    report = convert(model, (1, 3, 10, 8))
    assert [step.module for step in report.plan.convs] == ["3"]
    assert type(report.model.get_submodule("1.down")) is nn.Linear
    assert report.plan.field is None
    assert not report.verdict.crops_count
    assert report.verdict.equivalent


@pytest.mark.parametrize(
    ("conv", "linear", "shape", "larger", "cells"),
    [
        (nn.Conv1d(2, 4, 3, 2), nn.Linear(4 * 9, 5), (1, 2, 20), (25,), (4,)),
        (nn.Conv3d(2, 4, 3), nn.Linear(4 * 4 * 3 * 2, 5), (1, 2, 6, 5, 4), (8, 5, 5), (3, 1, 2)),
    ],
    ids=["audio", "video"],
)
def test_one_and_three_axes(
    conv: nn.Module,
    linear: nn.Module,
    shape: tuple[int, ...],
    larger: tuple[int, ...],
    cells: tuple[int, ...],
) -> None:
    model = trained(nn.Sequential(conv, nn.ReLU(), nn.Flatten(), linear, nn.BatchNorm1d(5)))
    report = convert(model, shape)
    same_at_native(model, report.model, shape)
    assert outputs(report.model, 1, 2, *larger).shape == (1, 5, *cells)
    assert report.verdict.crops_count
    assert report.verdict.equivalent


def test_a_pool_moves_behind_the_last_linear() -> None:
    trunk = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
    model = nn.Sequential(*trunk, nn.Flatten(), nn.Dropout(), nn.Linear(6, 4)).eval()
    report = convert(model, (1, 3, 8, 6), pool="behind")
    maps = outputs(report.model, 2, 3, 11, 9)
    assert maps.shape == (2, 4, 11, 9)
    torch.testing.assert_close(maps.mean((2, 3)), outputs(model, 2, 3, 11, 9))
    assert report.plan.pool == "behind"
    assert report.verdict.equivalent
    assert "mean over the map" in str(report.verdict)


POOLED: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "mean": lambda x: x.mean([-2, -1]),
    "mean, kept, flattened": lambda x: x.mean((2, 3), keepdim=True).flatten(1),
    "torch.mean": lambda x: torch.mean(x, dim=(2, 3)),
    "pooled, squeezed": lambda x: F.adaptive_avg_pool2d(x, 1).squeeze(-1).squeeze(-1),
    "pooled, viewed": lambda x: F.adaptive_avg_pool2d(x, (1, 1)).view(x.size(0), -1),
}


@pytest.mark.parametrize("way", POOLED)
def test_every_way_to_pool(way: str) -> None:
    class Pooled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.fc(POOLED[way](self.conv(x)))  # type: ignore[no-any-return]

    report = convert(Pooled(), (1, 3, 8, 6), pool="behind")
    assert report.verdict.equivalent
    assert outputs(report.model, 1, 3, 8, 6).shape == (1, 4, 6, 4)


def test_the_second_note() -> None:
    linear = nn.Linear(4, 2)
    linear.weight.data = torch.tensor([[1.1, 1.2, 1.3, 1.4], [1.5, 1.6, 1.7, 1.8]])
    linear.bias.data = torch.tensor([1.9, 2.0])
    model = nn.Sequential(nn.Flatten(), linear, nn.ReLU())
    report = convert(model, (1, 1, 2, 2))
    assert report.model.get_submodule("1").weight.shape == (2, 1, 2, 2)
    inputs = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    torch.testing.assert_close(report.model(inputs), torch.tensor([[[[14.9]], [[19.0]]]]))
    assert report.verdict.equivalent


def test_the_model_stays_as_it_is_and_memory_is_shared() -> None:
    model = Styled(FLATTENED["flatten"], norm=True)
    trained(model).train()
    model.conv1.weight.requires_grad = False
    before = copy.deepcopy(model.state_dict())
    report = convert(model, Styled.shape)
    dense = report.model
    assert list(dense.state_dict()) == list(model.state_dict())
    assert all(torch.equal(one, model.state_dict()[name]) for name, one in before.items())
    assert type(model.fc1) is nn.Linear
    assert dense.training
    assert not dense.get_parameter("conv1.weight").requires_grad
    memory = {name: one.data_ptr() for name, one in model.state_dict().items()}
    assert {name: one.data_ptr() for name, one in dense.state_dict().items()} == memory
    dense.double()
    assert all(one.dtype == torch.float32 for one in model.parameters())
    assert not any(one is other for one in dense.parameters() for other in model.parameters())


def test_a_scale_of_one_number_is_the_same_at_each_position() -> None:
    class Scaled(Styled):
        def __init__(self) -> None:
            super().__init__(FLATTENED["flatten"])
            self.scale = nn.Parameter(torch.tensor(0.5))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x - torch.tensor([0.1])) * self.scale.exp()

    model = Scaled()
    made = convert(model, Styled.shape)
    same_at_native(model.eval(), made.model.eval(), Styled.shape)
    assert list(made.model.state_dict()) == list(model.state_dict())


def test_a_softmax_that_the_trunk_calls_too_keeps_its_axis() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.soft, self.fc = nn.Conv2d(1, 4, 3), nn.Softmax(-1), nn.Linear(80, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.soft(self.conv(x).movedim(1, -1)).movedim(-1, 1)  # over the channels
            return self.soft(self.fc(x.flatten(1)))  # type: ignore[no-any-return]

    model = Shared()
    made = convert(model, (1, 1, 7, 6))
    same_at_native(model.eval(), made.model.eval(), (1, 1, 7, 6))
    assert type(made.model.get_submodule("soft")) is nn.Softmax
    assert made.verdict.equivalent


def test_the_network_is_called_copied_and_kept_as_the_model_is() -> None:
    model = Styled(FLATTENED["flatten"]).eval()
    model.auxiliary = nn.Linear(3, 3)
    dense = convert(model, Styled.shape).model
    images = torch.randn(1, *Styled.shape[1:])
    for one in (copy.deepcopy(dense), pickle.loads(pickle.dumps(dense))):
        assert list(one.state_dict()) == list(model.state_dict())
        assert torch.equal(one(x=images), dense(images))
        assert one.fc1.weight.data_ptr() != dense.fc1.weight.data_ptr()


def test_a_callers_inference_mode_leaves_no_trace() -> None:
    model = Styled(FLATTENED["flatten"])
    with torch.inference_mode():
        dense = convert(model, Styled.shape).model
    dense(torch.randn(1, 1, 24, 24)).sum().backward()
    assert dense.fc1.weight.grad.shape == (8, 6, 6, 4)


def test_larger_images_are_exported_and_compiled() -> None:
    dense = convert(Styled(FLATTENED["flatten"]), Styled.shape).model.eval()
    images = torch.randn(1, 1, 31, 40)
    sizes = {2: torch.export.Dim("h", min=24, max=200), 3: torch.export.Dim("w", min=24, max=200)}
    exported = torch.export.export(dense, (images,), dynamic_shapes=[sizes]).module()
    compiled: Any = torch.compile(dense, fullgraph=True, backend="eager")
    for one in (exported, compiled):
        torch.testing.assert_close(one(images), dense(images))
    torch.testing.assert_close(exported(images[..., :30, :33]), dense(images[..., :30, :33]))


def test_modules_that_the_forward_does_not_use_keep_their_keys() -> None:
    model = Styled(FLATTENED["flatten"])
    model.auxiliary = nn.Linear(3, 3)
    report = convert(model, Styled.shape)
    assert list(report.model.state_dict()) == list(model.state_dict())
