"""Norms with unusual options, names, shapes and types."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from .recurrent import NO_WHOLE
from .registry import architecture, floats


class MyBN(nn.BatchNorm2d):
    """A user's subclass, which changes nothing."""


class RenormedBN(MyBN):
    """A subclass of the subclass, with a buffer of its own."""

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features, eps=1e-3)
        self.register_buffer("steps_seen", torch.zeros(()))


@architecture(floats(2, 3, 8, 8))
def subclassed_batchnorm() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), MyBN(8), nn.Conv2d(8, 8, 3), RenormedBN(8))


@architecture(floats(4, 6))
def layernorm_called_bn() -> nn.Module:
    """Names that lie: a LayerNorm called bn1, a BatchNorm called ln1, a norm called conv."""
    layers = {
        "fc1": nn.Linear(6, 8),
        "bn1": nn.LayerNorm(8),
        "fc2": nn.Linear(8, 8),
        "ln1": nn.BatchNorm1d(8),
        "conv": nn.RMSNorm(8),
        "norm": nn.Linear(8, 8),
    }
    return nn.Sequential(OrderedDict[str, nn.Module](layers))


@architecture(floats(2, 3, 8, 8))
def layernorm_of_matrix() -> nn.Module:
    """A LayerNorm over both axes of an image, next to an RMSNorm that does the same."""
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.LayerNorm((8, 8)), nn.RMSNorm((8, 8)))


@architecture(floats(2, 5, 8))
def layernorm_options() -> nn.Module:
    """No parameters at all, no bias, a large epsilon, one channel."""
    return nn.Sequential(
        OrderedDict(
            plain=nn.LayerNorm(8, elementwise_affine=False),
            no_bias=nn.LayerNorm(8, bias=False),
            large_eps=nn.LayerNorm(8, eps=0.1),
            rms_plain=nn.RMSNorm(8, elementwise_affine=False),
            squeeze=nn.Linear(8, 1),
            one_channel=nn.LayerNorm(1),
        )
    )


@architecture(floats(2, 3, 8, 8))
def batchnorm_options() -> nn.Module:
    """Every combination of parameters and statistics, and no momentum."""
    return nn.Sequential(
        OrderedDict[str, nn.Module](
            conv1=nn.Conv2d(3, 8, 3),
            no_affine=nn.BatchNorm2d(8, affine=False),
            conv2=nn.Conv2d(8, 8, 3),
            no_stats=nn.BatchNorm2d(8, track_running_stats=False),
            conv3=nn.Conv2d(8, 8, 3),
            neither=nn.BatchNorm2d(8, affine=False, track_running_stats=False),
            conv4=nn.Conv2d(8, 1, 1),
            cumulative=nn.BatchNorm2d(1, momentum=None),
        )
    )


@architecture(floats(2, 3, 12))
def instancenorm_options() -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(3, 8, 3),
        nn.InstanceNorm1d(8),
        nn.Conv1d(8, 8, 3),
        nn.InstanceNorm1d(8, affine=True),
        nn.Conv1d(8, 8, 3),
        nn.InstanceNorm1d(8, track_running_stats=True),
    )


@architecture(floats(2, 8, 6))
def groupnorm_extremes() -> nn.Module:
    """One group, as many groups as channels, no parameters."""
    return nn.Sequential(
        nn.GroupNorm(1, 8), nn.GroupNorm(8, 8), nn.GroupNorm(4, 8, affine=False), nn.Conv1d(8, 8, 1)
    )


@architecture(floats(2, 3, 8, 8))
def lazy_never_run() -> nn.Module:
    """Lazy norms before their first run: their tensors have no shape yet."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.LazyBatchNorm2d(), nn.LazyInstanceNorm2d())


@architecture(floats(2, 3, 8, 8))
def lazy_run_once() -> nn.Module:
    """Lazy norms after their first run: their class is another one."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.LazyBatchNorm2d(), nn.LazyConv2d(4, 3))
    model(torch.randn(2, 3, 8, 8))
    return model


@architecture()
def sync_batchnorm() -> nn.Module:
    """Converted for several devices; it cannot be run in training on a CPU."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Linear(6, 4), nn.BatchNorm1d(8))
    return nn.SyncBatchNorm.convert_sync_batchnorm(model)


@architecture(lambda: (torch.randn(2, 3, 8, 8, dtype=torch.float64),))
def double_precision() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)).double()


@architecture(lambda: (torch.randn(2, 5, 8).bfloat16(),))
def bfloat16_norms() -> nn.Module:
    return nn.Sequential(nn.Linear(8, 8), nn.LayerNorm(8), nn.RMSNorm(8)).bfloat16()


class HalfConvNet(nn.Module):
    """A convolution kept in half precision and computed in float."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3).half()
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(functional.conv2d(x, self.conv.weight.float()))


@architecture(floats(2, 3, 8, 8))
def half_with_float_norms() -> nn.Module:
    """Mixed precision as it was done by hand: weights in half, norms in float."""
    return HalfConvNet()


@architecture(floats(2, 4, 6, 6))
def norm_is_the_root() -> nn.Module:
    """The whole model is one norm: its path is empty."""
    return nn.BatchNorm2d(4)


@architecture(floats(2, 5, 8))
def layernorm_is_the_root() -> nn.Module:
    return nn.LayerNorm(8)


class OnePlus(nn.Module):
    """A weight as one plus an offset."""

    def forward(self, x: Tensor) -> Tensor:
        return 1 + x


@architecture(floats(2, 3, 8, 8), state_dict_only=NO_WHOLE)
def parametrized_norm() -> nn.Module:
    """A norm whose own weight is parametrized: parametrizations.weight.original."""
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.GroupNorm(2, 8))
    for i in (1, 2):
        parametrize.register_parametrization(model[i], "weight", OnePlus())
    return model


@architecture(floats(2, 5, 8))
def only_layernorms() -> nn.Module:
    return nn.Sequential(nn.LayerNorm(8), nn.LayerNorm(8), nn.LayerNorm(8))


class FrozenNet(nn.Module):
    """Norms in unusual states: frozen, dead channels, evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.frozen = nn.BatchNorm2d(8).eval().requires_grad_(False)
        self.dead = nn.BatchNorm2d(8)
        nn.init.zeros_(self.dead.weight)
        self.dead.get_buffer("running_var").zero_()

    def forward(self, x: Tensor) -> Tensor:
        return self.dead(self.frozen(self.conv(x)))


@architecture(floats(2, 3, 8, 8))
def dead_norms() -> nn.Module:
    return FrozenNet()
