"""Mixers, with norms and with what stands in for them."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from .registry import architecture, floats
from .vision_transformers import Mlp, PatchEmbed

AFFINE = "ResMLP's Affine: a product and a sum per channel, in a norm's place"


class Affine(nn.Module):
    """ResMLP's stand-in for a norm, in the names of torch's norms."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


class MixerBlock(nn.Module):
    """Mix tokens, then channels."""

    def __init__(self, dim: int, length: int, norm: type[nn.LayerNorm | Affine]) -> None:
        super().__init__()
        self.norm1 = norm(dim)
        self.mlp_tokens = Mlp(length, 8)
        self.norm2 = norm(dim)
        self.mlp_channels = Mlp(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.mlp_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp_channels(self.norm2(x))


def _mixer(norm: type[nn.LayerNorm | Affine]) -> nn.Module:
    blocks = [MixerBlock(16, 16, norm) for _ in range(2)]
    layers = {"stem": PatchEmbed(16), "blocks": nn.Sequential(*blocks), "norm": norm(16)}
    return nn.Sequential(OrderedDict[str, nn.Module](layers, head=nn.Linear(16, 10)))


@architecture(floats(2, 3, 16, 16))
def mlp_mixer() -> nn.Module:
    return _mixer(nn.LayerNorm)


@architecture(
    floats(2, 3, 16, 16),
    lookalikes={"norm": AFFINE} | {f"blocks.{i}.norm{j}": AFFINE for i in (0, 1) for j in (1, 2)},
)
def resmlp() -> nn.Module:
    """No norm at all, with the names and shapes of a mixer full of them."""
    return _mixer(Affine)
