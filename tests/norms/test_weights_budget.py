"""Which links are judged where not all their weights may be read."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

import normcheck
from normcheck.config.examination import Examination
from normcheck.norms.weights_budget import BEYOND

pytestmark = pytest.mark.slow

WIDTH = 64
BLOCK = WIDTH * WIDTH * 9 * 4
"""Bytes of the weights of one link."""


def saved(folder: Path) -> str:
    """Eight blocks, seven links of equal size, statistics that were collected."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(8):
        layers += [nn.Conv2d(WIDTH, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    model = nn.Sequential(*layers)
    for _ in range(40):
        model(torch.randn(4, WIDTH, 8, 8))
    torch.save(model.state_dict(), folder / "m.pt")
    return str(folder / "m.pt")


def judged(path: str, budget: int | None) -> tuple[int, int]:
    """How many links were judged, and how many were left for the budget."""
    agreement = normcheck.scan([path], Examination(weights_budget=budget)).models[0].agreement
    assert agreement is not None
    return len(agreement.links), sum(why == BEYOND for _, why in agreement.unjudged)


def test_budget(tmp_path: Path) -> None:
    """So many links are judged as fit; the others are said to be beyond it."""
    path = saved(tmp_path)
    assert judged(path, None) == (7, 0)
    assert judged(path, 7 * BLOCK) == (7, 0)
    assert judged(path, 4 * BLOCK + 1) == (4, 3)
    assert judged(path, 0) == (0, 7)


def test_a_large_link_leaves_room_for_others(tmp_path: Path) -> None:
    """One that does not fit takes nothing from those behind it."""
    torch.manual_seed(0)
    widths = [64, 64, 512, 64, 64, 64, 64]
    layers: list[nn.Module] = [nn.Conv2d(64, 64, 1), nn.BatchNorm2d(64)]
    for before, after in pairwise(widths):
        layers += [nn.ReLU(), nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after)]
    model = nn.Sequential(*layers)
    for _ in range(20):
        model(torch.randn(2, 64, 4, 4))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    assert judged(str(tmp_path / "m.pt"), 4 * BLOCK) == (4, 2)


def test_flag(tmp_path: Path, command) -> None:  # type: ignore[no-untyped-def]
    """The flag sets it, the report says what was left out, and a wrong size is an error."""
    path = saved(tmp_path)
    done = command("scan", path, "--weights-budget", "200K", "-v", "--exit-zero")
    assert done.returncode == 0
    assert "beyond --weights-budget" in " ".join(done.stdout.split())
    assert command("scan", path, "--weights-budget", "much").returncode == 2
