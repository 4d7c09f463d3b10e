"""Spiking networks: their statistics follow spikes, which no norm before them foretells."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from normcheck.norms.belonging import spikes
from tests.norms.saved import layers_in, save
from tests.verdict import accused, report_on

C, T, N = 32, 4, 512
every_seed = pytest.mark.parametrize("seed", range(4))


class LIFNode(nn.Module):
    """A leaky neuron: decays to half, fires from 1 on, and is set back to 0."""

    def forward(self, x: Tensor) -> Tensor:
        """Of shape (T, N, C), as the result."""
        membrane, fired = torch.zeros_like(x[0]), []
        for now in x:
            membrane = membrane + (now - membrane) / 2
            fired.append((membrane >= 1).float())
            membrane = membrane * (1 - fired[-1])
        return torch.stack(fired)


class IFNode(nn.Module):
    """Adds up what it is given and leaks nothing; set back to 0, or by the threshold."""

    def __init__(self, *, set_to_zero: bool) -> None:
        super().__init__()
        self.set_to_zero = set_to_zero

    def forward(self, x: Tensor) -> Tensor:
        """Of shape (T, N, C), as the result."""
        membrane, fired = torch.zeros_like(x[0]), []
        for now in x:
            membrane = membrane + now
            fired.append((membrane >= 1).float())
            membrane = membrane * (1 - fired[-1]) if self.set_to_zero else membrane - fired[-1]
        return torch.stack(fired)


class TemporalEffectiveBatchNorm1d(nn.BatchNorm1d):
    """As spikingjelly has it: BatchNorm over time and batch, and a scale for each time step."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.scale = nn.Parameter(torch.linspace(0.8, 1.2, T))


def network(norm: Callable[[int], nn.Module], neuron: Callable[[], nn.Module]) -> nn.Sequential:
    """Six layers whose statistics are those of what really reaches their norms."""
    steps: list[nn.Module] = []
    now = torch.randn(T, N, C)
    for _ in range(6):
        linear, bn = nn.Linear(C, C), norm(C)
        with torch.no_grad():
            linear.weight.copy_(torch.randn(C, C) / C**0.5)
            bn.weight.uniform_(0.5, 2)
            bn.bias.uniform_(-1, 1)
            made = linear(now)
            bn.running_mean.copy_(made.mean((0, 1)))
            bn.running_var.copy_(made.var((0, 1)))
            bn.num_batches_tracked.fill_(1000)
            made = (made - bn.running_mean) / (bn.running_var + bn.eps).sqrt()
            now = neuron()(made * bn.weight + bn.bias)
        steps += [linear, bn, neuron()]
    return nn.Sequential(*steps).eval()


@every_seed
@pytest.mark.parametrize("whole", [False, True], ids=["state dict", "module"])
def test_healthy_network_is_not_accused(seed: int, whole: bool, tmp_path: Path) -> None:
    """A module names its neurons; of a state dict the numbers show that they are spikes."""
    torch.manual_seed(seed)
    model = network(nn.BatchNorm1d, LIFNode)
    path = save(model if whole else model.state_dict(), tmp_path / "m.pt")
    assert not accused(path)
    behind = [layer for layer in report_on(path).models[0].layers if layer.path != "1"]
    assert {layer.why for layer in behind} == {spikes.WHY}


@every_seed
@pytest.mark.parametrize("set_to_zero", [True, False], ids=["to zero", "by the threshold"])
def test_neurons_without_a_leak(set_to_zero: bool, seed: int, tmp_path: Path) -> None:
    """An activation explains their means up to a factor, and spikes explain them in full."""
    torch.manual_seed(seed)
    model = network(nn.BatchNorm1d, lambda: IFNode(set_to_zero=set_to_zero))
    state = model.state_dict()
    path = save(state, tmp_path / "m.pt")
    assert not accused(path)
    behind = [layer for layer in report_on(path).models[0].layers if layer.path != "1"]
    assert {layer.why for layer in behind} == {spikes.WHY}
    for name in state:
        if name.endswith("running_mean"):
            state[name] = 0.4 * state[name]
    assert "NC108" in accused(save(state, tmp_path / "scaled.pt"))


@every_seed
def test_scaled_means_are_no_spikes(seed: int, tmp_path: Path) -> None:
    """A factor behind an activation is not excused by neurons."""
    torch.manual_seed(seed)
    state = network(nn.BatchNorm1d, nn.ReLU).state_dict()
    for factor in (0.5, 2.0):
        scaled = {n: t * (factor if n.endswith("running_mean") else 1) for n, t in state.items()}
        assert "NC108" in accused(save(scaled, tmp_path / "m.pt"))


@every_seed
def test_foreign_statistics_are_no_spikes(seed: int, tmp_path: Path) -> None:
    """What fits no activation is not excused as spikes."""
    torch.manual_seed(seed)
    model = network(nn.BatchNorm1d, nn.ReLU)
    assert not accused(save(model.state_dict(), tmp_path / "healthy.pt"))
    other = network(nn.BatchNorm1d, nn.ReLU).state_dict()
    state = {n: other[n] if "running" in n else t for n, t in model.state_dict().items()}
    assert "NC108" in accused(save(state, tmp_path / "foreign.pt"))


def test_a_norm_at_its_initial_values(tmp_path: Path) -> None:
    """What needs no weights is accused in a spiking network as well."""
    model = network(nn.BatchNorm1d, LIFNode)
    norm = model[7]
    assert isinstance(norm, nn.BatchNorm1d)
    norm.reset_running_stats()
    for thing in (model, model.state_dict()):
        assert accused(save(thing, tmp_path / "m.pt")) & {"NC101", "NC102"}


@pytest.mark.parametrize("whole", [False, True], ids=["state dict", "module"])
def test_temporal_effective_norm(whole: bool, tmp_path: Path) -> None:
    """Known as one norm, by its class or by its scale of another length."""
    model = network(TemporalEffectiveBatchNorm1d, LIFNode)
    path = save(model if whole else model.state_dict(), tmp_path / "m.pt")
    found = layers_in(path)
    assert {layer.kind.name for layer in found.values()} == {"temporal-effective BatchNorm"}
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm1d)
    read = found["1"]
    assert read.weight is not None
    assert read.running_mean is not None
    assert read.weight.numbers.tolist() == norm.weight.detach().double().tolist()
    assert read.running_mean.numbers.tolist() == norm.running_mean.double().tolist()
    assert not accused(path)


def test_temporal_effective_norm_without_affine(tmp_path: Path) -> None:
    """Its scale is no γ: it has another length."""
    state = {
        "0.weight": torch.randn(C, C),
        "1.running_mean": torch.randn(C),
        "1.running_var": torch.rand(C) + 0.5,
        "1.scale": torch.ones(T),
    }
    read = layers_in(save(state, tmp_path / "m.pt"))["1"]
    assert read.kind.name == "temporal-effective BatchNorm"
    assert read.weight is None
    state["1.scale"] = torch.ones(C)  # of as many: γ
    read = layers_in(save(state, tmp_path / "m.pt"))["1"]
    assert read.kind.name == "BatchNorm1d"
    assert read.weight is not None


def test_temporal_effective_norm_without_buffers(tmp_path: Path) -> None:
    """γ, β and a scale for each time step: nothing vouches for it."""
    model = network(TemporalEffectiveBatchNorm1d, LIFNode)
    parameters = {name: p.detach() for name, p in model.named_parameters()}
    (found,) = report_on(save(parameters, tmp_path / "m.pt")).models
    assert {layer.why for layer in found.layers} == {"running statistics not in the file"}


@pytest.mark.parametrize("shown", [True, False], ids=["same input", "another input"])
@pytest.mark.parametrize("to_zero", [True, False], ids=["to zero", "by the threshold"])
def test_rates_are_those_of_neurons_followed_step_by_step(shown: bool, to_zero: bool) -> None:
    """Whatever is worked out at once comes to what adding up, one step after another, does."""
    choice = np.random.default_rng(0)
    gamma, beta = choice.uniform(0.0, 1.5, 12), choice.normal(0.2, 0.6, 12)
    same, anew = spikes._places(spikes._PATHS)
    rates = spikes._adding_up(gamma, beta, spikes._PATHS)
    expected = []
    membrane, fired = np.zeros((12, same.size)), np.zeros(12)
    for step, values in enumerate(anew, 1):
        membrane += beta[:, None] + gamma[:, None] * (same if shown else values)
        fires = membrane >= 1.0
        membrane = np.where(fires, 0.0 if to_zero else membrane - 1.0, membrane)
        fired += fires.mean(axis=1)
        if step in spikes._STEPS:
            expected.append(fired / step)
    first = len(expected) * (2 * (not shown) + (not to_zero))
    assert np.ptp(expected) > 0.5
    assert np.allclose(rates[:, first : first + len(expected)].T, expected, atol=1e-3)
