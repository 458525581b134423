"""A small vision transformer that classifies 8x8 digits."""

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


class PatchEmbed(nn.Module):
    """Cut an image into patches and embed each: a conv whose stride is its kernel."""

    def __init__(self, channels: int, hidden: int, patch: int) -> None:
        """Prepare the projection of `channels x patch x patch` pixels to `hidden` features."""
        super().__init__()
        self.proj = nn.Conv2d(channels, hidden, kernel_size=patch, stride=patch)

    def forward(self, x: Tensor) -> Tensor:
        """Embed images `[B, C, H, W]` as tokens `[B, H/p * W/p, D]`."""
        return cast("Tensor", self.proj(x)).flatten(2).transpose(1, 2)


class VitDigits(nn.Module):
    """Vision transformer for 8x8 digits, with a class token and learned positions."""

    def __init__(self, config: dict[str, Any]) -> None:
        """Build the layers that `config` describes."""
        super().__init__()
        hidden = config["hidden_size"]
        tokens = (config["image_size"] // config["patch_size"]) ** 2
        self.patch_embed = PatchEmbed(config["num_channels"], hidden, config["patch_size"])
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + tokens, hidden))
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
        nn.init.trunc_normal_(self.cls_token, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        """Classify images `[B, 1, 8, 8]` with values 0 to 1 into logits `[B, 10]`."""
        x = self.patch_embed(x)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return cast("Tensor", self.head(self.norm(x)[:, 0]))


def build(config: dict[str, Any] | None = None) -> nn.Module:
    """Make the model with fresh weights from `config`, or from the config.json beside this file.

    Under `with torch.device("meta"):` it takes no memory.
    """
    if config is None:
        config = json.loads(Path(__file__).with_name("config.json").read_text(encoding="utf-8"))
    return VitDigits(config)
