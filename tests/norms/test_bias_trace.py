"""What the biases right before norms tell of the mode that a model was trained in."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.traces.bias_trace import TOGETHER, BiasTrace, bias_trace
from normcheck.norms.traces.gradient_trace import Used

ROOT = Path(__file__).resolve().parents[2]

WIDTH = 64
SEEDS = range(4)
OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "Adam with decay": lambda m: torch.optim.Adam(m.parameters(), 3e-3, weight_decay=1e-4),
    "AdamW": lambda m: torch.optim.AdamW(m.parameters(), 1e-2),
    "SGD": lambda m: torch.optim.SGD(m.parameters(), 0.05, momentum=0.9, weight_decay=5e-4),
}


def network(*, between: type[nn.Module] | None = None) -> nn.Sequential:
    """Three norms, each right behind a linear layer with a bias."""
    parts: list[nn.Module] = [nn.Flatten()]
    for features in (WIDTH, WIDTH, WIDTH):
        parts += [nn.Linear(features, WIDTH), *([between()] if between else [])]
        parts += [nn.BatchNorm1d(WIDTH), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(WIDTH, 10))


def trained(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    seed: int,
    training: Callable[[int], bool],
    epochs: int = 30,
) -> nn.Module:
    """The model after epochs on images of digits, each in train or eval mode."""
    with np.load(ROOT / "sample_models" / "digits.npz") as file:
        x, y = (torch.from_numpy(file[name]) for name in ("images", "labels"))
    order = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        model.train(training(epoch))
        for rows in torch.randperm(len(x), generator=order).split(32):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x[rows].float()), y[rows].long()).backward()
            optimizer.step()
    return model.eval()


def told(model: nn.Module, folder: Path) -> BiasTrace | None:
    """What its file tells."""
    torch.save(model.state_dict(), folder / "model.pt")
    saved = read_checkpoint(folder / "model.pt").models[0]
    anatomy = anatomy_of(saved)
    return bias_trace(saved.tensors, anatomy.biases_before_norms, anatomy.layers)


@pytest.mark.parametrize("made", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_train_mode(made: Callable[[nn.Module], torch.optim.Optimizer], tmp_path: Path) -> None:
    """Nothing moves biases with β where batch statistics are used, whatever the seed."""
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = network()
        trace = told(trained(model, made(model), seed, lambda _: True), tmp_path)
        assert trace is None or trace.used is Used.BATCH


@pytest.mark.parametrize("made", OPTIMIZERS.values(), ids=OPTIMIZERS)
def test_eval_mode(made: Callable[[nn.Module], torch.optim.Optimizer], tmp_path: Path) -> None:
    """The famous bug shows in the weights alone, for most seeds and never as its opposite."""
    found = []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = network()
        found.append(told(trained(model, made(model), seed, lambda _: False), tmp_path))
    assert all(trace is None or trace.used is Used.STORED for trace in found)
    assert sum(trace is not None for trace in found) >= 0.75 * len(SEEDS)


def test_decay_takes_biases_that_nothing_acts_on(tmp_path: Path) -> None:
    """Adam with coupled decay in train mode: biases are gone where β is not."""
    torch.manual_seed(0)
    model = network()
    trace = told(
        trained(model, OPTIMIZERS["Adam with decay"](model), 0, lambda _: True, 60), tmp_path
    )
    assert trace is not None
    assert trace.used is Used.BATCH
    assert trace.spread < 1e-2
    assert trace.layers == ("2", "5", "8")


def test_last_epochs_in_eval_mode(tmp_path: Path) -> None:
    """Norms that are frozen after a while leave the same trace."""
    made, found = OPTIMIZERS["SGD"], []
    for seed in SEEDS:
        torch.manual_seed(seed)
        model = network()
        found.append(told(trained(model, made(model), seed, lambda e: e < 3), tmp_path))
    stored = [t for t in found if t is not None and t.used is Used.STORED]
    assert len(stored) >= 0.75 * len(SEEDS)
    assert all(t.errors >= TOGETHER and t.channels == 3 * WIDTH for t in stored)


def test_something_between(tmp_path: Path) -> None:
    """An activation before the norm lets biases have gradients in train mode: nothing is told."""
    torch.manual_seed(0)
    model = network(between=nn.Tanh)
    assert told(trained(model, OPTIMIZERS["AdamW"](model), 0, lambda _: False), tmp_path) is None


@pytest.mark.parametrize("what", ["biases", "β"])
def test_untrained(what: str, tmp_path: Path) -> None:
    """All alike, on either side: nothing can be told."""
    torch.manual_seed(0)
    model = trained(network(), torch.optim.SGD(network().parameters(), 0.1), 0, lambda _: True, 1)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Linear if what == "biases" else nn.BatchNorm1d):
                module.bias.zero_()
    assert told(model, tmp_path) is None


def test_sign_of_gamma(tmp_path: Path) -> None:
    """A negative γ turns the gradient of b against that of β."""
    torch.manual_seed(2)
    model = network()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d):
                module.weight[: WIDTH // 2] = -1.0
    trace = told(trained(model, OPTIMIZERS["AdamW"](model), 2, lambda _: False), tmp_path)
    assert trace is not None
    assert trace.used is Used.STORED


def test_correlation_is_that_of_ranks(tmp_path: Path) -> None:
    """Equal values share the mean of their places, as everywhere."""
    torch.manual_seed(0)
    model = network()
    pairs = []
    for linear, norm in zip(model[1::3], model[2::3], strict=False):
        with torch.no_grad():
            norm.bias.copy_(torch.randn(WIDTH))
            linear.bias.copy_((norm.bias + torch.randn(WIDTH)).round(decimals=1))
        pairs.append((linear.bias.tolist(), norm.bias.tolist()))
    trace = told(model, tmp_path)
    assert trace is not None
    found = []
    for pair in pairs:
        # Of each value, those that are smaller, and half of those that are as large.
        places = [[sum(o < v for o in side) + sum(o == v for o in side) / 2 for v in side]
                  for side in pair]  # fmt: skip
        found.append(np.corrcoef(*places)[0, 1])
    assert trace.correlation == pytest.approx(np.median(found), abs=1e-12)
