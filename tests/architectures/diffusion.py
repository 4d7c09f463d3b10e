"""Diffusion models and other networks that are steered by a condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import architecture, floats, together
from .transformers import attend


class ResnetBlock(nn.Module):
    """A DDPM block: norm1, conv1, temb_proj, norm2, conv2 and perhaps nin_shortcut."""

    def __init__(self, inputs: int, outputs: int, temb: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(4, inputs, eps=1e-6)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.temb_proj = nn.Linear(temb, outputs)
        self.norm2 = nn.GroupNorm(4, outputs, eps=1e-6)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        if inputs != outputs:
            self.nin_shortcut = nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, temb: Tensor) -> Tensor:
        out = self.conv1(functional.silu(self.norm1(x)))
        out = out + self.temb_proj(functional.silu(temb))[..., None, None]
        out = self.conv2(functional.silu(self.norm2(out)))
        return out + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class AttnBlock(nn.Module):
    """Attention over pixels by 1x1 convolutions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, dim, eps=1e-6)
        self.q = nn.Conv2d(dim, dim, 1)
        self.k = nn.Conv2d(dim, dim, 1)
        self.v = nn.Conv2d(dim, dim, 1)
        self.proj_out = nn.Conv2d(dim, dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        normed = self.norm(x)
        rows = [part(normed).flatten(2).transpose(1, 2) for part in (self.q, self.k, self.v)]
        out = attend(rows[0], rows[1], rows[2], 1).transpose(1, 2).view_as(x)
        return x + self.proj_out(out)


class DiffusionUNet(nn.Module):
    """down.N.block.N and mid.block_1 as in the latent diffusion checkpoints."""

    def __init__(self) -> None:
        super().__init__()
        self.temb = nn.Sequential(nn.Linear(8, 16), nn.SiLU(), nn.Linear(16, 16))
        self.conv_in = nn.Conv2d(3, 8, 3, padding=1)
        blocks = nn.ModuleList([ResnetBlock(8, 12, 16)])
        self.down = nn.ModuleList([nn.ModuleDict({"block": blocks})])
        self.mid = nn.ModuleDict({"block_1": ResnetBlock(12, 12, 16), "attn_1": AttnBlock(12)})
        self.norm_out = nn.GroupNorm(4, 12, eps=1e-6)
        self.conv_out = nn.Conv2d(12, 3, 3, padding=1)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        temb = self.temb(time)
        x = self.conv_in(x)
        for level in self.down:
            for block in level.get_submodule("block").children():
                x = block(x, temb)
        x = self.mid["attn_1"](self.mid["block_1"](x, temb))
        return self.conv_out(functional.silu(self.norm_out(x)))


@architecture(together(floats(2, 3, 8, 8), floats(2, 8)))
def diffusion_unet() -> nn.Module:
    return DiffusionUNet()


class DiTBlock(nn.Module):
    """Norms without parameters, modulated by ``adaLN_modulation``, which is no norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.attn = nn.MultiheadAttention(dim, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(dim, elementwise_affine=False, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Linear(2 * dim, dim))
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        parts = self.adaLN_modulation(condition)[:, None].chunk(6, -1)
        normed = self.norm1(x) * (1 + parts[0]) + parts[1]
        x = x + parts[2] * self.attn(normed, normed, normed, need_weights=False)[0]
        return x + parts[5] * self.mlp(self.norm2(x) * (1 + parts[3]) + parts[4])


@architecture(together(floats(2, 6, 16), floats(2, 16)))
def dit_block() -> nn.Module:
    return DiTBlock(16)


class AdaLayerNorm(nn.Module):
    """Scale and shift of a LayerNorm from a table of time steps."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.silu = nn.SiLU()
        self.linear = nn.Linear(dim, 2 * dim)
        self.norm = nn.LayerNorm(dim, elementwise_affine=False)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.linear(self.silu(time))[:, None].chunk(2, -1)
        return self.norm(x) * (1 + scale) + shift


@architecture(together(floats(2, 6, 16), floats(2, 16)))
def ada_layer_norm() -> nn.Module:
    return AdaLayerNorm(16)


class FiLMBlock(nn.Module):
    """A BatchNorm without parameters under a scale and a shift from outside."""

    def __init__(self, dim: int, condition: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(dim, dim, 3, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(dim, affine=False)
        self.film = nn.Linear(condition, 2 * dim)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        gamma, beta = self.film(condition)[..., None, None].chunk(2, 1)
        return functional.relu(gamma * self.bn(self.conv(x)) + beta) + x


@architecture(together(floats(2, 8, 6, 6), floats(2, 5)))
def film() -> nn.Module:
    return FiLMBlock(8, 5)


class SPADE(nn.Module):
    """A norm without parameters; gamma and beta are convolutions of a segmentation."""

    def __init__(self, dim: int, labels: int) -> None:
        super().__init__()
        self.param_free_norm = nn.InstanceNorm2d(dim, affine=False)
        self.mlp_shared = nn.Sequential(nn.Conv2d(labels, 12, 3, padding=1), nn.ReLU())
        self.mlp_gamma = nn.Conv2d(12, dim, 3, padding=1)
        self.mlp_beta = nn.Conv2d(12, dim, 3, padding=1)

    def forward(self, x: Tensor, segmap: Tensor) -> Tensor:
        hidden = self.mlp_shared(segmap)
        return self.param_free_norm(x) * (1 + self.mlp_gamma(hidden)) + self.mlp_beta(hidden)


class SPADEBlock(nn.Module):
    """norm_0 and norm_1 have convolutions inside, in the state dict as well."""

    def __init__(self) -> None:
        super().__init__()
        self.norm_0 = SPADE(8, 4)
        self.conv_0 = nn.Conv2d(8, 8, 3, padding=1)
        self.norm_1 = SPADE(8, 4)
        self.conv_1 = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor, segmap: Tensor) -> Tensor:
        out = self.conv_0(functional.leaky_relu(self.norm_0(x, segmap), 0.2))
        return x + self.conv_1(functional.leaky_relu(self.norm_1(out, segmap), 0.2))


@architecture(together(floats(2, 8, 8, 8), floats(2, 4, 8, 8)))
def spade_block() -> nn.Module:
    return SPADEBlock()


class ClassBatchNorm1d(nn.Module):
    """One norm per domain, chosen by number, in ``norm``."""

    def __init__(self, dim: int, domains: int) -> None:
        super().__init__()
        self.norm = nn.ModuleList([nn.BatchNorm1d(dim) for _ in range(domains)])

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        return self.norm[int(domain)](x)


class DomainNet(nn.Module):
    """Layers shared by domains that each have their own norms."""

    def __init__(self) -> None:
        super().__init__()
        self.fc1 = nn.Linear(6, 8)
        self.bn1 = ClassBatchNorm1d(8, 3)
        self.fc2 = nn.Linear(8, 2)

    def forward(self, x: Tensor, domain: Tensor) -> Tensor:
        return self.fc2(functional.relu(self.bn1(self.fc1(x), domain)))


@architecture(lambda: (torch.randn(4, 6), torch.tensor(1)))
def domain_specific_bn() -> nn.Module:
    """Three norms follow one weight; two of them have never been run."""
    return DomainNet()
