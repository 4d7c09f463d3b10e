"""Small-device classifiers and face embeddings: depthwise convolutions everywhere."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from .convolutional import Classifier
from .registry import architecture, floats

PRELU = "a PReLU: a lone 1-D weight, as an RMSNorm has"


class Conv2dNormActivation(nn.Sequential):
    """torchvision's convolution, norm and activation: 0, 1 and 2."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int = 3,
        stride: int = 1,
        groups: int = 1,
        norm_layer: Callable[[int], nn.Module] = nn.BatchNorm2d,
        activation: type[nn.Module] | None = nn.ReLU6,
    ) -> None:
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
            norm_layer(outputs),
        ]
        if activation is not None:
            layers.append(activation())
        super().__init__(*layers)
        self.out_channels = outputs


class InvertedResidual(nn.Module):
    """MobileNetV2's block: its last convolution and norm stand bare in ``conv``."""

    def __init__(self, inputs: int, outputs: int, stride: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        layers: list[nn.Module] = []
        if expand != 1:
            layers.append(Conv2dNormActivation(inputs, hidden, 1))
        layers.append(Conv2dNormActivation(hidden, hidden, 3, stride, hidden))
        layers += [nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs)]
        self.conv = nn.Sequential(*layers)
        self.use_res_connect = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.use_res_connect else self.conv(x)


@architecture(floats(2, 3, 32, 32))
def mobilenet_v2() -> nn.Module:
    features = nn.Sequential(
        Conv2dNormActivation(3, 8, 3, 2),
        InvertedResidual(8, 8, 1, 1),
        InvertedResidual(8, 12, 2, 6),
        InvertedResidual(12, 12, 1, 6),
        Conv2dNormActivation(12, 32, 1),
    )
    return Classifier(features, nn.Sequential(nn.Dropout(0.2), nn.Linear(32, 10)))


class SqueezeExcitation(nn.Module):
    """Channel attention, without norms."""

    def __init__(self, channels: int, squeezed: int) -> None:
        super().__init__()
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc1 = nn.Conv2d(channels, squeezed, 1)
        self.fc2 = nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * functional.hardsigmoid(self.fc2(functional.relu(self.fc1(self.avgpool(x)))))


class MobileNetV3Block(nn.Module):
    """MobileNetV3's block: everything in ``block``."""

    def __init__(self, dim: int, hidden: int) -> None:
        super().__init__()
        norm = partial(nn.BatchNorm2d, eps=0.001, momentum=0.01)
        self.block = nn.Sequential(
            Conv2dNormActivation(dim, hidden, 1, norm_layer=norm, activation=nn.Hardswish),
            Conv2dNormActivation(
                hidden, hidden, 5, groups=hidden, norm_layer=norm, activation=nn.Hardswish
            ),
            SqueezeExcitation(hidden, 8),
            Conv2dNormActivation(hidden, dim, 1, norm_layer=norm, activation=None),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.block(x)


@architecture(floats(2, 3, 16, 16))
def mobilenet_v3() -> nn.Module:
    features = nn.Sequential(Conv2dNormActivation(3, 8, 3, 2), MobileNetV3Block(8, 24))
    head = nn.Sequential(nn.Linear(8, 16), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(16, 10))
    return Classifier(features, head)


class MBConvBlock(nn.Module):
    """EfficientNet's block, with the leading underscores of the first PyTorch port."""

    def __init__(self, inputs: int, outputs: int, expand: int) -> None:
        super().__init__()
        hidden = inputs * expand
        norm = partial(nn.BatchNorm2d, momentum=0.01, eps=1e-3)
        if expand != 1:
            self._expand_conv = nn.Conv2d(inputs, hidden, 1, bias=False)
            self._bn0 = norm(hidden)
        self._depthwise_conv = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden, bias=False)
        self._bn1 = norm(hidden)
        self._se_reduce = nn.Conv2d(hidden, 2, 1)
        self._se_expand = nn.Conv2d(2, hidden, 1)
        self._project_conv = nn.Conv2d(hidden, outputs, 1, bias=False)
        self._bn2 = norm(outputs)
        self._swish = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        if hasattr(self, "_expand_conv"):
            x = self._swish(self._bn0(self._expand_conv(x)))
        x = self._swish(self._bn1(self._depthwise_conv(x)))
        squeezed = self._swish(self._se_reduce(x.mean((2, 3), keepdim=True)))
        return self._bn2(self._project_conv(torch.sigmoid(self._se_expand(squeezed)) * x))


class EfficientNet(nn.Module):
    """Its root has _bn0 and _bn1 as its blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self._conv_stem = nn.Conv2d(3, 8, 3, 2, 1, bias=False)
        self._bn0 = nn.BatchNorm2d(8, momentum=0.01, eps=1e-3)
        self._blocks = nn.ModuleList([MBConvBlock(8, 8, 1), MBConvBlock(8, 12, 6)])
        self._conv_head = nn.Conv2d(12, 32, 1, bias=False)
        self._bn1 = nn.BatchNorm2d(32, momentum=0.01, eps=1e-3)
        self._fc = nn.Linear(32, 10)
        self._swish = nn.SiLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self._swish(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._fc(self._swish(self._bn1(self._conv_head(x))).mean((2, 3)))


@architecture(floats(2, 3, 16, 16))
def efficientnet() -> nn.Module:
    return EfficientNet()


class ShuffleUnit(nn.Module):
    """ShuffleNetV2's downsampling unit: two branches of bare numbered layers."""

    def __init__(self, inputs: int, branch: int) -> None:
        super().__init__()
        self.branch1 = nn.Sequential(
            nn.Conv2d(inputs, inputs, 3, 2, 1, groups=inputs, bias=False),
            nn.BatchNorm2d(inputs),
            nn.Conv2d(inputs, branch, 1, bias=False),
            nn.BatchNorm2d(branch),
            nn.ReLU(inplace=True),
        )
        self.branch2 = nn.Sequential(
            nn.Conv2d(inputs, branch, 1, bias=False),
            nn.BatchNorm2d(branch),
            nn.ReLU(inplace=True),
            nn.Conv2d(branch, branch, 3, 2, 1, groups=branch, bias=False),
            nn.BatchNorm2d(branch),
        )

    def forward(self, x: Tensor) -> Tensor:
        out = torch.cat([self.branch1(x), self.branch2(x)], 1)
        return out.unflatten(1, (2, -1)).transpose(1, 2).flatten(1, 2)


class ShuffleNetV2(nn.Module):
    """One stage of ShuffleNetV2."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8))
        self.stage2 = nn.Sequential(ShuffleUnit(8, 8), ShuffleUnit(16, 12))
        self.conv5 = nn.Sequential(nn.Conv2d(24, 32, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU())
        self.fc = nn.Linear(32, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.conv5(self.stage2(functional.relu(self.conv1(x)))).mean((2, 3)))


@architecture(floats(2, 3, 32, 32))
def shufflenet_v2() -> nn.Module:
    return ShuffleNetV2()


class IBasicBlock(nn.Module):
    """ArcFace's block: the norm comes first, and a PReLU stands between."""

    def __init__(self, inputs: int, planes: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs, eps=1e-5)
        self.conv1 = nn.Conv2d(inputs, planes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes, eps=1e-5)
        self.prelu = nn.PReLU(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 2, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes, eps=1e-5)
        self.downsample = nn.Sequential(
            nn.Conv2d(inputs, planes, 1, 2, bias=False), nn.BatchNorm2d(planes, eps=1e-5)
        )

    def forward(self, x: Tensor) -> Tensor:
        out = self.prelu(self.bn2(self.conv1(self.bn1(x))))
        return self.bn3(self.conv2(out)) + self.downsample(x)


class IResNet(nn.Module):
    """Face embedding; its last norm is a BatchNorm1d called ``features`` with a fixed weight."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8, eps=1e-5)
        self.prelu = nn.PReLU(8)
        self.layer1 = nn.Sequential(IBasicBlock(8, 12))
        self.bn2 = nn.BatchNorm2d(12, eps=1e-5)
        self.fc = nn.Linear(12 * 4 * 4, 16)
        self.features = nn.BatchNorm1d(16, eps=1e-5)
        self.features.weight.requires_grad = False

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn2(self.layer1(self.prelu(self.bn1(self.conv1(x)))))
        return self.features(self.fc(x.flatten(1)))


@architecture(floats(2, 3, 8, 8), lookalikes={"prelu": PRELU, "layer1.0.prelu": PRELU})
def arcface_iresnet() -> nn.Module:
    return IResNet()
