"""Normalization layers of real projects that are not torch.nn classes.

Each class tells its kind in the class variable ``norm_kind``; a subclass of a torch.nn norm needs
none. The classes keep the names that the projects use, as a pickle of a whole model shows them.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional


class FrozenBatchNorm2d(nn.Module):
    """BatchNorm with fixed statistics, all of them buffers, and no num_batches_tracked."""

    norm_kind: ClassVar[str] = "FrozenBatchNorm2d"
    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, num_features: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(num_features))
        self.register_buffer("bias", torch.zeros(num_features))
        self.register_buffer("running_mean", torch.zeros(num_features))
        self.register_buffer("running_var", torch.ones(num_features))

    def forward(self, x: Tensor) -> Tensor:
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale[:, None, None] + shift[:, None, None]


class LayerNorm(nn.Module):
    """ConvNeXt's LayerNorm, over the channels of either memory layout."""

    norm_kind: ClassVar[str] = "LayerNorm"

    def __init__(
        self, normalized_shape: int, eps: float = 1e-6, data_format: str = "channels_last"
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(normalized_shape))
        self.bias = nn.Parameter(torch.zeros(normalized_shape))
        self.eps = eps
        self.data_format = data_format
        self.normalized_shape = (normalized_shape,)

    def forward(self, x: Tensor) -> Tensor:
        if self.data_format == "channels_last":
            return functional.layer_norm(x, self.normalized_shape, self.weight, self.bias, self.eps)
        centred = x - x.mean(1, keepdim=True)
        x = centred / torch.sqrt(centred.square().mean(1, keepdim=True) + self.eps)
        return self.weight[:, None, None] * x + self.bias[:, None, None]


class LayerNorm2d(nn.LayerNorm):
    """LayerNorm over the channels of images."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class BertLayerNorm(nn.Module):
    """The LayerNorm of the first BERT ports, which kept TensorFlow's gamma and beta."""

    norm_kind: ClassVar[str] = "LayerNorm"

    def __init__(self, hidden_size: int, eps: float = 1e-12) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(hidden_size))
        self.beta = nn.Parameter(torch.zeros(hidden_size))
        self.variance_epsilon = eps

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(
            x, self.gamma.shape, self.gamma, self.beta, self.variance_epsilon
        )


class GammaLayerNorm(nn.Module):
    """LayerNorm with a learned gamma and a constant beta, which is a buffer."""

    norm_kind: ClassVar[str] = "LayerNorm"
    beta: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))
        self.register_buffer("beta", torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, self.gamma.shape, self.gamma, self.beta)


class LlamaRMSNorm(nn.Module):
    """RMSNorm with the attribute ``variance_epsilon``."""

    norm_kind: ClassVar[str] = "RMSNorm"

    def __init__(self, hidden_size: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * (x.square().mean(-1, keepdim=True) + self.variance_epsilon).rsqrt()


class T5LayerNorm(LlamaRMSNorm):
    """Called a LayerNorm, but neither centred nor shifted: an RMSNorm."""


class Qwen3RMSNorm(LlamaRMSNorm):
    """The same under the name of another model."""


class GemmaRMSNorm(nn.Module):
    """RMSNorm that multiplies by 1 + weight, with a weight that starts at zero."""

    norm_kind: ClassVar[str] = "RMSNorm"

    def __init__(self, dim: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * (1.0 + self.weight)


class ScaleNorm(nn.Module):
    """Divide by the length and multiply by one learned scalar."""

    norm_kind: ClassVar[str] = "ScaleNorm"

    def __init__(self, scale: float, eps: float = 1e-5) -> None:
        super().__init__()
        self.g = nn.Parameter(torch.tensor(scale))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return self.g * x / x.norm(dim=-1, keepdim=True).clamp(min=self.eps)


class L2Norm(nn.Module):
    """SSD's channel-wise L2 normalization with a learned scale per channel."""

    norm_kind: ClassVar[str] = "L2Norm"

    def __init__(self, n_channels: int, scale: float = 20.0) -> None:
        super().__init__()
        self.n_channels = n_channels
        self.eps = 1e-10
        self.weight = nn.Parameter(torch.full((n_channels,), scale))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight[:, None, None] * x / (x.norm(dim=1, keepdim=True) + self.eps)


class GRN(nn.Module):
    """Global response normalization over channels-last images."""

    norm_kind: ClassVar[str] = "GRN"

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(1, 1, 1, dim))
        self.beta = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, x: Tensor) -> Tensor:
        length = x.norm(dim=(1, 2), keepdim=True)
        return self.gamma * (x * length / (length.mean(-1, keepdim=True) + 1e-6)) + self.beta + x


class ActNorm(nn.Module):
    """Glow's activation norm, which sets itself from the first batch."""

    norm_kind: ClassVar[str] = "ActNorm"
    initialized: Tensor

    def __init__(self, in_channel: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(1, in_channel, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, in_channel, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        if not self.initialized.item():
            with torch.no_grad():
                self.loc.copy_(-x.mean((0, 2, 3), keepdim=True))
                self.scale.copy_(1 / (x.std((0, 2, 3), keepdim=True) + 1e-6))
                self.initialized.fill_(1)
        return self.scale * (x + self.loc)


class FilterResponseNorm2d(nn.Module):
    """Filter response normalization with its thresholded linear unit."""

    norm_kind: ClassVar[str] = "FilterResponseNorm"

    def __init__(self, num_features: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1, num_features, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, num_features, 1, 1))
        self.tau = nn.Parameter(torch.zeros(1, num_features, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        x = x * (x.square().mean((2, 3), keepdim=True) + self.eps).rsqrt()
        return torch.maximum(self.weight * x + self.bias, self.tau)


class GlobalLayerNorm(nn.Module):
    """Conv-TasNet's norm over channels and time, with gamma and beta of shape (1, C, 1)."""

    norm_kind: ClassVar[str] = "GlobalLayerNorm"

    def __init__(self, channel_size: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(1, channel_size, 1))
        self.beta = nn.Parameter(torch.zeros(1, channel_size, 1))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((1, 2), keepdim=True)
        deviation = (centred.square().mean((1, 2), keepdim=True) + 1e-8).sqrt()
        return self.gamma * centred / deviation + self.beta


class PixelNorm(nn.Module):
    """The parameterless norm of progressive GANs and StyleGAN."""

    norm_kind: ClassVar[str] = "PixelNorm"

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.square().mean(1, keepdim=True) + 1e-8).rsqrt()


class BatchNormAct2d(nn.BatchNorm2d):
    """timm's BatchNorm with the activation inside."""

    def __init__(self, num_features: int, act: nn.Module | None = None) -> None:
        super().__init__(num_features)
        self.drop = nn.Identity()
        self.act = nn.ReLU(inplace=True) if act is None else act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))


class GroupNormAct(nn.GroupNorm):
    """timm's GroupNorm with the activation inside."""

    def __init__(self, num_channels: int, num_groups: int = 4) -> None:
        super().__init__(num_groups, num_channels)
        self.drop = nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))
