"""Layers with weights before a batch norm, folded by the formula, for every layout of weights."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn


def settled(model: nn.Module, *shape: int) -> nn.Module:
    """The model with γ and β of its own and statistics of 20 batches, in eval mode."""
    torch.manual_seed(0)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.weight.uniform_(0.5, 1.5)
                module.bias.normal_()
        for _ in range(20):
            model.train()(torch.randn(8, *shape) * 1.5 + 0.3)
    return model.eval()


def folded(model: nn.Sequential, *, axis_zero: bool = False) -> nn.Sequential:
    """A copy of ``weights, batch norm, …`` with the norm in the weights.

    Args:
        model: Of which the first two modules are folded.
        axis_zero: Fold on axis 0 whatever the operator, as faulty converters do.
    """
    weights, norm = model[0], model[1]
    factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    plain = weights.weight.detach()
    turned = isinstance(weights, nn.modules.conv._ConvTransposeNd) and not axis_zero
    if turned:
        inputs, outputs = plain.shape[:2]
        groups = weights.groups
        apart = plain.reshape(groups, inputs // groups, outputs, -1)
        scaled = (apart * factor.reshape(groups, 1, outputs, 1)).reshape(plain.shape)
    else:
        scaled = plain * factor.reshape(-1, *[1] * (plain.ndim - 1))
    bias = weights.bias if weights.bias is not None else torch.zeros_like(factor)
    copied = copy.deepcopy(model)
    copied[0].weight = nn.Parameter(scaled.detach())
    copied[0].bias = nn.Parameter(((bias - norm.running_mean) * factor + norm.bias).detach())
    copied[1] = nn.Identity()
    return copied


@dataclass(frozen=True)
class Layer:
    """A layer with weights, its norm, and what it is given."""

    name: str
    weights: nn.Module
    norm: nn.Module
    shape: tuple[int, ...]

    def model(self) -> nn.Sequential:
        """Weights, norm, activation."""
        model = nn.Sequential(copy.deepcopy(self.weights), copy.deepcopy(self.norm), nn.ReLU())
        settled(model, *self.shape)
        return model

    @property
    def example(self) -> Tensor:
        """Four samples."""
        return torch.randn(4, *self.shape, generator=torch.Generator().manual_seed(1))


LAYERS = [
    Layer("linear", nn.Linear(6, 8), nn.BatchNorm1d(8), (6,)),
    Layer("convolution", nn.Conv2d(6, 8, 3, bias=False), nn.BatchNorm2d(8), (6, 5, 5)),
    Layer("grouped", nn.Conv2d(6, 8, 3, groups=2), nn.BatchNorm2d(8), (6, 5, 5)),
    Layer("depthwise", nn.Conv2d(8, 16, 3, groups=8), nn.BatchNorm2d(16), (8, 5, 5)),
    Layer("transposed", nn.ConvTranspose2d(6, 8, 4, 2, bias=False), nn.BatchNorm2d(8), (6, 4, 4)),
    Layer("transposed, as many out as in", nn.ConvTranspose2d(8, 8, 4, 2), nn.BatchNorm2d(8),
          (8, 4, 4)),
    Layer("transposed, grouped", nn.ConvTranspose2d(6, 8, 4, 2, groups=2, bias=False),
          nn.BatchNorm2d(8), (6, 4, 4)),
    Layer("transposed, grouped, as many out as in", nn.ConvTranspose1d(8, 8, 4, 2, groups=4),
          nn.BatchNorm1d(8), (8, 6)),
    Layer("transposed, of volumes", nn.ConvTranspose3d(4, 6, 2, 2, groups=2),
          nn.BatchNorm3d(6), (4, 3, 3, 3)),
]  # fmt: skip
