"""Healthy models that resemble sick ones; no rule may accuse them of a fault of their forward."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, spectral_norm

from tests.live.probes.sick import IMAGES, Net

Build = Callable[[], nn.Module]
CASES: dict[str, tuple[Build, tuple[str, ...]]] = {}


def healthy(*shapes: str) -> Callable[[Build], Build]:
    """Register a model under its function's name."""

    def register(build: Build) -> Build:
        CASES[build.__name__.replace("_", "-")] = (build, shapes or IMAGES)
        return build

    return register


@healthy()
def instance_norm() -> nn.Module:
    """F.instance_norm runs as batch_norm with training=True."""

    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return functional.instance_norm(x)

    return Model()


@healthy()
def weight_standardisation() -> nn.Module:
    """The weights go through batch_norm with training=True, as in timm."""

    class Standardised(nn.Conv2d):
        def forward(self, x: Tensor) -> Tensor:
            flat = self.weight.reshape(1, self.out_channels, -1)
            weight = functional.batch_norm(flat, None, None, training=True)
            return functional.conv2d(x, weight.reshape_as(self.weight), self.bias, padding=1)

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.standardised = Standardised(8, 8, 3)

        def middle(self, x: Tensor) -> Tensor:
            return self.standardised(x)

    return Model()


@healthy()
def frozen_batch_norm_that_stays_in_eval() -> nn.Module:
    """An overridden train() that keeps a backbone's norms in eval mode is meant."""

    class Model(Net):
        def train(self, mode: bool = True) -> "Model":
            super().train(mode)
            self.norm.eval()
            return self

    return Model()


@healthy()
def layer_norms_in_a_list() -> nn.Module:
    """A LayerNorm in train mode does what it does in eval mode."""

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.norms = [nn.GroupNorm(2, 8), nn.LayerNorm([8, 16, 16])]

        def middle(self, x: Tensor) -> Tensor:
            for norm in self.norms:
                x = norm(x)
            return x

    return Model()


@healthy()
def dropout_of_probability_zero_in_a_list() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.drops = [nn.Dropout(0.0)]

        def middle(self, x: Tensor) -> Tensor:
            return self.drops[0](x)

    return Model()


@healthy()
def functional_dropout_that_asks_the_mode() -> nn.Module:
    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            return functional.dropout(x, 0.5, training=self.training)

    return Model()


@healthy()
def functional_batch_norm_that_asks_the_mode() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("mean", torch.zeros(8))
            self.register_buffer("var", torch.ones(8))

        def middle(self, x: Tensor) -> Tensor:
            return functional.batch_norm(x, self.mean, self.var, training=self.training)

    return Model()


@healthy()
def stochastic_depth() -> nn.Module:
    """Whole residual branches are dropped in training, none in eval mode."""

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.branch = nn.Conv2d(8, 8, 3, padding=1)

        def middle(self, x: Tensor) -> Tensor:
            branch = self.branch(x)
            if self.training:
                keep = x.new_empty(len(x), 1, 1, 1).bernoulli_(0.8).div_(0.8)
                branch = branch * keep
            return x + branch

    return Model()


@healthy("6x8")
def transformer_encoder() -> nn.Module:
    """Its fused path of eval mode hides the norms and differs by rounding."""
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2)


@healthy("6x8")
def sequence_first_attention_inside() -> nn.Module:
    """Attention that wants the batch second, and gets it there."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)
            self.attention = nn.MultiheadAttention(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x).transpose(0, 1)
            return self.attention(x, x, x, need_weights=False)[0].transpose(0, 1)

    return Model()


@healthy("12x8")
def transposed_batch_norm() -> nn.Module:
    """BatchNorm1d over features of a sequence, with the transposes that it needs."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(8, 16)
            self.norm = nn.BatchNorm1d(16)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.linear(x).transpose(1, 2)).transpose(1, 2)

    return Model()


@healthy()
def channels_last_layer_norm() -> nn.Module:
    """As in ConvNeXt: permuted, normalised over channels, permuted back."""

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.mix = nn.Conv2d(8, 8, 1)
            self.layer_norm = nn.LayerNorm(8)

        def middle(self, x: Tensor) -> Tensor:
            return self.layer_norm(self.mix(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)

    return Model()


@healthy()
def channels_last_memory() -> nn.Module:
    return Net().to(memory_format=torch.channels_last)


@healthy()
def cache_filled_at_the_first_forward() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("grid", torch.zeros(1))

        def middle(self, x: Tensor) -> Tensor:
            if self.grid.numel() == 1:
                self.grid = torch.linspace(0, 1, x.shape[-1])
            return x + self.grid

    return Model()


@healthy()
def spectral_norm_by_hook() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.mix = spectral_norm(nn.Conv2d(8, 8, 1))

        def middle(self, x: Tensor) -> Tensor:
            return self.mix(x)

    return Model()


@healthy()
def spectral_norm_by_parametrization() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.mix = parametrizations.spectral_norm(nn.Conv2d(8, 8, 1))

        def middle(self, x: Tensor) -> Tensor:
            return self.mix(x)

    return Model()


@healthy()
def weight_norm() -> nn.Module:
    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.mix = parametrizations.weight_norm(nn.Conv2d(8, 8, 1))

        def middle(self, x: Tensor) -> Tensor:
            return self.mix(x)

    return Model()


@healthy()
def dictionary_output() -> nn.Module:
    class Model(Net):
        def forward(self, x: Tensor) -> dict[str, Any]:
            scores = super().forward(x)
            return {"logits": scores, "features": [x, (scores, "text")], "count": 3}

    return Model()


@healthy()
def dataclass_output() -> nn.Module:
    @dataclass
    class Output:
        logits: Tensor
        hidden: Tensor | None = None

    class Model(Net):
        def forward(self, x: Tensor) -> Output:
            return Output(super().forward(x))

    return Model()


@healthy()
def other_outputs_in_training() -> nn.Module:
    """An auxiliary head in training only, as GoogLeNet has it."""

    class Model(Net):
        def forward(self, x: Tensor) -> Any:
            scores = super().forward(x)
            return (scores, scores * 2) if self.training else scores

    return Model()


@healthy()
def attention_mask_with_infinities() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(16)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(x.flatten(1, 2))
            mask = torch.triu(torch.full((48, 48), float("-inf")), 1)
            return (x @ x.transpose(1, 2) + mask).softmax(-1) @ x

    return Model()


@healthy()
def half_precision() -> nn.Module:
    return Net().to(torch.bfloat16)


@healthy("8", "8")
def two_inputs() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)

        def forward(self, left: Tensor, right: Tensor) -> Tensor:
            return self.norm(left) * self.norm(right)

    return Model()


@healthy("values=8", "scale=8")
def keyword_only_inputs() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.LayerNorm(8)

        def forward(self, *, values: Tensor, scale: Tensor) -> Tensor:
            return self.norm(values) * scale

    return Model()


@healthy("10x4")
def recurrent() -> nn.Module:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(4, 8, 2, dropout=0.3, batch_first=True)
            self.norm = nn.LayerNorm(8)

        def forward(self, x: Tensor) -> Tensor:
            return self.norm(self.lstm(x)[0][:, -1])

    return Model()


@healthy()
def forward_that_needs_gradients() -> nn.Module:
    """Forces as derivatives of an energy."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)
            self.norm = nn.GroupNorm(2, 4)

        def forward(self, x: Tensor) -> Tensor:
            x = x.detach().requires_grad_()
            energy = self.norm(self.conv(x)).square().sum((1, 2, 3))
            return -torch.autograd.grad(energy.sum(), x)[0]

    return Model()


@healthy()
def layer_dropped_by_pythons_own_chance() -> nn.Module:
    """Random in training only, by a generator that torch knows nothing of."""

    class Model(Net):
        def middle(self, x: Tensor) -> Tensor:
            if self.training and random.random() < 0.5:  # noqa: S311
                return x
            return x * 1.0

    return Model()


@healthy()
def cannot_be_copied() -> nn.Module:
    class Model(Net):
        def __deepcopy__(self, memo: object) -> "Model":
            raise RuntimeError("no copies")

    return Model()


@healthy()
def group_norm_with_single_channel_groups() -> nn.Module:
    """As many groups as channels is an instance norm, and works on images."""

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.groups = nn.GroupNorm(8, 8)

        def middle(self, x: Tensor) -> Tensor:
            return self.groups(x)

    return Model()


@healthy()
def tied_modules() -> nn.Module:
    """One activation and one GroupNorm at two places."""

    class Model(Net):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.GroupNorm(2, 8)
            self.second = self.first

        def middle(self, x: Tensor) -> Tensor:
            return self.second(self.first(x))

    return Model()
