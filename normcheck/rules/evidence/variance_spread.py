"""What the spread of variances shows: whether variances, deviations or inverses are stored.

A deviation in the place of a variance halves the spread of logarithms, an inverse turns their
order round, and a rest of the initial value 1 flattens small ones.
"""

from collections.abc import Iterable, Sequence
from math import exp, log

import numpy as np

from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.two_layers import INPUTS, USUAL, Spread, TwoLayers, two_layers
from normcheck.norms.layer_numbers import median
from normcheck.rules.evidence.evidence_apart import Indication

FEWEST_TOLD = 2
FEWEST_LINKS = 3
MOST_LINKS, MOST_CHANNELS = 3, 24
"""Links of one model, and channels of each, that are read once more for this: a spread needs no
more."""
VARIED = 0.1
"""Standard deviation of predicted log variances from which stored ones can follow them."""
FOLLOW = 0.4
"""Correlation from which they do, up or down."""
TOGETHER = 25.0
"""Channels of perfect evidence: n r² / (1 - r²) of all links, those that fall taken away from those
that rise."""
_EXACT = 0.05
LEAST = 0.70
"""Ratio of stored to predicted spread below which they are no variances. Of 66 healthy networks one
reaches 0.75, of GELUs, in one of the states that its training went through."""
PLAINLY = 0.9
"""Ratio of stored to predicted spread at which nothing else is tried."""


def of_spreads(fits: Sequence[Fit]) -> list[Indication]:
    """How stored variances spread beside what two layers of weights predict.

    Args:
        fits: Of links that are certain.
    """
    known = [fit for fit in fits if fit.link.before is not None]
    if len(known) < FEWEST_LINKS:
        return []
    each = _read(known, MOST_LINKS, MOST_CHANNELS)
    found = None
    for inputs in (USUAL, INPUTS):
        found = _pooled(each, inputs)
        if found is not None and found[0] > PLAINLY:
            break
    if found is None:
        return []
    ratio, told = found
    return [
        Indication(
            "spread of variances",
            1 - ratio,
            1 - LEAST,
            "Variances do not spread as two layers of weights make them, but as deviations (1/2 "
            "off), inverses (2 off) or what a rest of the initial 1 has flattened: 1 minus the "
            "ratio of their logarithms' spread",
            tuple(one.path for one in told),
        )
    ]


def _read(known: Sequence[Fit], links: int, channels: int) -> list[TwoLayers]:
    """So many links, from the beginning of a model to its end, by so many channels of each."""
    # Not every second one: blocks have links of two kinds in turn.
    places = np.linspace(0, len(known) - 1, min(len(known), links)).round().astype(int)
    return [link for place in places if (link := two_layers(known[place], channels)) is not None]


def _pooled(
    links: Sequence[TwoLayers], inputs: Iterable[tuple[float, float]]
) -> tuple[float, list[Spread]] | None:
    """Stored over predicted spread of all links, below 0 where they fall, and who tells it."""
    spreads = [one for link in links if (one := link.spread(inputs)) is not None]
    told = [one for one in spreads if one.varied > VARIED and abs(one.correlation) > FOLLOW]
    weights = [_weight(one) for one in told]
    way = sum(w if one.correlation > 0 else -w for w, one in zip(weights, told, strict=True))
    if len(told) < FEWEST_TOLD or abs(way) < TOGETHER:
        return None
    logs = [log(one.ratio) for one in told]
    mean = sum(w * one for w, one in zip(weights, logs, strict=True)) / sum(weights)
    # The milder of two ways to average: one link with a ratio of its own accuses nobody.
    ratio = exp(max(mean, median(logs)))
    return (ratio if way > 0 else -ratio), told


def _weight(spread: Spread) -> float:
    """What it tells of a ratio: the reciprocal of the variance of its logarithm, about."""
    shared = spread.correlation**2
    return spread.channels * shared / (1 - shared + _EXACT)
