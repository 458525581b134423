"""Drop-in modules: a convolution as a linear layer, and a linear layer as a convolution.

They keep the contract of what they replace (shapes in and out, cropping, dtype, errors), and give
it back bit for bit. This subpackage needs torch and nothing else of convsurgeon.

| class | replaces | holds |
| --- | --- | --- |
| `GemmConv1d`, `GemmConv2d`, `GemmConv3d` | a conv with stride == kernel | the conv's parameters |
| `PatchLinear` | a conv with stride == kernel, in 1 to 3 dimensions | an inner nn.Linear |
| `FlatConv1d`, `FlatConv2d`, `FlatConv3d` | an nn.Linear | the weight as a conv's |
| `SplitConv` | a wide nn.Linear | several convs of one position, each with a part of the outputs |
| `ChannelNorm` | an nn.LayerNorm between channel-first layers | the norm's parameters |
"""

from __future__ import annotations

from convsurgeon.nn.conv import FlatConv1d, FlatConv2d, FlatConv3d
from convsurgeon.nn.gemm import GemmConv1d, GemmConv2d, GemmConv3d
from convsurgeon.nn.linear import PatchLinear
from convsurgeon.nn.norm import ChannelNorm
from convsurgeon.nn.patches import patchify
from convsurgeon.nn.split import SplitConv
from convsurgeon.rearrangement import LAYOUTS

__all__ = [
    "LAYOUTS",
    "ChannelNorm",
    "FlatConv1d",
    "FlatConv2d",
    "FlatConv3d",
    "GemmConv1d",
    "GemmConv2d",
    "GemmConv3d",
    "PatchLinear",
    "SplitConv",
    "patchify",
]
