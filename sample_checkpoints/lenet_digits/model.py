"""A LeNet-like classifier of 28x28 digits."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

from torch import Tensor, nn


class LenetDigits(nn.Module):
    """LeNet-like classifier: unpadded overlapping convs, max pools, a fully connected head."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Build the layers that `config` describes."""
        super().__init__()
        first, second = config["conv_channels"]
        kernel, stride = config["conv_kernel_size"], config["conv_stride"]
        inner, outer = config["head_hidden_sizes"]
        self.features = nn.Sequential(
            nn.Conv2d(config["num_channels"], first, kernel_size=kernel, stride=stride),
            nn.ReLU(),
            nn.MaxPool2d(config["pool_size"]),
            nn.Conv2d(first, second, kernel_size=kernel, stride=stride),
            nn.ReLU(),
            nn.MaxPool2d(config["pool_size"]),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(math.prod(config["head_input_shape"]), inner),
            nn.ReLU(),
            nn.Linear(inner, outer),
            nn.ReLU(),
            nn.Linear(outer, config["num_labels"]),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Classify images `[B, 1, 28, 28]` with values 0 to 1 into logits `[B, 10]`."""
        return cast("Tensor", self.classifier(self.features(x)))


def build(config: dict[str, Any] | None = None) -> nn.Module:
    """Make the model with fresh weights from `config`, or from the config.json beside this file.

    Under `with torch.device("meta"):` it takes no memory.
    """
    if config is None:
        config = json.loads(Path(__file__).with_name("config.json").read_text(encoding="utf-8"))
    return LenetDigits(config)
