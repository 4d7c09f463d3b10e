"""Which layers are to blame: how much of the gap closes when each alone is mended."""

import heapq
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from normcheck.live.batches import Feed
from normcheck.live.measurement import Closing
from normcheck.live.watching.regimes import Regimes, Statistics
from normcheck.live.watching.seen import CallSite

_SAMPLES = 64
_TRIALS = 48
"""Groups of layers that are tried; models with fewer layers have each tried alone."""


def closings(
    regimes: Regimes, feed: Feed, estimated: Statistics, order: list[CallSite]
) -> tuple[Closing, ...]:
    """Layers by how much of the gap between outputs closes when each alone is re-estimated.

    Large models in groups of neighbours: the group that closes most is halved first.

    Args:
        regimes: Runs the model.
        feed: Real data; a part of it is used.
        estimated: The statistics that close the whole gap.
        order: The norms in the order in which they run.

    Returns:
        Layers that were tried alone, the one to blame most first; empty where there is no gap.
    """
    some = feed.spread(_SAMPLES)
    stored, given = regimes.stored(some).mains, regimes.given(some, estimated).mains
    gap = _distance(stored, given)
    if not np.isfinite(gap) or gap == 0:
        return ()

    def share(places: Sequence[CallSite]) -> float:
        # Mended alone, and left as the only one unmended: where every layer is wrong, mending
        # one shows nothing, and where one is wrong, both show it.
        alone = regimes.given(some, {place: estimated[place] for place in places}).mains
        but = {place: found for place, found in estimated.items() if place not in places}
        missing = regimes.given(some, but).mains
        return (1 - _distance(alone, given) / gap + _distance(missing, given) / gap) / 2

    pieces = [[place] for place in order] if len(order) <= _TRIALS else _halves(order)
    queue = [(-share(piece), order.index(piece[0]), piece) for piece in pieces]
    trials = len(pieces)
    heapq.heapify(queue)
    found: list[Closing] = []
    while queue:
        negative, _, piece = heapq.heappop(queue)
        if len(piece) == 1:
            found.append(Closing(piece[0].path, -negative))
        elif trials < _TRIALS:
            for half in _halves(piece):
                heapq.heappush(queue, (-share(half), order.index(half[0]), half))
                trials += 1
    return tuple(sorted(found, key=lambda entry: -entry.share))


def _halves(places: list[CallSite]) -> list[list[CallSite]]:
    middle = len(places) // 2
    return [part for part in (places[:middle], places[middle:]) if part]


def _distance(first: Sequence[Tensor], second: Sequence[Tensor]) -> float:
    if len(first) != len(second):
        return float("nan")
    total = 0.0
    for a, b in zip(first, second, strict=True):
        if a.shape != b.shape:
            return float("nan")
        total += float((a.double() - b.double()).square().sum())
    return float(total**0.5)
