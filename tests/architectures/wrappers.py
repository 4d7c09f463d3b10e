"""Models in wrappers, with shared, hidden, pruned or strangely named norms."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel

from .norms import LlamaRMSNorm
from .registry import architecture, floats


class SmallNet(nn.Module):
    """Two convolutions with norms and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.bn2 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        return self.fc(functional.relu(self.bn2(self.conv2(x))).mean((2, 3)))


@architecture(floats(2, 3, 8, 8))
def data_parallel() -> nn.Module:
    """Every path begins with ``module``."""
    return nn.DataParallel(SmallNet())


@architecture(floats(2, 3, 8, 8))
def averaged_model() -> nn.Module:
    """A running average, with ``n_averaged`` next to ``module``."""
    return AveragedModel(SmallNet())


class Compiled(nn.Module):
    """What torch.compile gives, as far as names go: ``_orig_mod``."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module

    def forward(self, *args: Any) -> Any:
        return self._orig_mod(*args)


@architecture(floats(2, 3, 8, 8))
def compiled_names() -> nn.Module:
    return Compiled(nn.DataParallel(SmallNet()))


class LightningModule(nn.Module):
    """Student and teacher in one module, and the metric's buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.model = SmallNet()
        self.model_ema = SmallNet()
        self.register_buffer("mean", torch.zeros(3))
        self.register_buffer("std", torch.ones(3))

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x) - self.model_ema(x)


@architecture(floats(2, 3, 8, 8))
def student_and_teacher() -> nn.Module:
    return LightningModule()


class TiedNet(nn.Module):
    """One BatchNorm under two names and one LayerNorm in two lists."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn2 = self.bn1
        norm = nn.LayerNorm(8)
        self.first = nn.ModuleList([norm])
        self.second = nn.ModuleList([norm, nn.LayerNorm(8)])

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn2(self.conv2(self.bn1(self.conv1(x)))).mean((2, 3))
        return self.second[1](self.second[0](self.first[0](x)))


@architecture(floats(2, 3, 8, 8))
def tied_norms() -> nn.Module:
    return TiedNet()


@architecture(floats(2, 5, 8))
def tied_weights() -> nn.Module:
    """Two norms, each a module of its own, that share their parameters."""
    model = nn.Sequential(nn.LayerNorm(8), nn.Linear(8, 8), nn.LayerNorm(8))
    model[2].weight, model[2].bias = model[0].weight, model[0].bias
    return model


class HiddenNet(nn.Module):
    """Norms that torch does not know of, as they are in a list, a dict and a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.bn = nn.BatchNorm2d(8)
        self.norms = [nn.BatchNorm2d(8), nn.GroupNorm(2, 8)]
        self.by_name = {"extra": nn.InstanceNorm2d(8, affine=True)}

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        for norm in (*self.norms, *self.by_name.values()):
            x = norm(x)
        return x


@architecture(
    floats(2, 3, 8, 8),
    hidden={
        "norms[0]": "BatchNorm2d",
        "norms[1]": "GroupNorm",
        "by_name['extra']": "InstanceNorm2d",
    },
)
def hidden_in_list() -> nn.Module:
    """A state dict shows none of the hidden norms; a pickle of the model holds them."""
    return HiddenNet()


@architecture(floats(2, 3, 8, 8))
def pruned() -> nn.Module:
    """weight_orig and weight_mask in place of a norm's weight."""
    model = SmallNet()
    prune.l1_unstructured(model.conv1, "weight", 0.5)
    prune.l1_unstructured(model.bn1, "weight", 0.5)
    return model


class StrangeNames(nn.Module):
    """Everything that a module may be called; only dots and the empty name are forbidden."""

    def __init__(self) -> None:
        super().__init__()
        self.branches = nn.ModuleDict(
            {
                "3x3": nn.BatchNorm2d(8),
                "conv-1": nn.GroupNorm(2, 8),
                "a b": nn.InstanceNorm2d(8, affine=True),
                "bn:2/x": nn.BatchNorm2d(8),
                "0": nn.BatchNorm2d(8),
                "007": nn.BatchNorm2d(8),
                "规范": nn.BatchNorm2d(8),
                "one·two": nn.BatchNorm2d(8),
                "weight": nn.BatchNorm2d(8),
                "running_mean": nn.BatchNorm2d(8),
            }
        )
        self.weight = nn.LayerNorm(8)
        self.bias = LlamaRMSNorm(8)
        self.running_var = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        for norm in self.branches.values():
            x = norm(x)
        return self.running_var(self.bias(self.weight(x.mean((2, 3)))))


@architecture(floats(2, 8, 4, 4))
def strange_names() -> nn.Module:
    """Keys such as ``weight.weight`` and ``branches.running_mean.running_mean``."""
    return StrangeNames()


class OwnParameters(nn.Module):
    """A parent with parameters ``weight`` and ``bias`` of its own next to its children."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(8))
        self.bias = nn.Parameter(torch.zeros(8))
        self.conv = nn.Conv2d(3, 8, 3)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x)) * self.weight[:, None, None] + self.bias[:, None, None]


@architecture(floats(2, 3, 8, 8))
def own_parameters() -> nn.Module:
    """A norm's keys at the root, which has children and so is none."""
    return OwnParameters()


@architecture(floats(2, 6))
def sparse_numbers() -> nn.Module:
    """A Sequential with layers taken out: its numbers have gaps and pass nine."""
    layers = [nn.Linear(6, 6) if i % 2 == 0 else nn.BatchNorm1d(6) for i in range(13)]
    model = nn.Sequential()
    for i in (0, 1, 4, 9, 10, 11, 12):
        model.add_module(str(i), layers[i])
    return model
