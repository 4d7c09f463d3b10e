"""Segmentation networks, flat and volumetric, and networks for volumes, videos and points."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from .convolutional import Bottleneck, ResNet
from .detection import IntermediateLayerGetter
from .registry import architecture, floats


class DoubleConv(nn.Module):
    """Two convolutions with their norms at 1 and 4."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.double_conv(x)


class Down(nn.Module):
    """Pooling, then a double convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.maxpool_conv = nn.Sequential(nn.MaxPool2d(2), DoubleConv(inputs, outputs))

    def forward(self, x: Tensor) -> Tensor:
        return self.maxpool_conv(x)


class Up(nn.Module):
    """Transposed convolution, then a double convolution on both inputs."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.up = nn.ConvTranspose2d(inputs, inputs // 2, 2, 2)
        self.conv = DoubleConv(inputs, outputs)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.conv(torch.cat([skip, self.up(x)], 1))


class UNet(nn.Module):
    """The U-Net of most tutorials."""

    def __init__(self) -> None:
        super().__init__()
        self.inc = DoubleConv(3, 6)
        self.down1 = Down(6, 12)
        self.up1 = Up(12, 6)
        self.outc = nn.Conv2d(6, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        first = self.inc(x)
        return self.outc(self.up1(self.down1(first), first))


@architecture(floats(2, 3, 16, 16))
def unet() -> nn.Module:
    return UNet()


class NamedUNet(nn.Module):
    """A U-Net whose norms are named after their block, such as enc1norm1."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder1 = self._block(3, 6, "enc1")
        self.pool1 = nn.MaxPool2d(2, 2)
        self.bottleneck = self._block(6, 12, "bottleneck")
        self.upconv1 = nn.ConvTranspose2d(12, 6, 2, 2)
        self.decoder1 = self._block(12, 6, "dec1")
        self.conv = nn.Conv2d(6, 1, 1)

    @staticmethod
    def _block(inputs: int, features: int, name: str) -> nn.Sequential:
        layers = OrderedDict[str, nn.Module]()
        for i, width in ((1, inputs), (2, features)):
            layers[f"{name}conv{i}"] = nn.Conv2d(width, features, 3, padding=1, bias=False)
            layers[f"{name}norm{i}"] = nn.BatchNorm2d(features)
            layers[f"{name}relu{i}"] = nn.ReLU(inplace=True)
        return nn.Sequential(layers)

    def forward(self, x: Tensor) -> Tensor:
        first = self.encoder1(x)
        low = self.upconv1(self.bottleneck(self.pool1(first)))
        return self.conv(self.decoder1(torch.cat((low, first), 1)))


@architecture(floats(2, 3, 16, 16))
def unet_named_norms() -> nn.Module:
    return NamedUNet()


class ASPP(nn.Module):
    """Atrous pyramid: every branch ends in a norm at 1, the pooled one at 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        pointwise = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )
        atrous = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, padding=2, dilation=2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )
        pooled = nn.Sequential(
            nn.AdaptiveAvgPool2d(1),
            nn.Conv2d(inputs, outputs, 1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        )
        self.convs = nn.ModuleList([pointwise, atrous, pooled])
        self.project = nn.Sequential(
            nn.Conv2d(3 * outputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        branches = [functional.interpolate(conv(x), size=x.shape[-2:]) for conv in self.convs]
        return self.project(torch.cat(branches, 1))


class DeepLabV3(nn.Module):
    """A backbone and its classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = IntermediateLayerGetter(ResNet(Bottleneck), ("layer2",))
        self.classifier = nn.Sequential(
            ASPP(48, 8),
            nn.Conv2d(8, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 4, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.interpolate(self.classifier(self.backbone(x)[0]), size=x.shape[-2:])


@architecture(floats(2, 3, 32, 32))
def deeplab_v3() -> nn.Module:
    return DeepLabV3()


class ConvDropoutNormReLU(nn.Module):
    """nnU-Net's layer, which holds its modules twice: by name and in ``all_modules``."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1)
        self.norm = nn.InstanceNorm3d(outputs, eps=1e-5, affine=True)
        self.nonlin = nn.LeakyReLU(inplace=True)
        self.all_modules = nn.Sequential(self.conv, self.norm, self.nonlin)

    def forward(self, x: Tensor) -> Tensor:
        return self.all_modules(x)


@architecture(floats(1, 1, 8, 8, 8))
def nnunet_3d() -> nn.Module:
    """InstanceNorm3d with affine parameters, each in the state dict under two names."""
    first = nn.Sequential(ConvDropoutNormReLU(1, 4), ConvDropoutNormReLU(4, 8))
    return nn.Sequential(OrderedDict(encoder=first, seg_layer=nn.Conv3d(8, 2, 1)))


class VideoBlock(nn.Module):
    """torchvision's video block: norms at conv1.1 and conv2.1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(
            nn.Conv3d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm3d(dim), nn.ReLU(True)
        )
        self.conv2 = nn.Sequential(
            nn.Conv3d(dim, dim, 3, padding=1, bias=False), nn.BatchNorm3d(dim)
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(x + self.conv2(self.conv1(x)))


class VideoResNet(nn.Module):
    """A small r3d_18."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(3, 6, (3, 7, 7), (1, 2, 2), (1, 3, 3), bias=False),
            nn.BatchNorm3d(6),
            nn.ReLU(True),
        )
        self.layer1 = nn.Sequential(VideoBlock(6), VideoBlock(6))
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.layer1(self.stem(x)).mean((2, 3, 4)))


@architecture(floats(2, 3, 4, 12, 12))
def resnet_3d() -> nn.Module:
    return VideoResNet()


class STN3d(nn.Module):
    """PointNet's transformation net: convolutional and linear layers share one row of norms."""

    def __init__(self, k: int = 3) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(k, 8, 1)
        self.conv2 = nn.Conv1d(8, 16, 1)
        self.fc1 = nn.Linear(16, 12)
        self.fc2 = nn.Linear(12, k * k)
        self.bn1 = nn.BatchNorm1d(8)
        self.bn2 = nn.BatchNorm1d(16)
        self.bn3 = nn.BatchNorm1d(12)
        self.k = k

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))).amax(2)
        x = self.fc2(functional.relu(self.bn3(self.fc1(x))))
        return x.view(-1, self.k, self.k) + torch.eye(self.k)


class PointNet(nn.Module):
    """Classifier of point clouds; all norms are registered after all convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stn = STN3d()
        self.conv1 = nn.Conv1d(3, 8, 1)
        self.conv2 = nn.Conv1d(8, 16, 1)
        self.fc1 = nn.Linear(16, 4)
        self.bn1 = nn.BatchNorm1d(8)
        self.bn2 = nn.BatchNorm1d(16)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.bmm(self.stn(x), x)
        x = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return self.fc1(x.amax(2))


@architecture(floats(3, 3, 20))
def pointnet() -> nn.Module:
    return PointNet()
