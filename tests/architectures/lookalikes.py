"""Models without norms, and modules that a state dict cannot tell from norms."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn import functional

from .registry import architecture, floats, tokens

SCALE = "weight and bias of one value per channel: a Scale layer"
LONE = "a lone 1-D weight"


class Scale(nn.Module):
    """Multiply by a weight and add a bias, per channel: what is left of a Caffe norm."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight[:, None, None] + self.bias[:, None, None]


@architecture(floats(2, 3, 8, 8), lookalikes={"scale1": SCALE, "bn2": SCALE})
def caffe_scale() -> nn.Module:
    """Scale layers, one of them with a norm's name, and one true norm."""
    layers = {
        "conv1": nn.Conv2d(3, 8, 3),
        "scale1": Scale(8),
        "conv2": nn.Conv2d(8, 8, 3),
        "bn2": Scale(8),
        "norm": nn.GroupNorm(2, 8),
    }
    return nn.Sequential(OrderedDict[str, nn.Module](layers))


class NoNorm(nn.Module):
    """MobileBERT's replacement of a LayerNorm, which keeps its name and its keys."""

    def __init__(self, feat_size: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(feat_size))
        self.weight = nn.Parameter(torch.ones(feat_size))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


class MobileBertOutput(nn.Module):
    """dense and LayerNorm, which is a NoNorm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dense = nn.Linear(dim, dim)
        self.LayerNorm = NoNorm(dim)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(self.dense(x) + x)


@architecture(
    floats(2, 5, 8),
    lookalikes={
        f"{i}.LayerNorm": "an elementwise product and sum called LayerNorm" for i in (0, 1)
    },
)
def mobilebert_no_norm() -> nn.Module:
    return nn.Sequential(MobileBertOutput(8), MobileBertOutput(8))


class Gate(nn.Module):
    """A learned weight per feature and nothing else."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(features))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.weight)


@architecture(
    floats(2, 3, 8, 8),
    lookalikes={"prelu": f"a PReLU: {LONE}", "one_slope": f"a PReLU: {LONE}", "gate": LONE},
)
def lone_weights() -> nn.Module:
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 6, 3), prelu=nn.PReLU(6), one_slope=nn.PReLU(), gate=Gate(6))
    )


class RunningMeanStd(nn.Module):
    """Reinforcement learning's standardization of observations, from their own statistics."""

    norm_kind = "observation norm"

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(features, dtype=torch.float64))
        self.register_buffer("running_var", torch.ones(features, dtype=torch.float64))
        self.register_buffer("count", torch.ones((), dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return ((x - self.running_mean) / (self.running_var + 1e-5).sqrt()).float().clamp(-5, 5)


@architecture(floats(4, 6))
def rl_observation_stats() -> nn.Module:
    layers = {"running_mean_std": RunningMeanStd(6), "mu": nn.Linear(6, 2)}
    return nn.Sequential(OrderedDict[str, nn.Module](layers))


class Temperature(nn.Module):
    """Platt scaling: weight and bias are scalars."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(1.5))
        self.bias = nn.Parameter(torch.tensor(0.1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.weight + self.bias


@architecture(floats(2, 6))
def scalar_pairs() -> nn.Module:
    """A weight and a bias of no dimension: no norm has those."""
    layers = {"fc": nn.Linear(6, 3), "temperature": Temperature(), "norm": Temperature()}
    return nn.Sequential(OrderedDict[str, nn.Module](layers))


class NormalizeInput(nn.Module):
    """Subtract a constant mean and divide by a constant deviation."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]))
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean[:, None, None]) / self.std[:, None, None]


@architecture(floats(2, 3, 8, 8))
def normalized_input() -> nn.Module:
    """Preprocessing as the first layer."""
    return nn.Sequential(NormalizeInput(), nn.Conv2d(3, 8, 3), nn.ReLU())


@architecture(floats(2, 1, 28, 28))
def lenet() -> nn.Module:
    """No norm and nothing like one."""
    return nn.Sequential(
        *(nn.Conv2d(1, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 8, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(128, 32), nn.Linear(32, 10)),
    )


@architecture(floats(2, 5))
def mlp_no_bias() -> nn.Module:
    """Linear layers to and from one feature: weights of the shapes (1, n) and (n, 1)."""
    return nn.Sequential(nn.Linear(5, 1), nn.Linear(1, 6, bias=False), nn.Linear(6, 6, bias=False))


class Mixed(nn.Module):
    """Every kind of weight that is no norm's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(20, 8)
        self.bag = nn.EmbeddingBag(20, 8)
        self.bilinear = nn.Bilinear(8, 8, 8)
        self.depthwise = nn.Conv1d(8, 8, 3, padding=1, groups=8, bias=False)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, add_bias_kv=True)
        self.gru = nn.GRU(8, 8, batch_first=True)
        self.cell = nn.LSTMCell(8, 8)
        self.norm_weight = nn.Parameter(torch.ones(8))
        self.norm_bias = nn.Parameter(torch.zeros(8))
        self.scales = nn.ParameterList([torch.ones(8), torch.ones(8)])

    def forward(self, ids: Tensor) -> Tensor:
        x = self.embedding(ids) + self.bag(ids)[:, None]
        x = self.depthwise(self.bilinear(x, x).transpose(1, 2)).transpose(1, 2)
        x = self.gru(self.attention(x, x, x)[0] * self.scales[0])[0] * self.scales[1]
        return self.cell(x[:, -1])[0] * self.norm_weight + self.norm_bias


@architecture(tokens(20, 2, 5))
def no_norm_of_many_kinds() -> nn.Module:
    return Mixed()


class ParameterDicts(nn.Module):
    """Parameters in dictionaries: of a norm's names and shapes, and of a 2-D norm's."""

    def __init__(self) -> None:
        super().__init__()
        self.pair = nn.ParameterDict({"weight": torch.ones(6), "bias": torch.zeros(6)})
        self.grid = nn.ParameterDict({"weight": torch.ones(4, 6), "bias": torch.zeros(4, 6)})

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(x * self.pair["weight"] + self.pair["bias"])
        return x * self.grid["weight"] + self.grid["bias"]


@architecture(
    floats(2, 4, 6),
    lookalikes={"pair": "a ParameterDict with the keys weight and bias", "grid": "two equal grids"},
)
def parameter_dicts() -> nn.Module:
    return ParameterDicts()
