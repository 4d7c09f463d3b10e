"""Small training runs whose checkpoints are compared: a few steps on random data each."""

import copy
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

import normcheck
from normcheck.compare.movement_story import story
from normcheck.report.diff_report import Diff

torch.set_num_threads(1)

CHANNELS = 8
SIDE = 6


class Net(nn.Module):
    """A backbone of three convolutions with norms, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
            nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            nn.ReLU(),
        )
        self.neck = nn.Sequential(
            nn.Conv2d(CHANNELS, CHANNELS, 1, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()
        )
        self.head = nn.Linear(CHANNELS, 4)

    def forward(self, images: Tensor) -> Tensor:
        scores: Tensor = self.head(self.neck(self.backbone(images)).mean((2, 3)))
        return scores


def batches(count: int, seed: int, size: int = 8) -> Iterator[tuple[Tensor, Tensor]]:
    """Random images with labels that can be learned from them."""
    maker = torch.Generator().manual_seed(seed)
    for _ in range(count):
        images = torch.randn(size, 3, SIDE, SIDE, generator=maker) + 0.5
        yield images, (images.mean((1, 2, 3)) * 20).long().clamp(0, 3)


def optimizer_of(model: nn.Module) -> torch.optim.Optimizer:
    return torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)


def train(
    model: nn.Module,
    steps: int = 12,
    seed: int = 0,
    optimizer: torch.optim.Optimizer | None = None,
) -> nn.Module:
    """Train in place, in whatever mode each module is in."""
    optimizer = optimizer or optimizer_of(model)
    for images, labels in batches(steps, seed):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    return model


@torch.no_grad()
def forward(model: nn.Module, count: int = 5, seed: int = 100) -> nn.Module:
    """Forward passes without learning, in whatever mode the model is in."""
    for images, _ in batches(count, seed):
        model(images)
    return model


def trained(seed: int = 0, steps: int = 60) -> Net:
    """A network after some ordinary training, in train mode."""
    torch.manual_seed(seed)
    net = Net().train()
    train(net, steps, seed)
    return net


def copy_of(model: nn.Module) -> Net:
    """The same again, to train in another way."""
    duplicate: Net = copy.deepcopy(model)
    return duplicate


def save(model: nn.Module, folder: Path, name: str, **beside: object) -> Path:
    """A state dict, or a training checkpoint where there is something beside it."""
    path = folder / name
    torch.save({"model": model.state_dict(), **beside} if beside else model.state_dict(), path)
    return path


def loud(diff: Diff) -> set[str]:
    """Codes of the findings that can fail a run."""
    return {f.rule for f in diff.findings if f.severity.rank > 0}


def compared(*paths: Path, **options: object) -> Diff:
    """The comparison, without errors."""
    diff = normcheck.diff(paths, **options)  # type: ignore[arg-type]
    assert diff.report.errors == ()
    return diff


def told(diff: Diff) -> str:
    """The story of the one model."""
    (comparison,) = diff.comparisons
    return story(comparison)
