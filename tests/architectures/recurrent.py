"""Recurrent networks, state-space models and temporal convolutions."""

from __future__ import annotations

import math
import warnings

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from .norms import LlamaRMSNorm
from .registry import architecture, floats, tokens

NO_WHOLE = "torch.save refuses whole modules with parametrizations"


class TimeMixing(nn.Module):
    """RWKV's attention: mixing vectors of shape (1, 1, C) and a GroupNorm over heads, ``ln_x``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.time_mix_k = nn.Parameter(torch.full((1, 1, dim), 0.5))
        self.time_decay = nn.Parameter(torch.zeros(dim))
        self.key = nn.Linear(dim, dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.ln_x = nn.GroupNorm(2, dim)

    def forward(self, x: Tensor) -> Tensor:
        past = functional.pad(x, (0, 0, 1, -1)) * torch.exp(-torch.exp(self.time_decay))
        mixed = x * self.time_mix_k + past * (1 - self.time_mix_k)
        out = self.ln_x(self.key(mixed).flatten(0, 1)).view_as(x)
        return self.output(torch.sigmoid(self.receptance(x)) * out)


class RWKVBlock(nn.Module):
    """The first block has one norm more than the others."""

    def __init__(self, dim: int, number: int) -> None:
        super().__init__()
        if number == 0:
            self.ln0 = nn.LayerNorm(dim)
        self.ln1 = nn.LayerNorm(dim)
        self.ln2 = nn.LayerNorm(dim)
        self.att = TimeMixing(dim)
        self.ffn = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))

    def forward(self, x: Tensor) -> Tensor:
        x = self.ln0(x) if hasattr(self, "ln0") else x
        x = x + self.att(self.ln1(x))
        return x + self.ffn(self.ln2(x))


class RWKV(nn.Module):
    """emb, blocks, ln_out and head."""

    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(40, 16)
        self.blocks = nn.ModuleList([RWKVBlock(16, i) for i in range(2)])
        self.ln_out = nn.LayerNorm(16)
        self.head = nn.Linear(16, 40, bias=False)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.emb(ids)
        for block in self.blocks:
            x = block(x)
        return self.head(self.ln_out(x))


@architecture(tokens(40, 2, 7))
def rwkv() -> nn.Module:
    return RWKV()


class MambaMixer(nn.Module):
    """A state-space mixer with the 1-D parameters ``D`` and ``dt_bias``."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.A_log = nn.Parameter(torch.zeros(dim))
        self.D = nn.Parameter(torch.ones(dim))
        self.dt_bias = nn.Parameter(torch.full((dim,), math.log(0.01)))
        self.in_proj = nn.Linear(dim, 2 * dim, bias=False)
        self.conv1d = nn.Conv1d(dim, dim, 4, groups=dim, padding=3)
        self.norm = LlamaRMSNorm(dim)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.in_proj(x).chunk(2, -1)
        value = functional.silu(
            self.conv1d(value.transpose(1, 2))[..., : x.shape[1]].transpose(1, 2)
        )
        decay = torch.exp(-torch.exp(self.A_log) * functional.softplus(self.dt_bias))
        state, states = torch.zeros_like(value[:, 0]), []
        for step in value.unbind(1):
            state = decay * state + step
            states.append(state + self.D * step)
        return self.out_proj(self.norm(torch.stack(states, 1) * functional.silu(gate)))


class MambaLayer(nn.Module):
    """norm and mixer."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.norm = LlamaRMSNorm(dim)
        self.mixer = MambaMixer(dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.mixer(self.norm(x))


@architecture(tokens(40, 2, 7))
def mamba2() -> nn.Module:
    layers = [MambaLayer(16) for _ in range(2)]
    backbone = nn.Sequential(nn.Embedding(40, 16), *layers)
    backbone.add_module("norm_f", LlamaRMSNorm(16))
    return backbone


class RecurrentLM(nn.Module):
    """Embedding, LSTM, LayerNorm and a projection."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(40, 8)
        self.lstm = nn.LSTM(8, 12, 2, batch_first=True, bidirectional=True)
        self.layer_norm = nn.LayerNorm(24)
        self.decoder = nn.Linear(24, 40)

    def forward(self, ids: Tensor) -> Tensor:
        return self.decoder(self.layer_norm(self.lstm(self.embedding(ids))[0]))


@architecture(tokens(40, 2, 6))
def lstm_layernorm() -> nn.Module:
    return RecurrentLM()


class LayerNormLSTMCell(nn.Module):
    """An LSTM cell with norms on its gates and its state."""

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.weight_ih = nn.Parameter(0.1 * torch.randn(4 * hidden, inputs))
        self.weight_hh = nn.Parameter(0.1 * torch.randn(4 * hidden, hidden))
        self.layernorm_i = nn.LayerNorm(4 * hidden)
        self.layernorm_h = nn.LayerNorm(4 * hidden)
        self.layernorm_c = nn.LayerNorm(hidden)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        hidden, cell = state
        gates = self.layernorm_i(x @ self.weight_ih.T) + self.layernorm_h(hidden @ self.weight_hh.T)
        enter, forget, new, out = gates.chunk(4, 1)
        cell = self.layernorm_c(forget.sigmoid() * cell + enter.sigmoid() * new.tanh())
        return out.sigmoid() * cell.tanh(), cell


class LayerNormLSTM(nn.Module):
    """The cell applied over time."""

    def __init__(self) -> None:
        super().__init__()
        self.cell = LayerNormLSTMCell(6, 8)

    def forward(self, x: Tensor) -> Tensor:
        state = (x.new_zeros(len(x), 8), x.new_zeros(len(x), 8))
        for step in x.unbind(1):
            state = self.cell(step, state)
        return state[0]


@architecture(floats(2, 5, 6))
def layernorm_lstm_cell() -> nn.Module:
    return LayerNormLSTM()


@architecture(floats(2, 5, 6))
def gru_no_norm() -> nn.Module:
    """A GRU with its many 1-D biases and no norm."""
    return nn.GRU(6, 8, 2, batch_first=True)


class Chomp1d(nn.Module):
    """Cut the padding off the end."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x[..., : -self.size]


class TemporalBlock(nn.Module):
    """Two causal convolutions with normalized weights, under their own names and in ``net``."""

    def __init__(self, inputs: int, outputs: int, dilation: int, old: bool) -> None:
        super().__init__()
        self.conv1 = _normalized(nn.Conv1d(inputs, outputs, 3, 1, 2 * dilation, dilation), old)
        self.conv2 = _normalized(nn.Conv1d(outputs, outputs, 3, 1, 2 * dilation, dilation), old)
        self.net = nn.Sequential(
            self.conv1, Chomp1d(2 * dilation), nn.ReLU(), self.conv2, Chomp1d(2 * dilation)
        )
        self.downsample = nn.Conv1d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.net(x) + self.downsample(x))


def _normalized(conv: nn.Conv1d, old: bool) -> nn.Module:
    if not old:
        return parametrizations.weight_norm(conv)
    with warnings.catch_warnings():
        # Checkpoints of the deprecated function are what most saved models have.
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(conv)


class TCN(nn.Module):
    """A temporal convolutional network with a BatchNorm before its head."""

    def __init__(self, old: bool) -> None:
        super().__init__()
        self.network = nn.Sequential(TemporalBlock(4, 8, 1, old), TemporalBlock(8, 8, 2, old))
        self.bn = nn.BatchNorm1d(8)
        self.linear = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.bn(self.network(x))[..., -1])


@architecture(floats(2, 4, 10))
def tcn_old_weight_norm() -> nn.Module:
    """weight_g and weight_v: the normalization of a weight is no layer."""
    return TCN(old=True)


@architecture(floats(2, 4, 10), state_dict_only=NO_WHOLE)
def tcn_weight_norm() -> nn.Module:
    """The same as parametrizations, with original0 and original1."""
    return TCN(old=False)
