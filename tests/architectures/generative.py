"""Generators, discriminators and autoencoders."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, spectral_norm

from .norms import ActNorm, PixelNorm
from .recurrent import NO_WHOLE
from .registry import architecture, floats, together, tokens


@architecture(floats(2, 8, 1, 1))
def dcgan_generator() -> nn.Module:
    """Norms behind transposed convolutions, whose weights have their outputs second."""
    main = nn.Sequential(
        nn.ConvTranspose2d(8, 16, 4, 1, 0, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(True),
        nn.ConvTranspose2d(16, 8, 4, 2, 1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(True),
        nn.ConvTranspose2d(8, 3, 4, 2, 1, bias=False),
        nn.Tanh(),
    )
    return nn.Sequential(OrderedDict(main=main))


@architecture(floats(2, 3, 16, 16))
def dcgan_discriminator() -> nn.Module:
    main = nn.Sequential(
        nn.Conv2d(3, 8, 4, 2, 1, bias=False),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(8, 16, 4, 2, 1, bias=False),
        nn.BatchNorm2d(16),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Conv2d(16, 1, 4, 1, 0, bias=False),
    )
    return nn.Sequential(OrderedDict(main=main))


@architecture(floats(2, 3, 8, 8))
def sn_discriminator_old() -> nn.Module:
    """weight_orig, weight_u and weight_v, and one true norm."""
    return nn.Sequential(
        spectral_norm(nn.Conv2d(3, 8, 3, padding=1)),
        nn.InstanceNorm2d(8, affine=True),
        nn.LeakyReLU(0.1),
        spectral_norm(nn.Conv2d(8, 8, 4, 2, 1)),
        nn.Flatten(),
        spectral_norm(nn.Linear(128, 1)),
    )


@architecture(floats(2, 3, 8, 8), state_dict_only=NO_WHOLE)
def sn_discriminator() -> nn.Module:
    """The same as parametrizations; their class is called _SpectralNorm."""
    return nn.Sequential(
        parametrizations.spectral_norm(nn.Conv2d(3, 8, 3, padding=1)),
        nn.InstanceNorm2d(8, affine=True),
        nn.LeakyReLU(0.1),
        parametrizations.spectral_norm(nn.Conv2d(8, 8, 4, 2, 1)),
    )


class ResnetBlock(nn.Module):
    """CycleGAN's block with its reflection padding: norms at 2 and 6."""

    def __init__(self, dim: int, norm: Callable[[int], nn.Module]) -> None:
        super().__init__()
        half = partial(nn.Conv2d, dim, dim, 3)
        self.conv_block = nn.Sequential(
            *(nn.ReflectionPad2d(1), half(), norm(dim), nn.ReLU(True)),
            *(nn.ReflectionPad2d(1), half(), norm(dim)),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


def _resnet_generator(affine: bool, track_running_stats: bool) -> nn.Module:
    norm = partial(nn.InstanceNorm2d, affine=affine, track_running_stats=track_running_stats)
    down = (nn.Conv2d(3, 8, 7), norm(8), nn.ReLU(True), nn.Conv2d(8, 12, 3, 2, 1), norm(12))
    up = (nn.ConvTranspose2d(12, 8, 3, 2, 1, output_padding=1), norm(8), nn.ReLU(True))
    model = nn.Sequential(
        nn.ReflectionPad2d(3), *down, ResnetBlock(12, norm), *up, nn.Conv2d(8, 3, 7, padding=3)
    )
    return nn.Sequential(OrderedDict(model=model))


@architecture(floats(1, 3, 16, 16))
def cyclegan_instance_norm() -> nn.Module:
    """InstanceNorm as it is by default: no parameter and no buffer."""
    return _resnet_generator(affine=False, track_running_stats=False)


@architecture(floats(1, 3, 16, 16))
def cyclegan_tracking() -> nn.Module:
    """InstanceNorm with everything: exactly a BatchNorm's keys."""
    return _resnet_generator(affine=True, track_running_stats=True)


@architecture(floats(1, 3, 16, 16))
def cyclegan_statistics_only() -> nn.Module:
    """The first pix2pix checkpoints: statistics without weights."""
    return _resnet_generator(affine=False, track_running_stats=True)


class SkipBlock(nn.Module):
    """pix2pix's U-Net, each level a ``model`` with the next one inside."""

    def __init__(self, outer: int, inner: int, submodule: nn.Module | None) -> None:
        super().__init__()
        middle = [] if submodule is None else [submodule]
        self.model = nn.Sequential(
            nn.LeakyReLU(0.2),
            nn.Conv2d(outer, inner, 4, 2, 1, bias=False),
            nn.BatchNorm2d(inner),
            *middle,
            nn.ReLU(),
            nn.ConvTranspose2d(inner * (2 if middle else 1), outer, 4, 2, 1, bias=False),
            nn.BatchNorm2d(outer),
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.model(x)], 1)


@architecture(floats(2, 4, 16, 16))
def pix2pix_unet() -> nn.Module:
    return nn.Sequential(OrderedDict(model=SkipBlock(4, 6, SkipBlock(6, 8, None))))


class ModulatedConv2d(nn.Module):
    """StyleGAN 2's convolution: modulation instead of a norm."""

    def __init__(self, dim: int, style: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, dim, dim, 3, 3))
        self.modulation = nn.Linear(style, dim)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        weight = self.weight * (1 + self.modulation(style))[:, None, :, None, None]
        weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        out = functional.conv2d(
            x.flatten(0, 1)[None], weight.flatten(0, 1), padding=1, groups=len(x)
        )
        return out.view_as(x)


class AdaptiveInstanceNorm2d(nn.Module):
    """StyleGAN's norm: InstanceNorm without parameters, scaled by a style."""

    def __init__(self, dim: int, style: int) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(dim)
        self.style = nn.Linear(style, 2 * dim)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        gamma, beta = self.style(style)[..., None, None].chunk(2, 1)
        return (1 + gamma) * self.norm(x) + beta


class StyleGenerator(nn.Module):
    """Mapping network, constant input, and one layer of each generation."""

    def __init__(self) -> None:
        super().__init__()
        self.style = nn.Sequential(PixelNorm(), nn.Linear(8, 8), nn.LeakyReLU(0.2))
        self.input = nn.Parameter(torch.randn(1, 8, 4, 4))
        self.noise_weight = nn.Parameter(torch.zeros(8))
        self.adain = AdaptiveInstanceNorm2d(8, 8)
        self.conv = ModulatedConv2d(8, 8)

    def forward(self, z: Tensor) -> Tensor:
        style = self.style(z)
        x = self.input + self.noise_weight[:, None, None] * torch.randn(len(z), 1, 4, 4)
        return self.conv(self.adain(x, style), style)


@architecture(floats(2, 8))
def stylegan() -> nn.Module:
    """All its norms are without parameters."""
    return StyleGenerator()


class ConditionalBatchNorm2d(nn.Module):
    """A BatchNorm without parameters and a table of scales and shifts per class."""

    def __init__(self, dim: int, classes: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(dim, affine=False)
        self.embed = nn.Embedding(classes, 2 * dim)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        gamma, beta = self.embed(label)[..., None, None].chunk(2, 1)
        return (1 + gamma) * self.bn(x) + beta


class BigGANBlock(nn.Module):
    """Conditional norms around spectrally normalized convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1 = ConditionalBatchNorm2d(8, 5)
        self.conv1 = spectral_norm(nn.Conv2d(8, 8, 3, padding=1))
        self.bn2 = ConditionalBatchNorm2d(8, 5)
        self.conv2 = spectral_norm(nn.Conv2d(8, 8, 3, padding=1))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        out = self.conv1(functional.relu(self.bn1(x, label)))
        return x + self.conv2(functional.relu(self.bn2(out, label)))


@architecture(together(floats(2, 8, 8, 8), tokens(5, 2)))
def biggan_block() -> nn.Module:
    return BigGANBlock()


@architecture(floats(4, 12))
def vae() -> nn.Module:
    """BatchNorm1d behind linear layers."""
    encoder = nn.Sequential(nn.Linear(12, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
    decoder = nn.Sequential(nn.Linear(4, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 12))
    return nn.Sequential(OrderedDict(encoder=encoder, decoder=decoder))


class GlowStep(nn.Module):
    """ActNorm and an invertible 1x1 convolution."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.actnorm = ActNorm(dim)
        self.invconv = nn.Conv2d(dim, dim, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.invconv(self.actnorm(x))


@architecture(floats(2, 4, 8, 8))
def glow() -> nn.Module:
    return nn.Sequential(OrderedDict(flows=nn.Sequential(GlowStep(4), GlowStep(4))))


@architecture(floats(2, 3, 8, 8))
def wgan_gp_critic() -> nn.Module:
    """LayerNorm over channels and both axes: weights of three dimensions."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.LayerNorm([8, 8, 8]), nn.ReLU(), nn.Conv2d(8, 1, 8)
    )
