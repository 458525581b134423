"""What `fully_convolutional` refuses: each with its code and its reason, and a model left as it was."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - as models are written
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import convsurgeon as cs

MAP = 4 * 6 * 5
"""Features of the map `[4, 6, 5]` that images `[1, 1, 8, 7]` become."""


class Net(nn.Module):
    """A trunk, and whatever a case does behind it."""

    def __init__(self, behind: Callable[[Any, Tensor], Any], **parts: nn.Module) -> None:
        super().__init__()
        self.conv, self.fc, self.behind = nn.Conv2d(1, 4, 3), nn.Linear(MAP, 3), behind
        for name, part in parts.items():
            self.add_module(name, part)

    def forward(self, x: Tensor) -> Any:
        return self.behind(self, self.conv(x))


def sequence(*behind: nn.Module) -> nn.Module:
    """The same trunk, and modules behind it."""
    return nn.Sequential(nn.Conv2d(1, 4, 3), *behind)


def flat(x: Tensor) -> Tensor:
    return torch.flatten(x, 1)


def parametrised() -> nn.Module:
    return sequence(nn.Flatten(), parametrizations.weight_norm(nn.Linear(MAP, 3)))


def hooked() -> nn.Module:
    linear = nn.Linear(MAP, 3)
    linear.register_forward_hook(lambda _m, _i, o: 2 * o)
    return sequence(nn.Flatten(), linear)


def hooked_flatten() -> nn.Module:
    flatten = nn.Flatten()
    flatten.register_forward_hook(lambda _m, _i, o: 2 * o)
    return sequence(flatten, nn.Linear(MAP, 3))


def replaced() -> nn.Module:
    relu = nn.ReLU()
    relu.forward = torch.neg  # type: ignore[method-assign]
    return sequence(nn.Flatten(), nn.Linear(MAP, 3), relu)


def hooked_model() -> nn.Module:
    model = sequence(nn.Flatten(), nn.Linear(MAP, 3))
    model.register_forward_pre_hook(lambda _m, inputs: (inputs[0] * 2,))
    return model


class Scaled(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - torch's name
        return 2 * super().forward(input)


def tied() -> nn.Module:
    model = sequence(nn.Flatten(), nn.Linear(MAP, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    vars(model)["_modules"]["4"].weight = vars(model)["_modules"]["3"].weight
    return model


def twice(net: Any, x: Tensor) -> Any:
    return net.fc(flat(x)) + net.fc(flat(x * 2))


def decides(net: Any, x: Tensor) -> Any:
    if x.mean() > 0:
        x = x * 2
    return net.fc(flat(x))


def checks(net: Any, x: Tensor) -> Any:
    assert x.shape[-1] == 5
    return net.fc(flat(x))


def counts(net: Any, x: Tensor) -> Any:
    net.norm.num_batches_tracked = net.norm.num_batches_tracked + 1
    return net.fc(flat(x))


def takes_apart(net: Any, x: Tensor) -> Any:
    return torch.stack([net.fc(flat(one.unsqueeze(0))) for one in x])


def leaves(_net: Any, _x: Tensor) -> Any:
    raise SystemExit(0)


def leaves_the_proof(net: Any, x: Tensor) -> Any:
    return leaves(net, x) if x.dtype is torch.float64 else net.fc(flat(x))


class Positions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(1, 4, 6, 5))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


def facenet(net: Any, x: Tensor) -> Any:
    return net.fc(x.permute(0, 3, 2, 1).contiguous().view(x.size(0), -1))


def turned(net: Any, x: Tensor) -> Any:
    return net.fc(flat(x.transpose(2, 3)))


def reshaped(net: Any, x: Tensor) -> Any:
    b, c, h, w = x.shape
    return net.fc(flat(flat(x).view(b, c * h, w).transpose(1, 2)))


def tokens(net: Any, x: Tensor) -> Any:
    return net.fc(flat(x.flatten(2).transpose(1, 2)))


def two_maps(net: Any, x: Tensor) -> Any:
    return net.fc(flat(x)) + net.other(flat(F.relu(x)[:, :, 1:, 1:]))


def beside(net: Any, x: Tensor) -> Any:
    return torch.cat([net.fc(flat(x)), net.other(flat(F.relu(x)[:, :, 1:, 1:]))], dim=1)


CASES: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "no head": (lambda: sequence(nn.ReLU()), "CS028", "no Linear behind a flattened map"),
    "a head without a Linear": (lambda: sequence(nn.Flatten()), "CS028", "no Linear behind"),
    "a Linear over the channels": (
        lambda: Net(
            lambda net, x: net.tokens(x.flatten(2).transpose(1, 2)), tokens=nn.Linear(4, 3)
        ),
        "CS028",
        "no Linear behind a flattened map",
    ),
    "a global average pool": (
        lambda: sequence(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        "CS029",
        "pool='behind' makes a class-activation map of it",
    ),
    "a mean": (
        lambda: Net(lambda net, x: net.last(x.mean([2, 3])), last=nn.Linear(4, 3)),
        "CS029",
        "a global average pool over 6×5",
    ),
    "a pool that changes the map": (
        lambda: sequence(nn.AdaptiveAvgPool2d((3, 5)), nn.Flatten(), nn.Linear(60, 3)),
        "CS055",
        "makes 3×5 of 6×5, at any size",
    ),
    "a global max pool": (
        lambda: sequence(nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 3)),
        "CS055",
        "makes 1×1 of 6×5, at any size",
    ),
    "a LayerNorm on the flattened map": (
        lambda: sequence(nn.Flatten(), nn.LayerNorm(MAP), nn.Linear(MAP, 3)),
        "CS053",
        "a LayerNorm stands between the flattening and the Linear",
    ),
    "a BatchNorm1d on the flattened map": (
        lambda: sequence(nn.Flatten(), nn.BatchNorm1d(MAP), nn.Linear(MAP, 3)),
        "CS054",
        "it normalises each of 120 positions",
    ),
    "a PReLU on the flattened map": (
        lambda: sequence(nn.Flatten(), nn.PReLU(MAP), nn.Linear(MAP, 3)),
        "CS054",
        "it has a slope for each of 120",
    ),
    "a LayerNorm between Linears": (
        lambda: sequence(nn.Flatten(), nn.Linear(MAP, 3), nn.LayerNorm(3), nn.Linear(3, 3)),
        "CS054",
        "a LayerNorm takes features",
    ),
    "the order of FaceNet": (
        lambda: Net(facenet),
        "CS053",
        "its order is not channel, height, width",
    ),
    "height and width exchanged": (lambda: Net(turned), "CS053", "its order is not channel"),
    "a reshape of the flattened map": (lambda: Net(reshaped), "CS053", "it is no map of the image"),
    "rows of tokens": (lambda: Net(tokens), "CS053", "has 3 axes, the image 4"),
    "a slice of the flattened map": (
        lambda: Net(lambda net, x: net.part(flat(x)[:, 10:]), part=nn.Linear(MAP - 10, 3)),
        "CS053",
        "getitem takes the flattened map",
    ),
    "a softmax over the images": (
        lambda: sequence(nn.Flatten(), nn.Linear(MAP, 3), nn.Softmax(dim=0)),
        "CS054",
        "along axis 0, which is not that of the classes",
    ),
    "the best class": (
        lambda: Net(lambda net, x: net.fc(flat(x)).argmax(1, keepdim=True)),
        "CS054",
        "argmax of features is not known to work on maps",
    ),
    "the flattened map as an output": (
        lambda: Net(lambda net, x: (net.fc(flat(x)), flat(x))),
        "CS054",
        "is given out as well",
    ),
    "two maps": (
        lambda: Net(two_maps, other=nn.Linear(80, 3)),
        "CS054",
        "add of two values that do not lie over the same map",
    ),
    "two maps side by side": (
        lambda: Net(beside, other=nn.Linear(80, 3)),
        "CS054",
        "the head takes several maps",
    ),
    "a Linear that is called twice": (lambda: Net(twice), "CS016", "it is called 2 times"),
    "tied weights": (tied, "CS016", "its weight is tied to that of another layer"),
    "a weight that the forward reads": (
        lambda: Net(lambda net, x: net.fc(flat(x)) + net.fc.weight.sum()),
        "CS016",
        "the forward reads its weight beside calling it",
    ),
    "a product with a parameter": (
        lambda: Net(lambda net, x: F.linear(flat(x), net.fc.weight)),
        "CS007",
        "fc.weight is used by a forward of its own",
    ),
    "a subclass": (
        lambda: sequence(nn.Flatten(), Scaled(MAP, 3)),
        "CS007",
        "is used by a forward of its own",
    ),
    "a hook": (hooked, "CS007", "a hook on this Linear"),
    "a hook on the model": (hooked_model, "CS024", "the model has _forward_pre_hooks"),
    "a norm that is called twice": (
        lambda: Net(
            lambda net, x: net.norm(net.fc(flat(x))) + net.norm(net.other(flat(x))),
            norm=nn.BatchNorm1d(3),
            other=nn.Linear(MAP, 3),
        ),
        "CS016",
        "it is called 2 times in one forward",
    ),
    "a forward that was replaced": (replaced, "CS007", "its forward was replaced"),
    "a hook on what is dropped": (hooked_flatten, "CS024", "_forward_hooks, which would be lost"),
    "a parametrised weight": (parametrised, "CS008", "is computed from other tensors"),
    "a table of positions": (
        lambda: sequence(Positions(), nn.Flatten(), nn.Linear(MAP, 3)),
        "CS055",
        "it takes no larger image",
    ),
    "a view with sizes": (
        lambda: Net(lambda net, x: net.fc(flat(x.view(-1, 4, 6, 5) * 2))),
        "CS055",
        "it has a size in it",
    ),
    "an image of one size": (
        lambda: Net(lambda net, x: net.fc(flat(F.interpolate(x, size=(6, 5))))),
        "CS055",
        "its result is 4×6×5 however large the image is",
    ),
    "a batch of one size": (
        lambda: Net(lambda net, x: net.fc(flat(x.view(2, 4, x.shape[2], x.shape[3])))),
        "CS056",
        "its forward cannot be followed",
    ),
    "the number of images in the head": (
        lambda: Net(lambda net, x: net.fc(flat(x)) / len(x)),
        "CS055",
        "it holds the number of images",
    ),
    "the number of images in the trunk": (
        lambda: Net(lambda net, x: net.fc(flat(x.view(len(x), 4, x.shape[2], x.shape[3])))),
        "CS055",
        "takes no larger image",
    ),
    "a number of the whole image": (
        lambda: Net(lambda net, x: net.fc(flat(x)) * x.mean()),
        "CS054",
        "mul of features is not known to work on maps",
    ),
    "a map larger than the image": (
        lambda: sequence(nn.Upsample(scale_factor=2), nn.Flatten(), nn.Linear(MAP * 4, 3)),
        "CS055",
        "it is larger than the image",
    ),
    "a decision by values": (lambda: Net(decides), "CS056", "decides by the values"),
    "a check of the size": (lambda: Net(checks), "CS056", "decides by the size"),
    "a plain number of a size": (
        lambda: Net(lambda net, x: net.fc(x.view(int(x.shape[0]), -1))),
        "CS056",
        "makes a plain number of a value or a size",
    ),
    "a loop over the images": (lambda: Net(takes_apart), "CS056", "takes a tensor apart in a loop"),
    "a count": (lambda: Net(counts, norm=nn.BatchNorm2d(4)), "CS056", "in the place of norm.num"),
    "a forward that exits": (lambda: Net(leaves), "CS056", "SystemExit: 0"),
    "an image that does not fit": (
        lambda: sequence(nn.Flatten(), nn.Linear(MAP + 1, 3)),
        "CS056",
        "its forward cannot be followed",
    ),
}
"""What is built, the code, and a part of the reason."""


@pytest.mark.parametrize("case", CASES)
def test_refusals(case: str) -> None:
    make, code, reason = CASES[case]
    model = make()
    names = list(model.state_dict())
    with pytest.raises(cs.ConvsurgeonError) as caught:
        cs.fully_convolutional(model, torch.zeros(1, 1, 8, 7))
    assert (caught.value.code, reason in str(caught.value)) == (code, True), str(caught.value)
    assert list(model.state_dict()) == names
    plan = cs.fully_convolutional(model, torch.zeros(1, 1, 8, 7), dry_run=True).plan
    assert not plan.possible
    assert code in {one.code for one in plan.obstacles}
    assert reason in str(plan)


def test_a_forward_that_exits_in_the_proof() -> None:
    with pytest.raises(cs.ConvsurgeonError, match="in float64: SystemExit: 0") as caught:
        cs.fully_convolutional(Net(leaves_the_proof), torch.zeros(1, 1, 8, 7))
    assert caught.value.code == "CS064"


def under_inference() -> nn.Module:
    with torch.inference_mode():
        return sequence(nn.Flatten(), nn.Linear(MAP, 3))


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (under_inference, "0.weight was made under torch.inference_mode"),
        (lambda: sequence(nn.Flatten(), nn.LazyLinear(3)), "2.weight has no shape yet"),
    ],
    ids=["inference", "lazy"],
)
def test_parameters_that_cannot_be_shared(make: Callable[[], nn.Module], reason: str) -> None:
    with pytest.raises(cs.ConvsurgeonError, match=reason) as caught:
        cs.fully_convolutional(make(), torch.zeros(1, 1, 8, 7))
    assert caught.value.code == "CS056"


@pytest.mark.parametrize(
    "behind",
    [
        [nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3)],
        [nn.ReLU(), nn.Linear(4, 3)],
        [nn.Linear(4, 3), nn.Softmax(1)],
        [nn.Linear(4, 3), nn.PReLU()],
    ],
    ids=["between Linears", "before it", "softmax", "PReLU"],
)
def test_a_pool_that_cannot_be_moved(behind: list[nn.Module]) -> None:
    model = sequence(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *behind)
    with pytest.raises(cs.ConvsurgeonError, match="no mean can be moved behind it") as caught:
        cs.fully_convolutional(model, torch.zeros(1, 1, 8, 7), pool="behind")
    assert caught.value.code == "CS054"


def test_a_mean_over_rows_of_positions_is_no_pool_of_a_map() -> None:
    model = Net(lambda net, x: net.last(x.flatten(2).mean(2)), last=nn.Linear(4, 3))
    with pytest.raises(cs.ConvsurgeonError, match="has 3 axes, the image 4") as caught:
        cs.fully_convolutional(model, torch.zeros(1, 1, 8, 7), pool="behind")
    assert caught.value.code == "CS053"


def test_the_line_that_decides_is_named() -> None:
    line = decides.__code__.co_firstlineno + 1
    with pytest.raises(cs.ConvsurgeonError, match=f"test_dense_refusals.py, line {line}: "):
        cs.fully_convolutional(Net(decides), torch.zeros(1, 1, 8, 7))


def test_everything_that_stands_against_it_is_in_the_plan() -> None:
    model = sequence(Positions(), nn.Flatten(), nn.LayerNorm(MAP), parametrised()[2])  # type: ignore[index]
    plan = cs.fully_convolutional(model, torch.zeros(1, 1, 8, 7), dry_run=True).plan
    assert {one.code for one in plan.obstacles} == {"CS008", "CS053", "CS055"}
