"""A small video transformer with a Conv3d tubelet embedding."""

from __future__ import annotations

import json
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


class TubeletEmbed(nn.Module):
    """Cut a clip into tubelets (short stacks of patches) and embed each."""

    def __init__(self, channels: int, hidden: int, tubelet: tuple[int, int, int]) -> None:
        """Prepare the projection of `channels x t x p x p` pixels to `hidden` features."""
        super().__init__()
        self.proj = nn.Conv3d(channels, hidden, kernel_size=tubelet, stride=tubelet)

    def forward(self, x: Tensor) -> Tensor:
        """Embed clips `[B, C, T, H, W]` as tokens `[B, T/t * H/p * W/p, D]`."""
        return cast("Tensor", self.proj(x)).flatten(2).transpose(1, 2)


class Clip3dDigits(nn.Module):
    """Video transformer that names the direction in which a digit moves."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Build the layers that `config` describes."""
        super().__init__()
        hidden = config["hidden_size"]
        time, height, width = config["tubelet_size"]
        side = config["image_size"]
        tokens = (config["num_frames"] // time) * (side // height) * (side // width)
        self.embed = TubeletEmbed(config["num_channels"], hidden, (time, height, width))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, hidden))
        self.blocks = nn.ModuleList(
            Block(
                hidden,
                config["num_attention_heads"],
                config["intermediate_size"],
                config["layer_norm_eps"],
            )
            for _ in range(config["num_hidden_layers"])
        )
        self.norm = nn.LayerNorm(hidden, eps=config["layer_norm_eps"])
        self.head = nn.Linear(hidden, config["num_labels"])
        nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Classify clips `[B, 1, 6, 24, 24]` with values 0 to 1 into logits `[B, 8]`."""
        x = self.embed(x) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        # The digit may be anywhere, so the tokens are averaged rather than one of them read.
        return cast("Tensor", self.head(self.norm(x).mean(dim=1)))


def build(config: dict[str, Any] | None = None) -> nn.Module:
    """Make the model with fresh weights from `config`, or from the config.json beside this file.

    Under `with torch.device("meta"):` it takes no memory.
    """
    if config is None:
        config = json.loads(Path(__file__).with_name("config.json").read_text(encoding="utf-8"))
    return Clip3dDigits(config)
