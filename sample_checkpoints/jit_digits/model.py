"""A small pixel-space denoiser with a JiT-style bottleneck patch embedding."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional


class Attention(nn.Module):
    """Self-attention over all tokens, with one projection for queries, keys and values."""

    def __init__(self, hidden: int, heads: int) -> None:
        """Prepare projections for `heads` heads that share `hidden` channels."""
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(hidden, 3 * hidden)
        self.proj = nn.Linear(hidden, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Mix tokens `[B, T, D]` into tokens `[B, T, D]`."""
        batch, tokens, hidden = x.shape
        qkv = self.qkv(x).reshape(batch, tokens, 3, self.heads, hidden // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(query, key, value)
        return cast("Tensor", self.proj(mixed.transpose(1, 2).reshape(batch, tokens, hidden)))


class Mlp(nn.Module):
    """The per-token half of a transformer block."""

    def __init__(self, hidden: int, inner: int) -> None:
        """Prepare the two layers, `hidden` to `inner` and back."""
        super().__init__()
        self.fc1 = nn.Linear(hidden, inner)
        self.fc2 = nn.Linear(inner, hidden)

    def forward(self, x: Tensor) -> Tensor:
        """Transform each token of `[B, T, D]` by itself."""
        return cast("Tensor", self.fc2(functional.gelu(self.fc1(x))))


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, hidden: int, heads: int, inner: int, eps: float) -> None:
        """Prepare attention and MLP, each behind its own layer norm."""
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden, eps=eps)
        self.attn = Attention(hidden, heads)
        self.norm2 = nn.LayerNorm(hidden, eps=eps)
        self.mlp = Mlp(hidden, inner)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[B, T, D]` to tokens `[B, T, D]`."""
        x = x + self.attn(self.norm1(x))
        return x + cast("Tensor", self.mlp(self.norm2(x)))


class BottleneckPatchEmbed(nn.Module):
    """Embed patches through a few channels: a strided conv down, a 1x1 conv up."""

    def __init__(self, channels: int, bottleneck: int, hidden: int, patch: int) -> None:
        """Prepare both projections; only the second has a bias, the first would add nothing."""
        super().__init__()
        self.proj1 = nn.Conv2d(channels, bottleneck, kernel_size=patch, stride=patch, bias=False)
        self.proj2 = nn.Conv2d(bottleneck, hidden, kernel_size=1, stride=1, bias=True)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images `[B, C, H, W]` as tokens `[B, H/p * W/p, D]`."""
        return cast("Tensor", self.proj2(self.proj1(x))).flatten(2).transpose(1, 2)


class TimeEmbed(nn.Module):
    """Embed the share of signal in a noisy image."""

    def __init__(self, frequencies: int, hidden: int) -> None:
        """Prepare the MLP behind `frequencies` sines and cosines."""
        super().__init__()
        self.frequencies = frequencies
        self.mlp = nn.Sequential(
            nn.Linear(frequencies, hidden), nn.SiLU(), nn.Linear(hidden, hidden)
        )

    def forward(self, t: Tensor) -> Tensor:
        """Embed times `[B]` between 0 (noise) and 1 (clean) as `[B, D]`."""
        half = self.frequencies // 2
        # Computed here, not kept in a buffer, so that the checkpoint holds learned weights only.
        steps = torch.arange(half, device=t.device, dtype=t.dtype) / half
        angles = 100.0 * t[:, None] * torch.exp(-math.log(1000.0) * steps)[None]
        return cast("Tensor", self.mlp(torch.cat([angles.cos(), angles.sin()], dim=1)))


class FinalLayer(nn.Module):
    """Turn each token back into the pixels of its patch."""

    def __init__(self, hidden: int, pixels: int, eps: float) -> None:
        """Prepare the projection of `hidden` features to `pixels` values."""
        super().__init__()
        self.norm = nn.LayerNorm(hidden, eps=eps)
        self.linear = nn.Linear(hidden, pixels)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens `[B, T, D]` to flat patches `[B, T, C * p * p]`."""
        return cast("Tensor", self.linear(self.norm(x)))


class JitDigits(nn.Module):
    """Pixel-space denoiser: it is shown `t * x + (1 - t) * noise` and predicts `x` itself."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Build the layers that `config` describes."""
        super().__init__()
        hidden, patch, channels = (
            config["hidden_size"],
            config["patch_size"],
            config["num_channels"],
        )
        self.patch, self.grid = patch, config["image_size"] // patch
        self.x_embedder = BottleneckPatchEmbed(channels, config["pca_dim"], hidden, patch)
        self.t_embedder = TimeEmbed(config["time_embed_size"], hidden)
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2, hidden))
        self.blocks = nn.ModuleList(
            Block(
                hidden,
                config["num_attention_heads"],
                config["intermediate_size"],
                config["layer_norm_eps"],
            )
            for _ in range(config["num_hidden_layers"])
        )
        pixels = channels * patch**2
        self.final_layer = FinalLayer(hidden, pixels, config["layer_norm_eps"])
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """Predict clean images `[B, 1, 28, 28]` from noisy ones `z` of that shape and `t` `[B]`.

        Pixels run from -1 to 1.
        """
        x = self.x_embedder(z) + self.pos_embed + self.t_embedder(t)[:, None]
        for block in self.blocks:
            x = block(x)
        return self.unpatchify(self.final_layer(x))

    def unpatchify(self, x: Tensor) -> Tensor:
        """Put flat patches `[B, T, C * p * p]` together into images `[B, C, H, W]`."""
        x = x.reshape(x.shape[0], self.grid, self.grid, -1, self.patch, self.patch)
        x = x.permute(0, 3, 1, 4, 2, 5)
        return x.reshape(x.shape[0], x.shape[1], self.grid * self.patch, self.grid * self.patch)


def build(config: dict[str, Any] | None = None) -> nn.Module:
    """Make the model with fresh weights from `config`, or from the config.json beside this file.

    Under `with torch.device("meta"):` it takes no memory.
    """
    if config is None:
        config = json.loads(Path(__file__).with_name("config.json").read_text(encoding="utf-8"))
    return JitDigits(config)
