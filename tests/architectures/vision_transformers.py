"""Vision transformers and mixers."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import architecture, floats, together, tokens
from .transformers import attend

LAYER_SCALE = "a layer scale: one gamma per channel, as a norm without shift has"


class Attention(nn.Module):
    """timm's attention, with norms over each head's queries and keys on demand."""

    def __init__(self, dim: int, qk_norm: bool = False) -> None:
        super().__init__()
        self.qkv = nn.Linear(dim, 3 * dim)
        self.q_norm = nn.LayerNorm(dim // 2) if qk_norm else nn.Identity()
        self.k_norm = nn.LayerNorm(dim // 2) if qk_norm else nn.Identity()
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, 2, -1)).unbind(-3)
        query, key = self.q_norm(query), self.k_norm(key)
        return self.proj(attend(query.flatten(-2), key.flatten(-2), value.flatten(-2), 2))


class Mlp(nn.Module):
    """fc1 and fc2."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.act(self.fc1(x)))


class LayerScale(nn.Module):
    """One factor per channel."""

    def __init__(self, dim: int, init_values: float = 1e-5) -> None:
        super().__init__()
        self.gamma = nn.Parameter(init_values * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """timm's block."""

    def __init__(self, dim: int, qk_norm: bool, layer_scale: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = Attention(dim, qk_norm)
        self.ls1 = LayerScale(dim) if layer_scale else nn.Identity()
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = Mlp(dim, 2 * dim)
        self.ls2 = LayerScale(dim) if layer_scale else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class PatchEmbed(nn.Module):
    """Patches as a sequence, with an optional norm."""

    def __init__(self, dim: int, normed: bool = False) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, dim, 4, 4)
        self.norm = nn.LayerNorm(dim) if normed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.proj(x).flatten(2).transpose(1, 2))


class VisionTransformer(nn.Module):
    """timm's ViT."""

    def __init__(self, qk_norm: bool = False, layer_scale: bool = False) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 16))
        self.pos_embed = nn.Parameter(0.02 * torch.randn(1, 17, 16))
        self.patch_embed = PatchEmbed(16)
        self.blocks = nn.Sequential(*(Block(16, qk_norm, layer_scale) for _ in range(2)))
        self.norm = nn.LayerNorm(16, eps=1e-6)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), self.patch_embed(x)], 1)
        return self.head(self.norm(self.blocks(x + self.pos_embed))[:, 0])


@architecture(floats(2, 3, 16, 16))
def vit() -> nn.Module:
    return VisionTransformer()


@architecture(
    floats(2, 3, 16, 16),
    lookalikes={f"blocks.{i}.ls{j}": LAYER_SCALE for i in (0, 1) for j in (1, 2)},
)
def vit_layer_scale() -> nn.Module:
    """DINOv2's and DeiT III's layer scales, and norms over the heads."""
    return VisionTransformer(qk_norm=True, layer_scale=True)


class EncoderBlock(nn.Module):
    """torchvision's block: its attention has in_proj_weight, its MLP numbered layers."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(dim, eps=1e-6)
        self.self_attention = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.ln_2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.ln_1(x)
        x = x + self.self_attention(normed, normed, normed, need_weights=False)[0]
        return x + self.mlp(self.ln_2(x))


class TorchvisionViT(nn.Module):
    """encoder.layers.encoder_layer_N and encoder.ln."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_proj = nn.Conv2d(3, 16, 4, 4)
        layers = {f"encoder_layer_{i}": EncoderBlock(16) for i in range(2)}
        self.encoder = nn.Sequential(
            OrderedDict(layers=nn.Sequential(OrderedDict(layers)), ln=nn.LayerNorm(16, eps=1e-6))
        )
        self.heads = nn.Sequential(OrderedDict(head=nn.Linear(16, 10)))

    def forward(self, x: Tensor) -> Tensor:
        return self.heads(self.encoder(self.conv_proj(x).flatten(2).transpose(1, 2)).mean(1))


@architecture(floats(2, 3, 16, 16))
def vit_torchvision() -> nn.Module:
    return TorchvisionViT()


class WindowAttention(nn.Module):
    """Swin's attention with its table of relative positions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.register_buffer("relative_position_index", torch.arange(16).view(4, 4) % 9)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        return self.proj(attend(query, key, value, 2))


class SwinBlock(nn.Module):
    """norm1, attn, norm2 and mlp on channels-last images of four dimensions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = WindowAttention(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 2 * dim)

    def forward(self, x: Tensor) -> Tensor:
        batch, height, width, dim = x.shape
        cells = self.norm1(x).view(batch, height // 2, 2, width // 2, 2, dim).transpose(2, 3)
        out = self.attn(cells.reshape(-1, 4, dim)).view(cells.shape).transpose(2, 3)
        x = x + out.reshape(x.shape)
        return x + self.mlp(self.norm2(x))


class PatchMerging(nn.Module):
    """Four pixels to one: its norm is four times as wide as its stage."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Linear(4 * dim, 2 * dim, bias=False)
        self.norm = nn.LayerNorm(4 * dim)

    def forward(self, x: Tensor) -> Tensor:
        corners = [x[:, i::2, j::2] for j in (0, 1) for i in (0, 1)]
        return self.reduction(self.norm(torch.cat(corners, -1)))


class SwinStage(nn.Module):
    """blocks and downsample."""

    def __init__(self, dim: int, downsample: bool) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([SwinBlock(dim) for _ in range(2)])
        self.downsample = PatchMerging(dim) if downsample else None

    def forward(self, x: Tensor) -> Tensor:
        for block in self.blocks:
            x = block(x)
        return x if self.downsample is None else self.downsample(x)


class Swin(nn.Module):
    """Two stages."""

    def __init__(self) -> None:
        super().__init__()
        self.patch_embed = PatchEmbed(8, normed=True)
        self.layers = nn.ModuleList([SwinStage(8, True), SwinStage(16, False)])
        self.norm = nn.LayerNorm(16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embed(x)
        side = math.isqrt(x.shape[1])
        x = x.unflatten(1, (side, side))
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x).mean((1, 2)))


@architecture(floats(2, 3, 32, 32))
def swin() -> nn.Module:
    return Swin()


class CLIP(nn.Module):
    """Two towers and the scalar ``logit_scale``."""

    def __init__(self) -> None:
        super().__init__()
        layer = partial(nn.TransformerEncoderLayer, 16, 2, 32, batch_first=True, norm_first=True)
        self.visual = nn.Sequential(
            OrderedDict[str, nn.Module](
                patch=PatchEmbed(16),
                ln_pre=nn.LayerNorm(16),
                block=layer(),
                ln_post=nn.LayerNorm(16),
            )
        )
        self.token_embedding = nn.Embedding(30, 16)
        self.transformer = nn.Sequential(layer())
        self.ln_final = nn.LayerNorm(16)
        self.text_projection = nn.Parameter(0.1 * torch.randn(16, 16))
        self.logit_scale = nn.Parameter(torch.tensor(2.66))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        text = self.ln_final(self.transformer(self.token_embedding(text)))[:, -1]
        image = functional.normalize(self.visual(image)[:, 0], dim=-1)
        return (
            self.logit_scale.exp()
            * image
            @ functional.normalize(text @ self.text_projection, dim=-1).T
        )


@architecture(together(floats(2, 3, 16, 16), tokens(30, 2, 5)))
def clip() -> nn.Module:
    return CLIP()
