"""Classic image classifiers, under the names of torchvision and its kin."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import architecture, floats

Norm = Callable[[int], nn.Module]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around a shortcut."""

    expansion: ClassVar[int] = 1

    def __init__(
        self, inplanes: int, planes: int, stride: int, downsample: nn.Module | None, norm: Norm
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 3, stride, 1, bias=False)
        self.bn1 = norm(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = norm(planes)
        self.downsample = downsample
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(out)) + identity)


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions around a shortcut."""

    expansion: ClassVar[int] = 4

    def __init__(
        self, inplanes: int, planes: int, stride: int, downsample: nn.Module | None, norm: Norm
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inplanes, planes, 1, bias=False)
        self.bn1 = norm(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = norm(planes)
        self.conv3 = nn.Conv2d(planes, planes * self.expansion, 1, bias=False)
        self.bn3 = norm(planes * self.expansion)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample

    def forward(self, x: Tensor) -> Tensor:
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.relu(self.bn2(self.conv2(out)))
        return self.relu(self.bn3(self.conv3(out)) + identity)


class ResNet(nn.Module):
    """A ResNet of two stages."""

    def __init__(self, block: type[BasicBlock | Bottleneck], norm: Norm = nn.BatchNorm2d) -> None:
        super().__init__()
        self.inplanes = 8
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = norm(8)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = self._make_layer(block, 8, 2, 1, norm)
        self.layer2 = self._make_layer(block, 12, 2, 2, norm)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(12 * block.expansion, 10)

    def _make_layer(
        self,
        block: type[BasicBlock | Bottleneck],
        planes: int,
        blocks: int,
        stride: int,
        norm: Norm,
    ) -> nn.Sequential:
        width = planes * block.expansion
        downsample: nn.Module | None = None
        if stride != 1 or self.inplanes != width:
            downsample = nn.Sequential(
                nn.Conv2d(self.inplanes, width, 1, stride, bias=False), norm(width)
            )
        layers = [block(self.inplanes, planes, stride, downsample, norm)]
        self.inplanes = width
        layers += [block(width, planes, 1, None, norm) for _ in range(blocks - 1)]
        return nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        x = self.layer2(self.layer1(x))
        return self.fc(self.avgpool(x).flatten(1))


@architecture(floats(2, 3, 32, 32))
def resnet_basic() -> nn.Module:
    """ResNet-18 and -34."""
    return ResNet(BasicBlock)


@architecture(floats(2, 3, 32, 32))
def resnet_bottleneck() -> nn.Module:
    """ResNet-50 and deeper."""
    return ResNet(Bottleneck)


@architecture(floats(2, 3, 32, 32))
def resnet_groupnorm() -> nn.Module:
    """A ResNet with GroupNorm, which keeps the names bn1 and bn2."""
    return ResNet(BasicBlock, partial(nn.GroupNorm, 4))


class PreActBlock(nn.Module):
    """The pre-activation block of the CIFAR ResNets."""

    def __init__(self, in_planes: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_planes)
        self.conv1 = nn.Conv2d(in_planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        if stride != 1 or in_planes != planes:
            self.shortcut = nn.Sequential(nn.Conv2d(in_planes, planes, 1, stride, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.bn1(x))
        shortcut = self.shortcut(out) if hasattr(self, "shortcut") else x
        return self.conv2(functional.relu(self.bn2(self.conv1(out)))) + shortcut


class PreActResNet(nn.Module):
    """Its first norm comes inside the first block, so no norm follows conv1 directly."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, 1, 1, bias=False)
        self.layer1 = nn.Sequential(PreActBlock(8, 8, 1), PreActBlock(8, 8, 1))
        self.layer2 = nn.Sequential(PreActBlock(8, 16, 2))
        self.bn = nn.BatchNorm2d(16)
        self.linear = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn(self.layer2(self.layer1(self.conv1(x)))))
        return self.linear(x.mean((2, 3)))


@architecture(floats(2, 3, 16, 16))
def preact_resnet() -> nn.Module:
    return PreActResNet()


class Classifier(nn.Module):
    """``features``, pooling and ``classifier``, as VGG, AlexNet and DenseNet have them."""

    def __init__(self, features: nn.Module, classifier: nn.Module) -> None:
        super().__init__()
        self.features = features
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.avgpool(self.features(x)).flatten(1))


@architecture(floats(2, 3, 32, 32))
def vgg_bn() -> nn.Module:
    layers: list[nn.Module] = []
    width = 3
    for planes in (8, 8, 0, 16, 16, 0):
        if planes == 0:
            layers.append(nn.MaxPool2d(2, 2))
            continue
        layers += [nn.Conv2d(width, planes, 3, padding=1), nn.BatchNorm2d(planes), nn.ReLU(True)]
        width = planes
    head = nn.Sequential(nn.Linear(16, 32), nn.ReLU(True), nn.Dropout(), nn.Linear(32, 10))
    return Classifier(nn.Sequential(*layers), head)


@architecture(floats(2, 3, 32, 32))
def alexnet_lrn() -> nn.Module:
    """AlexNet as published, with local response normalization: nothing of it in a state dict."""
    features = nn.Sequential(
        nn.Conv2d(3, 12, 11, 4, 2),
        nn.ReLU(inplace=True),
        nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),
        nn.Conv2d(12, 16, 5, padding=2),
        nn.ReLU(inplace=True),
        nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=2.0),
        nn.MaxPool2d(3, 2),
    )
    return Classifier(features, nn.Sequential(nn.Dropout(), nn.Linear(16, 10)))


@architecture(floats(2, 3, 32, 32))
def zfnet_crossmap() -> nn.Module:
    """A port from Torch7, with its cross-map LRN next to a BatchNorm."""
    features = nn.Sequential(
        nn.Conv2d(3, 8, 7, 2),
        nn.ReLU(),
        nn.CrossMapLRN2d(5, 0.0005, 0.75, 2),
        nn.Conv2d(8, 12, 5),
        nn.BatchNorm2d(12, eps=1e-3, momentum=0.01),
        nn.ReLU(),
    )
    return Classifier(features, nn.Linear(12, 10))


class DenseLayer(nn.Module):
    """One layer of a dense block, on all feature maps before it."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.relu1 = nn.ReLU(inplace=True)
        self.conv1 = nn.Conv2d(inputs, 2 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(2 * growth)
        self.relu2 = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(2 * growth, growth, 3, padding=1, bias=False)

    def forward(self, features: list[Tensor]) -> Tensor:
        x = self.conv1(self.relu1(self.norm1(torch.cat(features, 1))))
        return self.conv2(self.relu2(self.norm2(x)))


class DenseBlock(nn.ModuleDict):
    """Named layers whose outputs are gathered."""

    def __init__(self, layers: int, inputs: int, growth: int) -> None:
        super().__init__()
        for i in range(layers):
            self.add_module(f"denselayer{i + 1}", DenseLayer(inputs + i * growth, growth))

    def forward(self, x: Tensor) -> Tensor:
        features = [x]
        for layer in self.values():
            features.append(layer(features))
        return torch.cat(features, 1)


class Transition(nn.Sequential):
    """Halve the channels and the size."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.conv = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.pool = nn.AvgPool2d(2, 2)


@architecture(floats(2, 3, 32, 32))
def densenet() -> nn.Module:
    features = nn.Sequential(
        OrderedDict[str, nn.Module](
            conv0=nn.Conv2d(3, 8, 7, 2, 3, bias=False),
            norm0=nn.BatchNorm2d(8),
            relu0=nn.ReLU(inplace=True),
            pool0=nn.MaxPool2d(3, 2, 1),
            denseblock1=DenseBlock(2, 8, 4),
            transition1=Transition(16, 8),
            denseblock2=DenseBlock(2, 8, 4),
            norm5=nn.BatchNorm2d(16),
        )
    )
    return Classifier(features, nn.Linear(16, 10))
