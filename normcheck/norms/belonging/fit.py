"""How well what a link predicts agrees with what its norm has stored."""

from collections.abc import Iterable, Sequence
from dataclasses import field
from itertools import accumulate
from math import atanh, inf, log, sqrt

import numpy as np

from normcheck.norms.belonging.reaching import Hypothesis, Reaching
from normcheck.norms.belonging.structure.link import Link
from normcheck.norms.layer import Floats, Values
from normcheck.norms.layer_numbers import cut, median
from normcheck.often_made import often_made

LEAST_ENERGY = 1e-12
"""Σ(stored mean / σ)² of means that are all 0, to divide by."""
MOST_OF_A_CHANNEL = 25.0
"""Bound on (mean / standard deviation)² of one channel, so that a nearly constant channel
does not decide for its layer."""

_LEAST_WEIGHT = 1e-300
"""In place of a sum of weights of 0, as of means that are nearly infinite."""


@often_made(eq=False)
class Fit:
    """How well one link's prediction agrees with the stored statistics of its target."""

    link: Link
    activation: str
    pool: float
    predicted_mean: Floats
    predicted_variance: Floats
    stored_mean: Floats
    stored_variance: Floats
    explained: float
    """1 - Σ((mean - stored)/σ)² / Σ(stored/σ)²: 1 is perfect, 0 as good as predicting zero."""
    alignment: float
    """The same with the best common factor left free: (pᵀWs)² / (pᵀWp · sᵀWs), W = 1/σ², with the
    sign of the factor. What stands between norm and weights is chosen by it: with the factor held
    at 1 a wrong activation would hide statistics in other units."""
    energy: float
    """Mean of (stored mean / σ)²: where it is small, means say little."""
    correlation: float
    """Of predicted and stored means over the channels."""
    slope: float
    """Stored means per predicted mean: the factor between them. 0.92 to 1.06 in healthy models,
    whatever their data."""
    log_scale: float
    """Median of log(stored variance / predicted variance)."""
    scale_correlation: float
    """Of the logarithms of predicted and stored variances over the channels."""
    border: float = 0.0
    """Of ``BORDERS``, the one that suits best."""
    small_map: bool = False
    """Whether the prediction knows which taps meet a map of a few pixels."""
    skewed: bool = False
    """Whether the norm before it stands behind a depthwise convolution on such a map, or one that
    nothing explains: a sum of few values behind an activation is not normal, and what means are
    then expected behind the next activation is rough."""
    reaching: Reaching | None = field(default=None, init=False, repr=False)
    """What reaches the weights, under this activation and others; kept where it was worked out, and
    not passed on to other processes."""


def beyond_none(fit: Fit) -> float:
    """Standard errors by which means correlate more than none do: atanh(r) √(n - 3) (Fisher)."""
    # Just 1 would be infinitely many.
    return atanh(min(fit.correlation, 1 - 1e-9)) * sqrt(max(fit.stored_mean.size - 3, 0))


def beyond_prediction(fit: Fit) -> float:
    """Root mean square by which means lie off what is predicted, in stored deviations."""
    return sqrt(max(fit.energy * (1 - fit.explained), 0.0))


@often_made(eq=False)
class HeldAgainst:
    """How predicted means compare with stored ones: see ``Fit``."""

    explained: float
    alignment: float
    slope: float


@often_made(eq=False)
class Predicted:
    """What a link is predicted to store, of which a fit is made."""

    link: Link
    hypothesis: Hypothesis
    """Under which it was predicted."""
    mean: Floats
    variance: Floats
    """Of shape (channels,) each."""
    weighted: tuple[Floats, Floats]
    """Stored means and what each weighs, as :func:`weighted_means` gives them."""
    held: HeldAgainst
    """How the means compare."""
    border: float = 0.0
    small_map: bool = False
    """Both as in ``Fit``."""
    reaching: Reaching | None = None
    """Of which the fit keeps the rest."""


def fits_of(each: Sequence[Predicted]) -> list[Fit]:
    """What there is to say of predictions of several links, in as many calls as of one.

    A call takes longer than the few dozen numbers of a link.
    """
    if not each:
        return []
    sizes = [one.mean.size for one in each]
    starts = list(accumulate(sizes, initial=0))[:-1]

    def total(values: Floats) -> Floats:
        sums: Floats = np.add.reduceat(values, starts, axis=-1)
        return sums

    def spread_out(values: Floats) -> Floats:
        return values.repeat(sizes, axis=-1)

    def correlations(values: Floats, weighted: Floats) -> list[float]:
        own, both = total(values * weighted), total(values[0] * weighted[1])
        spread = np.sqrt(own[0] * own[1])
        found: list[float] = np.divide(both, spread, where=spread > 0, out=spread).tolist()
        return found

    weight = np.concatenate([one.weighted[1] for one in each])
    means = _rows((one.mean for one in each), (one.weighted[0] for one in each))
    energies = total(means[1] * means[1] * weight).tolist()
    means -= spread_out(total(means * weight) / np.maximum(total(weight), _LEAST_WEIGHT))
    variances = _rows(map(_stored_variance, each), (one.variance for one in each))
    alive = np.minimum.reduce(variances) > 0
    logs = np.log(variances, where=alive, out=np.zeros_like(variances))
    apart = logs[0] - logs[1]
    told = np.maximum(np.add.reduceat(alive, starts, dtype=np.float64), 1.0)
    logs -= spread_out(total(logs) / told)
    logs *= alive
    numbers = zip(
        each,
        energies,
        correlations(means, means * weight),
        cut(apart, sizes),
        cut(alive, sizes),
        correlations(logs, logs),
        strict=True,
    )
    fits = [
        Fit(
            link=one.link,
            activation=one.hypothesis.activation,
            pool=one.hypothesis.pool,
            predicted_mean=one.mean,
            predicted_variance=one.variance,
            stored_mean=one.weighted[0],
            stored_variance=_stored_variance(one),
            explained=one.held.explained,
            correlation=correlation,
            alignment=one.held.alignment,
            energy=max(energy, LEAST_ENERGY) / one.mean.size,
            slope=one.held.slope,
            log_scale=median(alike) if (alike := ratios[there].tolist()) else 0.0,
            scale_correlation=scale_correlation,
            border=one.border,
            small_map=one.small_map,
        )
        for one, energy, correlation, ratios, there, scale_correlation in numbers
    ]
    for one, fit in zip(each, fits, strict=True):
        object.__setattr__(fit, "reaching", one.reaching)
    return fits


def fit_of(one: Predicted) -> Fit:
    """What there is to say of one link's prediction."""
    return fits_of((one,))[0]


def _stored_variance(one: Predicted) -> Floats:
    variance = one.link.target.running_var
    assert variance is not None  # noqa: S101  (links have both statistics)
    return variance.numbers


def _rows(first: Iterable[Floats], second: Iterable[Floats]) -> Floats:
    """Numbers of all links side by side, two of each channel, of shape (2, channels)."""
    return np.concatenate([*first, *second]).reshape(2, -1)


def off_one(slope: float) -> float:
    """How far a factor is from 1, up or down; infinite where it is no factor."""
    return abs(log(slope)) if slope > 0 else inf


def weighted_means(link: Link) -> tuple[Floats, Floats]:
    """Stored means of a link's target, and what each channel weighs: see ``weights_of``."""
    return weighted_at_once((link,))[0]


def weighted_at_once(links: Sequence[Link]) -> list[tuple[Floats, Floats]]:
    """:func:`weighted_means` of several links, in as many calls as of one."""
    ends = [link.target for link in links]
    # Links have both statistics.
    means = [end.running_mean.numbers for end in ends if end.running_mean is not None]
    variances = [end.running_var for end in ends if end.running_var is not None]
    sizes = [mean.size for mean in means]
    floors = np.array([_floor(variance) for variance in variances]).repeat(sizes)
    weight = _bounded(
        np.concatenate(means), np.concatenate([each.numbers for each in variances]), floors
    )
    return list(zip(means, cut(weight, sizes), strict=True))


def weights_of(means: Floats, variances: Values) -> Floats:
    """What each channel weighs where means are held against others: 1/σ², bounded.

    Args:
        means: That are compared, of shape (channels,).
        variances: As stored, of as many channels.
    """
    return _bounded(means, variances.numbers, _floor(variances))


def _floor(variances: Values) -> float:
    """A thousandth of the usual variance: a constant channel has no unit of its own."""
    return 1e-3 * max(float(variances.ordered[variances.size // 2]), 0.0) + 1e-12


def _bounded(means: Floats, variances: Floats, floor: Floats | float) -> Floats:
    bound = MOST_OF_A_CHANNEL / np.maximum(np.square(means), 1e-300)
    return np.minimum(1.0 / (np.maximum(variances, 0.0) + floor), bound)
