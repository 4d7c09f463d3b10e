"""Why layers cannot be told: the reason that is true of each."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import scan
from normcheck.norms.belonging.fit_links import NOT_FED
from normcheck.pipeline.vouching import BEHIND
from normcheck.report.report import Standing
from tests.norms.settled import settle


def _reasons(model: nn.Module, path: Path) -> dict[str, str]:
    """Why the layers of a traced model are not vouched for, by their paths."""
    torch.jit.trace(settle(model, 3, 12, 12), torch.rand(2, 3, 12, 12)).save(path)  # type: ignore[no-untyped-call]
    (found,) = scan(path).models
    return {one.path: one.why for one in found.layers if one.standing is Standing.UNTOLD}


@pytest.mark.parametrize("pooled", [False, True])
def test_norms_behind_their_activations_in_an_export(*, pooled: bool, tmp_path: Path) -> None:
    """The first has no norm before it; of the others a pooling hides what the ReLU left."""
    parts: list[nn.Module] = []
    for takes in (3, 16, 16):
        parts += [nn.Conv2d(takes, 16, 3, padding=1), nn.ReLU()]
        parts += [nn.MaxPool2d(2)] if pooled and takes == 16 else []
        parts += [nn.BatchNorm2d(16)]
    reasons = _reasons(nn.Sequential(*parts), tmp_path / "behind.pt")
    assert list(reasons.values()) == [BEHIND] * (3 if pooled else 1)


def test_norms_that_no_norm_feeds_in_an_export(tmp_path: Path) -> None:
    """Two branches from the input: there is no activation before either."""

    class Branches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.other = nn.Conv2d(3, 16, 3), nn.Conv2d(3, 16, 3)
            self.norm_one, self.norm_other = nn.BatchNorm2d(16), nn.BatchNorm2d(16)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            joined: torch.Tensor = self.norm_one(self.one(x)) + self.norm_other(self.other(x))
            return joined

    reasons = _reasons(Branches(), tmp_path / "branches.pt")
    assert reasons["norm_other"] == NOT_FED
    assert BEHIND not in reasons.values()
