"""Statistics that one copy of a model has from another copy in the same file.

Averages of weights (EMA, SWA) are often given the running statistics of the raw model. Two copies
with the same statistics, bit for bit, and other weights cannot both have collected them, and how
well the weights explain the means tells whose they are. Where training ended on a small learning
rate the copies hardly differ, and neither do their fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.fit import beyond_prediction
from normcheck.norms.layer_numbers import median

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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
    for copied, times, worse in _copies(anatomy, siblings):
        if copied.shift >= APART and times >= TIMES and worse >= MOST:
            return copied
    return None


def copied_apart(anatomy: Anatomy, siblings: Sequence[Anatomy], least: float) -> str | None:
    """Where the copy lies whose statistics a model has, if its own weights explain them worse.

    Args:
        anatomy: Of the model.
        siblings: The other models of the file.
        least: How many times what the other's weights miss, by the median link.
    """
    return next(
        (
            copied.source
            for copied, times, worse in _copies(anatomy, siblings)
            if times >= least and worse >= MOST
        ),
        None,
    )


def _copies(anatomy: Anatomy, siblings: Sequence[Anatomy]) -> Iterator[tuple[Copied, float, float]]:
    """The copies with a model's statistics and other weights.

    Each with what the model's own weights miss over what the copy's do, by the median link, and
    the share of the links that miss more.
    """
    mine: dict[str, float] = {}
    for other in siblings:
        pairs = _pairs(anatomy, other)
        if not pairs or any(not _same_statistics(a, b) for a, b in pairs):
            continue
        if all(_same(a.weight, b.weight) and _same(a.bias, b.bias) for a, b in pairs):
            continue
        mine = mine or _shifts(anatomy)
        theirs = _shifts(other)
        paths = {a.path: b.path for a, b in pairs}
        both = [
            (shift, theirs[paths[path]]) for path, shift in mine.items() if paths[path] in theirs
        ]
        if len(both) < FEWEST:
            continue
        here, there = (median([entry[side] for entry in both]) for side in (0, 1))
        times = median([a / max(b, 1e-3) for a, b in both])
        worse = sum(a > b for a, b in both) / len(both)
        layers = tuple(a for a, _ in pairs)
        yield Copied(other.where, here, there, layers), times, worse


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
    return {fit.link.target.path: beyond_prediction(fit) for fit in agreement.likely}
