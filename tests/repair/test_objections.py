"""Reasons not to write what random fields gave: tested with numbers made for them."""

import pytest

from normcheck.repair.emergency.objections import ITS_OWN, OF_FEW, objections
from normcheck.repair.estimating.estimate import Estimate


def said(
    flips: float | None, least: float, alike: list[float], *, residual: float = 0.0
) -> list[str]:
    """What speaks against an estimate of statistics that were lost for sure."""
    estimate = Estimate(statistics={}, residual=residual, rounds=2, samples=64, fewest=64)
    return list(objections(estimate, flips, least, alike, lost=True))


@pytest.mark.parametrize(
    ("flips", "alike", "reason"),
    [
        (OF_FEW, [], None),
        (OF_FEW - 0.01, [], "of the decisions"),
        (None, [], None),  # numbers are no decisions
        (0.9, [0.97, ITS_OWN - 0.01, -0.5], None),
        (0.9, [0.97, ITS_OWN, -0.5], "another time of its training"),
    ],
)
def test_little_that_changes(flips: float | None, alike: list[float], reason: str | None) -> None:
    """Few decisions, or means that go with the new ones; each says to give data."""
    found = said(flips, OF_FEW, alike)
    if reason is None:
        assert not found
    else:
        (text,) = found
        assert reason in text
        assert "may do as well" in text
        assert "--data" in text


def test_statistics_that_cannot_be_need_no_decision() -> None:
    """A share of 0 is always reached."""
    assert not said(0.0, 0.0, [])


def test_what_does_not_settle() -> None:
    """It is said before all else."""
    assert "do not reproduce themselves" in said(0.9, OF_FEW, [], residual=1.0)[0]
