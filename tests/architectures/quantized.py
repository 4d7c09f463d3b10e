"""Quantization: norms folded into convolutions for training, and norms on integers.

torch means to move this out, so the package imports this file only where torch still has it.
"""

from __future__ import annotations

import warnings

import torch
from torch import Tensor, nn
from torch.ao import quantization
from torch.ao.nn import quantized as integers
from torch.ao.nn.intrinsic import qat

from .registry import architecture, floats


def _prepare(model: nn.Module, groups: list[list[str]]) -> nn.Module:
    with warnings.catch_warnings():
        # This part of torch is deprecated as a whole; the saved models remain.
        warnings.simplefilter("ignore")
        fused = quantization.fuse_modules_qat(model.train(), groups)
        fused.qconfig = quantization.get_default_qat_qconfig("fbgemm")
        return quantization.prepare_qat(fused)


class QATNet(nn.Module):
    """Convolutions with norms and activations, one of them without a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(8, 8, 3)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv3 = nn.Conv2d(8, 4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x))))))


@architecture(
    floats(2, 3, 12, 12),
    state_dict_only="torch's quantization settings hold local functions, which do not pickle",
)
def qat_prepared() -> nn.Module:
    """conv1 is a ConvBnReLU2d with the norm conv1.bn; bn1 is an Identity."""
    return _prepare(QATNet(), [["conv1", "bn1", "relu1"], ["conv2", "bn2"]])


@architecture(floats(2, 3, 12, 12))
def qat_conv_bn() -> nn.Module:
    """The fused training module alone, which pickles."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        settings = quantization.get_default_qat_qconfig("fbgemm")
        return nn.Sequential(qat.ConvBn2d(3, 8, 3, qconfig=settings), nn.ReLU())


@architecture(floats(2, 3, 12, 12))
def fused_for_training() -> nn.Module:
    """Fused and not yet prepared: a Sequential of convolution and norm, 0 and 1."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantization.fuse_modules_qat(QATNet().train(), [["conv1", "bn1", "relu1"]])


@architecture(floats(2, 3, 12, 12))
def fused_for_inference() -> nn.Module:
    """Folded: the first norm is gone, and its place is an Identity."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return quantization.fuse_modules(QATNet().eval(), [["conv1", "bn1"]])


@architecture()
def quantized_norms() -> nn.Module:
    """Norms on integers, with the scale and zero point of their output as buffers."""
    weight, bias = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
    return nn.Sequential(
        integers.BatchNorm2d(8),
        integers.LayerNorm((8,), weight, bias, 0.1, 0),
        integers.InstanceNorm2d(8, nn.Parameter(torch.ones(8)), nn.Parameter(bias), 0.1, 0),
    )
