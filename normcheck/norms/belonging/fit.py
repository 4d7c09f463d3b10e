"""How well what a link predicts agrees with what its norm has stored."""

from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from math import atanh, inf, log, sqrt

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.reaching import Hypothesis
from normcheck.norms.belonging.structure.link import Link
from normcheck.norms.layer import Floats, Values
from normcheck.norms.layer_numbers import median

LEAST_ENERGY = 1e-12
"""Σ(stored mean / σ)² of means that are all 0, to divide by."""
MOST_OF_A_CHANNEL = 25.0
"""Bound on (mean / standard deviation)² of one channel, so that a nearly constant channel
does not decide for its layer."""

AT_ONCE = 2
"""Links, and channels of each, from which several are taken together."""


@lazy_dataclass(eq=False)
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


def beyond_none(fit: Fit) -> float:
    """Standard errors by which means correlate more than none do: atanh(r) √(n - 3) (Fisher)."""
    # Just 1 would be infinitely many.
    return atanh(min(fit.correlation, 1 - 1e-9)) * sqrt(max(fit.stored_mean.size - 3, 0))


def beyond_prediction(fit: Fit) -> float:
    """Root mean square by which means lie off what is predicted, in stored deviations."""
    return sqrt(max(fit.energy * (1 - fit.explained), 0.0))


@lazy_dataclass()
class HeldAgainst:
    """How predicted means compare with stored ones: see ``Fit``."""

    explained: float
    alignment: float
    slope: float


@lazy_dataclass(eq=False)
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


def fit_of(one: Predicted) -> Fit:
    """What there is to say of one link's prediction."""
    stored, weight = one.weighted
    pair = np.array((_stored_variance(one), one.variance))
    if not (pair > 0).all():
        pair = pair[:, (pair > 0).all(axis=0)]
    np.log(pair, out=pair)
    return _fit(
        one,
        energy=float((stored * stored) @ weight),
        correlation=_correlation(one.mean, stored, weight),
        log_scale=median(pair[0] - pair[1]) if pair.size else 0.0,
        scale_correlation=_correlation_of(pair),
    )


def fits_of(each: Sequence[Predicted]) -> list[Fit]:
    """The same of several predictions in as many calls as of one.

    A call takes longer than the few dozen numbers of a link.
    """
    sizes = [one.mean.size for one in each]
    if len(each) < AT_ONCE or min(sizes) < AT_ONCE:
        return [fit_of(one) for one in each]
    variances = _rows(map(_stored_variance, each), (one.variance for one in each))
    if not (variances > 0).all():
        return [fit_of(one) for one in each]
    ends = list(accumulate(sizes, initial=0))
    weight = np.concatenate([one.weighted[1] for one in each])
    means = _rows((one.mean for one in each), (one.weighted[0] for one in each))

    def total(values: Floats) -> Floats:
        sums: Floats = np.add.reduceat(values, ends[:-1], axis=-1)
        return sums

    def correlations(values: Floats, weighted: Floats) -> list[float]:
        own, both = total(values * weighted), total(values[0] * weighted[1])
        spread = np.sqrt(own[0] * own[1])
        found: list[float] = np.divide(both, spread, where=spread > 0, out=spread).tolist()
        return found

    logs = np.log(variances)
    apart = (logs[0] - logs[1]).tolist()
    logs -= np.repeat(total(logs) / sizes, sizes, axis=-1)
    energies = total(np.square(means[1]) * weight).tolist()
    means -= np.repeat(total(means * weight) / total(weight), sizes, axis=-1)
    numbers = zip(
        energies,
        correlations(means, means * weight),
        (median(apart[start:end]) for start, end in pairwise(ends)),
        correlations(logs, logs),
        strict=True,
    )
    return [_fit(one, *those) for one, those in zip(each, numbers, strict=True)]


def _fit(
    one: Predicted,
    energy: float,
    correlation: float,
    log_scale: float,
    scale_correlation: float,
) -> Fit:
    stored = one.weighted[0]
    return Fit(
        link=one.link,
        activation=one.hypothesis.activation,
        pool=one.hypothesis.pool,
        predicted_mean=one.mean,
        predicted_variance=one.variance,
        stored_mean=stored,
        stored_variance=_stored_variance(one),
        explained=one.held.explained,
        correlation=correlation,
        alignment=one.held.alignment,
        energy=max(energy, LEAST_ENERGY) / stored.size,
        slope=one.held.slope,
        log_scale=log_scale,
        scale_correlation=scale_correlation,
        border=one.border,
        small_map=one.small_map,
    )


def _stored_variance(one: Predicted) -> Floats:
    variance = one.link.target.running_var
    assert variance is not None  # noqa: S101  (links have both statistics)
    return variance.numbers


def _rows(first: Iterable[Floats], second: Iterable[Floats]) -> Floats:
    """Numbers of all links side by side, two of each channel, of shape (2, channels)."""
    return np.stack((np.concatenate([*first]), np.concatenate([*second])))


def off_one(slope: float) -> float:
    """How far a factor is from 1, up or down; infinite where it is no factor."""
    return abs(log(slope)) if slope > 0 else inf


def weighted_means(link: Link) -> tuple[Floats, Floats]:
    """Stored means of a link's target, and what each channel weighs: see ``weights_of``."""
    mean, variance = link.target.running_mean, link.target.running_var
    assert mean is not None  # noqa: S101  (links have both statistics)
    assert variance is not None  # noqa: S101
    return mean.numbers, weights_of(mean.numbers, variance)


def weighted_at_once(links: Sequence[Link]) -> list[tuple[Floats, Floats]]:
    """:func:`weighted_means` of several links, in as many calls as of one."""
    ends = [link.target for link in links]
    means = [end.running_mean.numbers for end in ends if end.running_mean is not None]
    variances = [end.running_var for end in ends if end.running_var is not None]
    sizes = [mean.size for mean in means]
    floors = np.repeat([_floor(variance) for variance in variances], sizes)
    weight = _bounded(
        np.concatenate(means), np.concatenate([each.numbers for each in variances]), floors
    )
    return list(zip(means, np.split(weight, list(accumulate(sizes))[:-1]), strict=True))


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


def _correlation_of(pair: Floats) -> float:
    """Of two rows of numbers that weigh alike; they are changed.

    In fewer calls than the weighted one: of a few dozen numbers these are what takes time.
    """
    count = pair.shape[1]
    if count < 2:
        return 0.0
    pair -= (np.add.reduce(pair, axis=1) / count)[:, None]
    (first, both), (_, second) = (pair @ pair.T).tolist()
    spread = sqrt(first * second)
    return float(both / spread) if spread > 0 else 0.0


def _correlation(a: Floats, b: Floats, weight: Floats) -> float:
    total = float(np.add.reduce(weight))
    if a.size < 2 or total <= 0:
        return 0.0
    da, db = a - (a @ weight) / total, b - (b @ weight) / total
    weighted = da * weight
    spread = sqrt(float(da @ weighted) * float((db * db) @ weight))
    return float(db @ weighted) / spread if spread > 0 else 0.0
