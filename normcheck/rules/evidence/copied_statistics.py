"""Statistics that one copy of a model has from another copy in the same file.

Averages of weights (EMA, SWA) are often given the running statistics of the raw model. Two copies
with the same statistics, bit for bit, and other weights cannot both have collected them, and how
well the weights explain the means tells whose they are. Where training ended on a small learning
rate the copies hardly differ, and neither do their fits.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer_numbers import median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.norms.anatomy import Anatomy
    from normcheck.norms.layer import NormLayer, Values

APART = 0.1
"""Median over links of the means' distance from what the weights predict, in deviations, from which
a copy is accused. Where copies did not part it is that of the raw model."""
TIMES = 1.4
"""The same over that of the other copy, link by link: 0.9 to 1.2 where the learning rate went to 0,
1.5 to 5 in averages that lost two points and more with the raw model's statistics."""
MOST = 0.75
"""Share of the links that must have grown worse."""
FEWEST = 2


@lazy_dataclass()
class Copied:
    """Whose statistics a copy has, and how far its own weights are from them."""

    source: str
    """Where the other copy lies."""
    shift: float
    """In standard deviations, the median over the links."""
    there: float
    """The same of the other copy."""
    layers: tuple[NormLayer, ...]


def copied_statistics(anatomy: Anatomy, siblings: Sequence[Anatomy]) -> Copied | None:
    """The other copy that a model's statistics were collected with; None where there is none."""
    mine = _shifts(anatomy)
    if len(mine) < FEWEST:
        return None
    for other in siblings:
        pairs = _pairs(anatomy, other)
        if not pairs or any(not _same_statistics(a, b) for a, b in pairs):
            continue
        if all(_same(a.weight, b.weight) and _same(a.bias, b.bias) for a, b in pairs):
            continue
        theirs = _shifts(other)
        paths = {a.path: b.path for a, b in pairs}
        both = [
            (shift, theirs[paths[path]]) for path, shift in mine.items() if paths[path] in theirs
        ]
        if len(both) < FEWEST:
            continue
        here, there = (median([entry[side] for entry in both]) for side in (0, 1))
        times = median([a / max(b, 1e-3) for a, b in both])
        worse = sum(a > b for a, b in both)
        if here >= APART and times >= TIMES and worse >= MOST * len(both):
            layers = tuple(a for a, _ in pairs)
            return Copied(other.where, here, there, layers)
    return None


def _pairs(one: Anatomy, other: Anatomy) -> list[tuple[NormLayer, NormLayer]]:
    """The layers with statistics of two copies, each with its counterpart; empty of others."""
    mine = [layer for layer in one.layers if layer.has_statistics]
    theirs = [layer for layer in other.layers if layer.has_statistics]
    if len(mine) != len(theirs) or any(
        a.features != b.features for a, b in zip(mine, theirs, strict=True)
    ):
        return []
    return list(zip(mine, theirs, strict=True))


def _same_statistics(one: NormLayer, other: NormLayer) -> bool:
    return _same(one.running_mean, other.running_mean) and _same(one.running_var, other.running_var)


def _same(one: Values | None, other: Values | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.array_equal(one.numbers, other.numbers)


def _shifts(anatomy: Anatomy) -> dict[str, float]:
    """How far stored means lie from predicted ones, in deviations, by the path of their norm."""
    agreement = anatomy.agreement
    if agreement is None:
        return {}
    return {
        fit.link.target.path: sqrt(max(fit.energy * (1 - fit.explained), 0.0))
        for fit in agreement.likely
    }
