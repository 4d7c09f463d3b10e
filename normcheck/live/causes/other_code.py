"""Whether the statistics fit another function than the one that the code computes.

Where the first norms fit their statistics exactly and later ones do not, nothing but code lies
between them: an activation that a conversion lost or put in, another eps than in training. What
stands at the borders reaches the first norm as well. Each is tried, and the one under which all
norms fit is named. A factor that is missing shows by itself: all channels of a norm are off by it,
means and deviations alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Feed
from normcheck.live.causes.code_variants import Variant, variants
from normcheck.live.misfit import FITS, OtherCode
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.forward import Enough, Interrupted
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.regimes import Regimes, distance
from normcheck.live.watching.seen import CallSite
from normcheck.wording import number

SAMPLES = 128
_ANY = 4
_FEWEST = 4
"""Samples a batch has to have on average: behind norms that normalise by two samples each, healthy
later norms are off by 0.5 (programs exported for batches of 2, on digits); by four none was."""
OFF = 0.15
"""Distance from which it does not."""
LAGS = 0.25
"""Distance up to which the function that was meant leaves statistics that lag behind weights which
still moved when the training ended: 0.15 to 0.22 on five residual networks of
``benchmarks/other_code.py``, trained on patches at a constant rate."""
_BETTER = 0.3
"""Part of the largest distance that may be left under the function that was meant."""
_AS_WELL = 0.03
"""Distance further off up to which another function fits as well: both are named. Samples other
than those of the training leave 0.02 to 0.06 of the function that was meant."""
_EACH = 0.15
"""Root mean square over a norm's channels of what one factor leaves, in deviations of means and
logarithms of variances: statistics that are stale differ by channel."""

Stored = Mapping[CallSite, tuple[Tensor, Tensor]]


@lazy_dataclass(eq=False)
class _Found:
    """How far norms are from their statistics in one version of the code."""

    distances: dict[CallSite, float]
    collected: Collected
    ran: Counter[str]


def other_code(
    regimes: Regimes,
    feed: Feed,
    seen: Collected,
    distances: Mapping[CallSite, float] | None = None,
) -> OtherCode | None:
    """The function under which all norms fit, where the code's own is another.

    Args:
        regimes: Runs the model.
        feed: Real data; a part of it is used.
        seen: What eval mode gives each norm, in the order in which they run.
        distances: How far each norm is from its statistics, each of them behind norms that
            normalise by the batch; None where that is not known yet.

    Returns:
        None where the first norm is off already, all fit, none of what is tried helps, or the
        batches cannot be joined and are too small to normalise by (a program's fixed size).
    """
    some, stored = feed.spread(SAMPLES), seen.stored
    order = list(stored)
    if len(order) < 2 or (distances is not None and not _is_off(distances)):
        return None
    size = regimes.forward.fixed_batch or some.samples / len(some.batches)
    if size < _FEWEST:
        return None
    # Where distances are known, a few samples tell what runs.
    own = _tried(regimes, some if distances is None else some.spread(_ANY), stored, Variant(""))
    found = own.distances if distances is None else {**distances}
    if not _is_off(found):
        return None
    start, worst = _first_off(order, found), max(found.values())
    fitting: list[tuple[float, str]] = []
    most = min(LAGS, _BETTER * worst)
    for variant in variants(set(seen.eps.values()), own.ran):
        if not (start or variant.at_once):
            continue
        try:
            # What is a little further off than that may fit as well as one that is not.
            tried = _tried(regimes, some, stored, variant, most + _AS_WELL)
        except Interrupted:
            continue
        left = max(tried.distances.values(), default=np.inf)
        if left <= most + _AS_WELL:
            fitting.append((left, variant.words))
    if fitting and min(fitting)[0] > most:
        fitting = []
    # Distances that are known are of batches of another size: of single samples no norm behind
    # another fits.
    if distances is not None and (fitting or start):
        own = _tried(regimes, some, stored, Variant(""))
        found = own.distances
        if not _is_off(found):
            return None
        start, worst = _first_off(order, found), max(found.values())
    if not fitting:
        return _rescaled(order, own, seen) if start else None
    left, _ = min(fitting)
    if left > _BETTER * worst:
        return None
    before = order[start - 1].path if start else ""
    # Statistics that lag move what each function leaves by as much as the best one leaves.
    as_well = left + max(left, _AS_WELL)
    words = " or ".join(w for rest, w in sorted(fitting) if rest <= as_well)
    return OtherCode(words, worst, left, before, order[start].path)


def _rescaled(order: list[CallSite], own: _Found, seen: Collected) -> OtherCode | None:
    """Norms whose input is a multiple of what their statistics are of, in all channels alike."""
    off = [place for place in order if own.distances.get(place, 0.0) > FITS]
    named, left = [], 0.0
    for place in off:
        mean_r, var_r = (np.asarray(t.numpy(), np.float64) for t in seen.stored[place])
        moments = own.collected.moments[place].pooled()
        mean, var = (np.asarray(t.numpy(), np.float64) for t in moments)
        eps = seen.eps[place]
        with np.errstate(all="ignore"):
            logs = np.log((np.maximum(var_r, 0) + eps) / (var + eps))
            factor = float(np.exp(np.median(logs) / 2))
            shift = (factor * mean - mean_r) / np.sqrt(np.maximum(var_r, 0) + eps)
            rest = np.sqrt([np.mean(np.square(logs - np.median(logs))), np.mean(np.square(shift))])
        if not rest.max() <= min(_EACH, _BETTER * own.distances[place]):
            return None
        left = max(left, float(np.median(np.abs(shift))))
        named.append(f"the input of {place.path or 'the model'} times {number(factor)}")
    worst, start = max(own.distances.values()), _first_off(order, own.distances)
    words = " and ".join(named)
    return OtherCode(words, worst, left, order[start - 1].path, order[start].path)


def _is_off(found: Mapping[CallSite, float]) -> bool:
    worst = max(found.values(), default=0.0)
    return worst >= OFF and bool(np.isfinite(worst))


def _first_off(order: list[CallSite], found: Mapping[CallSite, float]) -> int:
    """Number of the first norm that does not fit."""
    return next((i for i, place in enumerate(order) if found.get(place, 0.0) > FITS), 0)


def _tried(
    regimes: Regimes, feed: Feed, stored: Stored, variant: Variant, most: float = np.inf
) -> _Found:
    """How far each norm's input is from its statistics, and what ran.

    Raises:
        Interrupted: The forward failed, or all samples in it showed a norm further off than
            ``most``.
    """
    collected, ran = Collected(), Counter[str]()

    def how(call: BatchNormCall) -> object:
        collected.take(call)
        place = call.place
        if len(feed.batches) == 1 and place in stored:
            moments = collected.moments[place].pooled()
            if distance(*stored[place], *moments, collected.eps[place]) > most:
                raise Enough
        if call.training:
            return None
        out = call.with_batch_statistics(variant.eps)
        if variant.behind_norms is not None:
            out = (variant.behind_norms(out[0]), *out[1:])
        return out

    for _ in regimes.run(feed.batches, how, variant.exchange, ran):
        pass
    distances = {
        place: distance(*stored[place], *collected.moments[place].pooled(), collected.eps[place])
        for place in stored
        if place in collected.moments
    }
    return _Found(distances, collected, ran)
