"""The common factor between stored means and what the weights predict, and how sure it is.

Means of a healthy model follow the weights with a factor of 1, whatever the data: 0.92 to 1.06 by
the median over its links. A share r of the initial value left makes it 1 - r. So the weights can
contradict a batch count, as far as their factor is precise enough.
"""

from collections.abc import Callable, Sequence
from math import log, sqrt

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.fit_places import FAINT
from normcheck.norms.layer import NormLayer
from normcheck.norms.layer_numbers import median

FOLLOWS = 0.9
"""Alignment from which the factor of a link counts."""
ALONE = 0.05
"""Standard error of the logarithm of a single link's factor: so far healthy links scatter
around 1 for reasons of their own (borders, distributions that are not normal)."""
HEALTHY = 0.08
"""Logarithm of the median factor that healthy models reach."""
MOST = 0.6
"""Share of the layers that must follow their weights."""
SURE = 2.0
"""Standard errors that make a difference."""


@lazy_dataclass()
class Contradiction:
    """Weights that fit statistics of which nothing is initial any more."""

    factor: float
    """Median of stored over predicted means."""
    expected: float
    """What it would be with the residue in the statistics."""
    error: float
    """Standard error of the logarithm of ``factor``."""
    links: int


def residue_contradicted(
    fits: Sequence[Fit], residue: Callable[[NormLayer], float | None]
) -> Contradiction | None:
    """Whether the weights exclude that so much of the initial value is left.

    Args:
        fits: Of a model's likely links.
        residue: Share of the initial value that count and momentum leave in a layer; None where
            they tell nothing.

    Returns:
        The numbers; None where the weights do not contradict, or cannot tell.
    """
    accused = [
        (fit, left)
        for fit in fits
        if (left := residue(fit.link.target)) is not None and 0 < left < 1
    ]
    told = [
        (fit, left)
        for fit, left in accused
        if fit.alignment > FOLLOWS and fit.energy > FAINT and fit.slope > 0
    ]
    # Layers that do not follow the weights at all are no witnesses for the others.
    if not told or len(told) < MOST * len(accused):
        return None
    factors = np.array([log(fit.slope) for fit, _ in told])
    expected = np.array([log(1 - left) for _, left in told])
    error = _error(factors, [fit for fit, _ in told])
    here, apart = median(factors), median(factors - expected)
    if apart <= SURE * error or abs(here) >= apart or abs(here) > SURE * error + HEALTHY:
        return None
    return Contradiction(float(np.exp(here)), float(np.exp(here - apart)), error, len(told))


def _error(factors: np.typing.NDArray[np.float64], fits: list[Fit]) -> float:
    """Standard error of the median factor: from the channels, and from how the links differ."""
    within = [
        sqrt((1 - fit.alignment) / (fit.alignment * max(fit.stored_mean.size - 1, 1)))
        for fit in fits
    ]
    root = sqrt(len(fits))
    if len(fits) == 1:
        return max(within[0], ALONE)
    return max(median(within) / root, float(factors.std(ddof=1)) / root)
