"""Training loops, as people write them, around a guard."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

import normcheck
from normcheck.errors import GuardWarning

CLASSES = 3
SIDE = 6


class Net(nn.Module):
    """A small network whose parts can be frozen, checkpointed or called by themselves."""

    def __init__(self, **norm: Any) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, **norm), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4, **norm), nn.ReLU())
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(16, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)))


def batches(count: int, size: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
    for _ in range(count):
        yield torch.randn(size, 1, SIDE, SIDE), torch.randint(0, CLASSES, (size,))


def sgd(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.01)


def loss_of(model: Callable[[Tensor], Tensor], batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def step(
    model: Callable[[Tensor], Tensor], optimizer: torch.optim.Optimizer, size: int = 8
) -> None:
    """One step of a loop without fault."""
    (batch,) = batches(1, size)
    optimizer.zero_grad()
    loss_of(model, batch).backward()
    optimizer.step()


def epoch(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 6) -> None:
    for _ in range(steps):
        step(model, optimizer)


def validate(model: nn.Module, count: int = 4) -> None:
    with torch.no_grad():
        for x, _ in batches(count):
            model(x)


def said(run: Callable[[], object]) -> list[warnings.WarningMessage]:
    """The guard's warnings in a run, other warnings aside."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [entry for entry in caught if issubclass(entry.category, GuardWarning)]


def codes(report: normcheck.Report) -> list[str]:
    return [finding.rule for finding in report.findings]
