"""Classifiers as people write them, for the tests of `fully_convolutional`."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - as models are written
from torch import Tensor, nn

import convsurgeon as cs
from convsurgeon.plan.dense import DensePlan
from convsurgeon.proof.cells_verdict import DenseVerdict


class Made(NamedTuple):
    """What `fully_convolutional` made, proved."""

    model: Any
    plan: DensePlan
    verdict: DenseVerdict


def convert(model: nn.Module, shape: tuple[int, ...], **options: Any) -> Made:
    """Make a model fully convolutional."""
    report = cs.fully_convolutional(model, torch.zeros(shape), **options)
    assert report.verdict is not None
    return Made(report.model, report.plan, report.verdict)


class Styled(nn.Module):
    """Two convolutions and two Linears; how the map is flattened is given.

    Images are `[B, 1, 20, 17]`; the map is `[6, 6, 4]`, the stride 2.
    """

    shape = (1, 1, 20, 17)

    def __init__(self, flatten: Callable[[Tensor], Tensor], *, norm: bool = False) -> None:
        super().__init__()
        self.flatten = flatten
        self.conv1 = nn.Conv2d(1, 4, 5)
        self.conv2 = nn.Conv2d(4, 6, 3)
        self.fc1 = nn.Linear(6 * 6 * 4, 8)
        self.norm = nn.BatchNorm1d(8) if norm else nn.Identity()
        self.fc2 = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.relu(self.conv2(x))
        x = self.flatten(x)
        x = F.dropout(F.gelu(self.norm(self.fc1(x))), training=self.training)
        return F.log_softmax(self.fc2(x), dim=-1)


def features_of(x: Tensor) -> int:
    """Count the features of one image, as the tutorial of PyTorch once did."""
    count = 1
    for size in x.size()[1:]:
        count *= size
    return count


FLATTENED: dict[str, Callable[[Tensor], Tensor]] = {
    "torch.flatten": lambda x: torch.flatten(x, 1),
    "flatten": lambda x: x.flatten(1),
    "flatten to the end": lambda x: x.flatten(start_dim=1, end_dim=-1),
    "view of x.size(0)": lambda x: x.view(x.size(0), -1),
    "view of the features": lambda x: x.view(-1, 6 * 6 * 4),
    "view of a shape": lambda x: x.view(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]),
    "view in a loop": lambda x: x.view(-1, features_of(x)),
    "view of a product": lambda x: x.view(len(x), math.prod(x.shape[1:])),
    "reshape": lambda x: x.reshape(x.size(0), -1),
    "torch.reshape": lambda x: torch.reshape(x, (x.shape[0], -1)),
    "contiguous": lambda x: x.contiguous().view(x.size()[0], -1),
}
"""Every way to write it."""


class AlexLike(nn.Module):
    """AlexNet without padding, and small: images `[B, 3, 67, 59]`, overlapping pools."""

    shape = (1, 3, 67, 59)

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 6, 11, stride=4),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=2),
            nn.LocalResponseNorm(3),
            nn.Conv2d(6, 8, 3, groups=2),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, stride=1),
        )
        self.avgpool = nn.AdaptiveAvgPool2d((3, 2))
        self.classifier = nn.Sequential(
            nn.Dropout(),
            nn.Linear(8 * 3 * 2, 16),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(16, 12),
            nn.ReLU(inplace=True),
            nn.Linear(12, 5),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.avgpool(self.features(x))
        return self.classifier(torch.flatten(x, 1))  # type: ignore[no-any-return]


class VggLike(nn.Module):
    """VGG-16, layer for layer, with narrow layers: padded convolutions, an adaptive pool."""

    shape = (1, 3, 224, 224)

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = 3
        for times in (1, 1, 0, 2, 2, 0, 4, 4, 4, 0, 8, 8, 8, 0, 8, 8, 8, 0):
            if times:
                conv = nn.Conv2d(before, times * width, 3, padding=1)
                layers += [conv, nn.ReLU(inplace=True)]
                before = times * width
            else:
                layers.append(nn.MaxPool2d(2, 2))
        self.features = nn.Sequential(*layers)
        self.avgpool = nn.AdaptiveAvgPool2d((7, 7))
        self.classifier = nn.Sequential(
            nn.Linear(before * 49, 24),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(24, 24),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(24, 10),
        )
        for module in self.modules():  # or the images would hardly reach the scores
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))  # type: ignore[no-any-return]


class Excited(nn.Module):
    """A squeeze-and-excitation block: a pool and two Linears that are no head."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(channels, 2), nn.Linear(2, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, _ = x.shape
        y = F.adaptive_avg_pool2d(x, 1).view(b, c)
        return x * torch.sigmoid(self.up(F.relu(self.down(y)))).view(b, c, 1, 1)


class TwoHeads(nn.Module):
    """Two heads on one flattened map: classes, and a box beside the classes."""

    shape = (1, 3, 12, 10)

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AvgPool2d(2))
        self.classes, self.box = nn.Linear(4 * 5 * 4, 5), nn.Linear(4 * 5 * 4, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        rows = torch.flatten(self.trunk(x), 1)
        classes, box = torch.softmax(self.classes(rows), 1), self.box(rows)
        return {"classes": classes, "both": torch.cat([classes, box], dim=1)}


def random_net(seed: int) -> tuple[nn.Module, tuple[int, ...]]:
    """Return an unpadded network of random geometry, with the shape of its images."""
    draw = random.Random(seed)
    torch.manual_seed(seed)
    channels, layers = draw.randint(1, 3), []
    before = channels
    for _ in range(draw.randint(1, 2)):
        after = draw.randint(2, 6)
        kernel = draw.randint(1, 4), draw.randint(1, 4)
        stride = draw.randint(1, 2), draw.randint(1, 3)
        layers += [
            nn.Conv2d(before, after, kernel, stride),
            draw.choice([nn.ReLU, nn.SiLU, nn.Tanh])(),
        ]
        if draw.random() < 0.5:
            layers.append(draw.choice([nn.MaxPool2d, nn.AvgPool2d])(2, draw.randint(1, 2)))
        before = after
    size = (draw.randint(40, 52), draw.randint(40, 52))
    trunk = nn.Sequential(*layers)
    with torch.no_grad():
        shape = trunk(torch.zeros(1, channels, *size)).shape
    hidden = draw.randint(2, 9)
    head: list[nn.Module] = [nn.Flatten(), nn.Linear(math.prod(shape[1:]), hidden)]
    head += draw.choice([[], [nn.BatchNorm1d(hidden)], [nn.PReLU(hidden)], [nn.Dropout()]])
    head += [nn.ELU(), nn.Linear(hidden, 3), nn.Softmax(dim=draw.choice([1, -1]))]
    return nn.Sequential(trunk, *head), (1, channels, *size)


def trained(model: nn.Module) -> nn.Module:
    """Give the norms of a model statistics, as training does; return it for inference."""
    torch.manual_seed(7)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            for tensor in (module.running_mean, module.weight, module.bias):
                if tensor is not None:
                    nn.init.normal_(tensor)
            if module.running_var is not None:
                nn.init.uniform_(module.running_var, 0.5, 2.0)
    return model.eval()


def outputs(model: Any, *shape: int) -> Tensor:
    """Run a model without gradients on seeded images."""
    images = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        found: Tensor = model(images)
    return found
