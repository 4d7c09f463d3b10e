"""Later image classifiers: Inception, RepVGG, ConvNeXt, IBN-Net and those without norms."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from .convolutional import Classifier
from .norms import GRN, BatchNormAct2d, FilterResponseNorm2d, GroupNormAct, LayerNorm, LayerNorm2d
from .registry import architecture, floats


class BasicConv2d(nn.Module):
    """Inception's convolution with its norm ``bn``."""

    def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1, pad: int = 0) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, pad, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.bn(self.conv(x)), inplace=True)


class InceptionA(nn.Module):
    """Four branches side by side."""

    def __init__(self, inputs: int, pool_features: int) -> None:
        super().__init__()
        self.branch1x1 = BasicConv2d(inputs, 8, 1)
        self.branch5x5_1 = BasicConv2d(inputs, 6, 1)
        self.branch5x5_2 = BasicConv2d(6, 8, 5, pad=2)
        self.branch3x3dbl_1 = BasicConv2d(inputs, 8, 1)
        self.branch3x3dbl_2 = BasicConv2d(8, 12, 3, pad=1)
        self.branch_pool = BasicConv2d(inputs, pool_features, 1)

    def forward(self, x: Tensor) -> Tensor:
        branches = [
            self.branch1x1(x),
            self.branch5x5_2(self.branch5x5_1(x)),
            self.branch3x3dbl_2(self.branch3x3dbl_1(x)),
            self.branch_pool(functional.avg_pool2d(x, 3, 1, 1)),
        ]
        return torch.cat(branches, 1)


class InceptionAux(nn.Module):
    """The auxiliary classifier."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.conv0 = BasicConv2d(inputs, 8, 1)
        self.conv1 = BasicConv2d(8, 16, 3, pad=1)
        self.fc = nn.Linear(16, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv1(self.conv0(x)).mean((2, 3)))


class Inception3(nn.Module):
    """Inception v3, cut short."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = BasicConv2d(3, 8, 3, 2)
        self.Conv2d_2b_3x3 = BasicConv2d(8, 8, 3, pad=1)
        self.Mixed_5b = InceptionA(8, 4)
        self.AuxLogits = InceptionAux(32, 10)
        self.Mixed_5c = InceptionA(32, 8)
        self.fc = nn.Linear(36, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.Mixed_5b(self.Conv2d_2b_3x3(self.Conv2d_1a_3x3(x)))
        return self.fc(self.Mixed_5c(x).mean((2, 3))), self.AuxLogits(x)


@architecture(floats(2, 3, 24, 24))
def inception_v3() -> nn.Module:
    return Inception3()


def _conv_bn(inputs: int, outputs: int, size: int) -> nn.Sequential:
    branch = nn.Sequential()
    branch.add_module("conv", nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False))
    branch.add_module("bn", nn.BatchNorm2d(outputs))
    return branch


class RepVGGBlock(nn.Module):
    """Training-time RepVGG: one branch is a BatchNorm and nothing else."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.rbr_identity = nn.BatchNorm2d(inputs) if inputs == outputs else None
        self.rbr_dense = _conv_bn(inputs, outputs, 3)
        self.rbr_1x1 = _conv_bn(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        identity = 0 if self.rbr_identity is None else self.rbr_identity(x)
        return functional.relu(self.rbr_dense(x) + self.rbr_1x1(x) + identity)


class RepVGG(nn.Module):
    """Two stages of RepVGG blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.stage0 = RepVGGBlock(3, 8)
        self.stage1 = nn.Sequential(RepVGGBlock(8, 12), RepVGGBlock(12, 12))
        self.linear = nn.Linear(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.stage1(self.stage0(x)).mean((2, 3)))


@architecture(floats(2, 3, 8, 8))
def repvgg() -> nn.Module:
    return RepVGG()


class ConvNeXtBlock(nn.Module):
    """ConvNeXt's block, in version 2 with a GRN in place of the layer scale ``gamma``."""

    def __init__(self, dim: int, grn: bool) -> None:
        super().__init__()
        self.dwconv = nn.Conv2d(dim, dim, 7, padding=3, groups=dim)
        self.norm = LayerNorm(dim)
        self.pwconv1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.grn = GRN(4 * dim) if grn else nn.Identity()
        self.pwconv2 = nn.Linear(4 * dim, dim)
        self.gamma = None if grn else nn.Parameter(1e-6 * torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.dwconv(x).permute(0, 2, 3, 1))
        out = self.pwconv2(self.grn(self.act(self.pwconv1(out))))
        out = out if self.gamma is None else self.gamma * out
        return x + out.permute(0, 3, 1, 2)


class ConvNeXt(nn.Module):
    """Stem, two stages and the downsampling between them, all normalized channels first."""

    def __init__(self, grn: bool) -> None:
        super().__init__()
        first, second = 8, 16
        stem = nn.Sequential(
            nn.Conv2d(3, first, 4, 4), LayerNorm(first, data_format="channels_first")
        )
        down = nn.Sequential(
            LayerNorm(first, data_format="channels_first"), nn.Conv2d(first, second, 2, 2)
        )
        self.downsample_layers = nn.ModuleList([stem, down])
        self.stages = nn.ModuleList(
            nn.Sequential(*(ConvNeXtBlock(dim, grn) for _ in range(2))) for dim in (first, second)
        )
        self.norm = nn.LayerNorm(second, eps=1e-6)
        self.head = nn.Linear(second, 10)

    def forward(self, x: Tensor) -> Tensor:
        for down, stage in zip(self.downsample_layers, self.stages, strict=True):
            x = stage(down(x))
        return self.head(self.norm(x.mean((2, 3))))


@architecture(floats(2, 3, 32, 32))
def convnext() -> nn.Module:
    return ConvNeXt(grn=False)


@architecture(floats(2, 3, 32, 32))
def convnext_v2() -> nn.Module:
    return ConvNeXt(grn=True)


@architecture(floats(2, 3, 32, 32))
def convnext_torchvision() -> nn.Module:
    """The stem and head of torchvision's version, whose norms are LayerNorm2d."""
    features = nn.Sequential(
        nn.Sequential(nn.Conv2d(3, 8, 4, 4), LayerNorm2d(8, eps=1e-6)),
        nn.Sequential(LayerNorm2d(8, eps=1e-6), nn.Conv2d(8, 16, 2, 2)),
    )
    head = nn.Sequential(nn.LayerNorm(16, eps=1e-6), nn.Flatten(1), nn.Linear(16, 10))
    return Classifier(features, head)


class TimmStem(nn.Module):
    """timm's style: the activation is part of the norm and may have parameters of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self.bn1 = BatchNormAct2d(8)
        self.conv_dw = nn.Conv2d(8, 8, 3, 1, 1, groups=8, bias=False)
        self.bn2 = BatchNormAct2d(8, nn.PReLU(8))
        self.conv_pw = nn.Conv2d(8, 16, 1, bias=False)
        self.bn3 = GroupNormAct(16)
        self.classifier = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn2(self.conv_dw(self.bn1(self.conv_stem(x))))
        return self.classifier(self.bn3(self.conv_pw(x)).mean((2, 3)))


@architecture(
    floats(2, 3, 16, 16),
    lookalikes={"bn2.act": "a PReLU: a lone 1-D weight, as an RMSNorm has"},
)
def timm_norm_act() -> nn.Module:
    return TimmStem()


class IBN(nn.Module):
    """Half the channels to an InstanceNorm and half to a BatchNorm."""

    def __init__(self, planes: int) -> None:
        super().__init__()
        self.split = planes // 2
        self.IN = nn.InstanceNorm2d(self.split, affine=True)
        self.BN = nn.BatchNorm2d(planes - self.split)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x[:, : self.split], x[:, self.split :]
        return torch.cat([self.IN(first), self.BN(second)], 1)


@architecture(floats(2, 3, 16, 16))
def ibn_net() -> nn.Module:
    features = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False), IBN(8), nn.ReLU(), nn.Conv2d(8, 12, 3, bias=False), IBN(12)
    )
    return Classifier(features, nn.Linear(12, 10))


@architecture(floats(2, 3, 16, 16))
def filter_response_net() -> nn.Module:
    """Norms whose weight, bias and tau have the shape (1, C, 1, 1)."""
    features = nn.Sequential(
        nn.Conv2d(3, 8, 3), FilterResponseNorm2d(8), nn.Conv2d(8, 12, 3), FilterResponseNorm2d(12)
    )
    return Classifier(features, nn.Linear(12, 10))


class ScaledStdConv2d(nn.Conv2d):
    """NFNet's convolution: it standardizes its weight and learns a gain per output."""

    def __init__(self, inputs: int, outputs: int, size: int) -> None:
        super().__init__(inputs, outputs, size, padding=size // 2)
        self.gain = nn.Parameter(torch.ones(outputs, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(self.weight, (1, 2, 3), keepdim=True)
        weight = self.gain * (self.weight - mean) / (deviation + 1e-5)
        return functional.conv2d(x, weight, self.bias, padding=self.padding)


class NFBlock(nn.Module):
    """A residual block with a scalar gain and no norm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = ScaledStdConv2d(dim, dim, 3)
        self.conv2 = ScaledStdConv2d(dim, dim, 3)
        self.skipinit_gain = nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.skipinit_gain * self.conv2(functional.gelu(self.conv1(functional.gelu(x))))


@architecture(floats(2, 3, 8, 8))
def nfnet() -> nn.Module:
    """Normalizer-free: standardized weights are no normalization layers."""
    return Classifier(nn.Sequential(ScaledStdConv2d(3, 8, 3), NFBlock(8)), nn.Linear(8, 10))
