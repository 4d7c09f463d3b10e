"""Norms behind a pooling: weights → pooling → norm, with an activation before or behind it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from normcheck.findings import Finding, Severity
from normcheck.norms.belonging.pooled import MOST_RAISED, rise_of
from normcheck.norms.belonging.rectified import before_rectifying, behind_rectifying
from normcheck.rules.rule import CannotTell, Subject
from normcheck.rules.statistics.foreign_stats import check
from tests.norms.settled import anatomy, reorder, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]

WIDTHS = (32, 48, 64, 64)
POOLED = 3
"""Of the convolutions: the last ones of a network are rarely pooled."""
SEEDS = range(2)
IMAGES = (3, 32, 32)
MAX, AVERAGE = nn.MaxPool2d, nn.AvgPool2d
ORDERS = (("pba", MAX), ("pba", AVERAGE), ("pab", MAX), ("pab", AVERAGE), ("apb", AVERAGE))
"""A ReLU and a max pooling change places without changing anything."""
Pooling = type[nn.MaxPool2d] | type[nn.AvgPool2d]


class Flat(nn.Module):
    """conv1, bn1, conv2, bn2 and so on: what stands between them, ``forward`` alone knows."""

    def __init__(self, order: str, pooling: Pooling) -> None:
        """What follows each convolution: p(ooling), a(ctivation) and b(atch norm), in order."""
        super().__init__()
        self.order, self.pooling = order, pooling(2)
        made_of = 3
        for number, width in enumerate(WIDTHS, 1):
            setattr(self, f"conv{number}", nn.Conv2d(made_of, width, 3, padding=1))
            setattr(self, f"bn{number}", nn.BatchNorm2d(width))
            made_of = width

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Maps of an eighth of the height and width, as many as the last norm has channels."""
        for number in range(1, len(WIDTHS) + 1):
            images = getattr(self, f"conv{number}")(images)
            steps: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
                "p": self.pooling,
                "a": functional.relu,
                "b": getattr(self, f"bn{number}"),
            }
            for step in _of(self.order, number):
                images = steps[step](images)
        return images


def _numbered(order: str, pooling: Pooling) -> nn.Sequential:
    parts: list[nn.Module] = []
    made_of = 3
    for number, width in enumerate(WIDTHS, 1):
        following = {"p": pooling(2), "a": nn.ReLU(), "b": nn.BatchNorm2d(width)}
        parts.append(nn.Conv2d(made_of, width, 3, padding=1))
        parts += [following[step] for step in _of(order, number)]
        made_of = width
    return nn.Sequential(*parts)


def _of(order: str, number: int) -> str:
    return order if number <= POOLED else order.replace("p", "")


def _found(model: nn.Module, folder: Path) -> list[Finding]:
    try:
        found = list(check(Subject(anatomy(model, folder))))
    except CannotTell:
        return []
    return [f for f in found if f.severity is not Severity.INFO]


@pytest.mark.parametrize("build", [Flat, _numbered], ids=["flat", "sequential"])
def test_healthy_networks_are_not_accused(tmp_path: Path, build: Callable[..., nn.Module]) -> None:
    """Hardly any of several seeds, orders and poolings; without a pooling in mind most were.

    Norms behind a ReLU have channels here that hardly ever wake, and values that are not normal.
    """
    accused = [
        (order, pooling.__name__, seed)
        for order, pooling in ORDERS
        for seed in SEEDS
        if _found(settle(build(order, pooling), *IMAGES, seed=seed), tmp_path)
    ]
    assert len(accused) <= 1, accused


@pytest.mark.parametrize("build", [Flat, _numbered], ids=["flat", "sequential"])
def test_a_max_pooling_before_the_norm_is_vouched_for(
    tmp_path: Path, build: Callable[..., nn.Module]
) -> None:
    """Most links agree once the means are put back before it."""
    agreeing = links = 0
    for seed in SEEDS:
        agreement = anatomy(settle(build("pba", MAX), *IMAGES, seed=seed), tmp_path).agreement
        assert agreement is not None
        agreeing += len(agreement.agreeing)
        links += len(WIDTHS) - 1
    assert agreeing >= 0.7 * links


@pytest.mark.parametrize("pooling", [MAX, AVERAGE], ids=["max", "average"])
def test_a_pooling_does_not_hide_other_statistics(tmp_path: Path, pooling: Pooling) -> None:
    """Statistics in another order of channels are found behind one as well."""
    found = 0
    for seed in SEEDS:
        model = settle(Flat("pba", pooling), *IMAGES, seed=seed)
        state = model.state_dict()
        for number in range(1, len(WIDTHS) + 1):
            reorder(state, f"bn{number}")
        model.load_state_dict(state)
        found += bool(_found(model, tmp_path))
    assert found == len(SEEDS)


def test_what_a_relu_leaves_is_worked_out_both_ways() -> None:
    """Channels that a ReLU cuts, leaves alone or nearly silences."""
    mean, variance = np.array([-1.5, 0.0, 1.0, 9.0]), np.array([1.0, 0.25, 4.0, 1.0])
    there = behind_rectifying(mean, variance)
    back = before_rectifying(*there)
    assert back[0] == pytest.approx(mean, abs=0.01)
    assert back[1] == pytest.approx(variance, rel=0.02)
    assert there[1][3] == 1.0


def test_the_rise_is_that_of_a_largest_of_four() -> None:
    """Measured on independent values, which raise it most."""
    largest = np.random.default_rng(0).normal(size=(400_000, 4)).max(axis=1)
    deviation = np.array([largest.std()])
    rise = rise_of(np.array([largest.mean()]), deviation, np.ones(1))
    assert rise == pytest.approx(MOST_RAISED, abs=0.01)
    assert rise_of(np.array([9.0]), deviation, np.ones(1)) == MOST_RAISED
