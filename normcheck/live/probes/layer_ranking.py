"""Which layers are to blame: how much of the gap closes when each alone is mended."""

import heapq
from collections.abc import Callable, Sequence

import numpy as np
from torch import Tensor

from normcheck.live.batches import Feed
from normcheck.live.measurement import Closing
from normcheck.live.probes.groups import given_each
from normcheck.live.watching.regimes import Regimes, Statistics
from normcheck.live.watching.seen import CallSite

FEW = 16
"""Samples by which all layers are ranked."""
MORE = 32
"""Samples by which those are measured that are named first."""
NAMED = 4
TRIALS = 48
"""Groups of layers that are tried; models with fewer layers have each tried alone."""


def closings(
    regimes: Regimes, feed: Feed, estimated: Statistics, order: list[CallSite]
) -> tuple[Closing, ...]:
    """Layers by how much of the gap between outputs closes when each alone is re-estimated.

    Large models in groups of neighbours: the group that closes most is halved first. All by a few
    samples, and those that come first by more.

    Args:
        regimes: Runs the model.
        feed: Real data; a part of it is used.
        estimated: The statistics that close the whole gap.
        order: The norms in the order in which they run.

    Returns:
        Layers that were tried alone, the one to blame most first; empty where there is no gap.
    """
    few = _shares(regimes, feed, estimated, FEW if len(order) > NAMED else MORE)
    if few is None:
        return ()
    pieces = [[place] for place in order] if len(order) <= TRIALS else _halves(order)
    queue = [
        (-share, order.index(piece[0]), piece)
        for share, piece in zip(few(pieces), pieces, strict=True)
    ]
    trials = len(pieces)
    heapq.heapify(queue)
    found: list[tuple[float, int, CallSite]] = []
    while queue:
        negative, number, piece = heapq.heappop(queue)
        if len(piece) == 1:
            found.append((negative, number, piece[0]))
        elif trials < TRIALS:
            halves = _halves(piece)
            for share, half in zip(few(halves), halves, strict=True):
                heapq.heappush(queue, (-share, order.index(half[0]), half))
                trials += 1
    found.sort()
    shares = {place: -negative for negative, _, place in found}
    first = list(shares)[:NAMED]
    known = len(order) <= NAMED or feed.samples <= FEW
    more = None if known else _shares(regimes, feed, estimated, MORE)
    if more is not None:
        shares |= dict(zip(first, more([[place] for place in first]), strict=True))
    ranked = sorted(shares.items(), key=lambda entry: -entry[1])
    return tuple(Closing(place.path, share) for place, share in ranked)


Shares = Callable[[Sequence[Sequence[CallSite]]], list[float]]
"""The share of the gap that each group of layers closes."""


def _shares(regimes: Regimes, feed: Feed, estimated: Statistics, samples: int) -> Shares | None:
    """How shares are measured by so many samples; None where there is no gap."""
    some = feed.spread(samples)
    most = feed.batch_size

    def outputs(variants: Sequence[Statistics]) -> list[list[Tensor]]:
        """For each set of statistics those of each batch."""
        by_batch = [given_each(regimes, batch, variants, most) for batch in some.batches]
        if any(len(each) != len(variants) for each in by_batch):
            return [[] for _ in variants]
        return [list(each) for each in zip(*by_batch, strict=True)]

    stored, given = outputs([{}, estimated])
    gap = _distance(stored, given)
    if not np.isfinite(gap) or gap == 0:
        return None

    def shares(pieces: Sequence[Sequence[CallSite]]) -> list[float]:
        # Mended alone, and left as the only one unmended: where every layer is wrong, mending
        # one shows nothing, and where one is wrong, both show it.
        variants: list[Statistics] = []
        for places in pieces:
            variants.append({place: estimated[place] for place in places})
            variants.append({p: found for p, found in estimated.items() if p not in places})
        found = [_distance(each, given) / gap for each in outputs(variants)]
        return [(1 - found[i] + found[i + 1]) / 2 for i in range(0, len(found), 2)]

    return shares


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
