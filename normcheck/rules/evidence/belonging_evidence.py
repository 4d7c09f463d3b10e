"""What speaks against statistics beside the weights: several readings, each with its own number.

Faults differ: half of those that are found show in a single reading, so that a sum of all would
dilute them. Each stands alone, and two that agree make it certain. The thresholds lie above what
healthy models of two dozen families reach; ``benchmarks/file_verdicts.py`` measures both sides.
"""

from collections.abc import Sequence
from math import log

import numpy as np

from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.first_norm import FirstNorm
from normcheck.norms.belonging.fit import Fit, beyond_prediction, off_one
from normcheck.norms.belonging.fit_places import AGREES, FAINT
from normcheck.norms.belonging.pooled import MOST_POOLINGS, has_room
from normcheck.norms.belonging.structure.link import WeightStructure
from normcheck.norms.layer import Confidence
from normcheck.norms.layer_numbers import deviation, median
from normcheck.rules.evidence.evidence_apart import (
    Indication,
    behind_activations,
    of_first,
    of_growth,
)
from normcheck.rules.evidence.mismatch_causes import ONE_FACTOR
from normcheck.rules.evidence.variance_spread import of_variances

FEWEST_LINKS = 3
FEWEST_CHANNELS = 16
"""Of a single link that accuses alone."""
FEWEST_TOGETHER = 48
"""Of several links."""
FEWEST_PROVEN = 2
"""Links in an ``nn.Sequential`` that speak together: names leave nothing to be guessed there."""
PROVEN_FACTOR = log(1.15)
"""Logarithm of the factor that most proven links of a healthy model may have."""
MOST = 0.5
"""Share of the links that must fit before one that only its block's names make certain counts."""
OF_A_SUM = 0.5
"""Correlation of a norm's means with β of the norm before it, from which that one is added: 32
independent values reach it in 3 of a thousand."""
TELLING = 0.02
"""Mean of (stored mean / σ)² from which a single link's means are more than noise."""
OFF_ALONE = 0.15
"""Root mean square of what is not predicted, in deviations, from which a single link counts in
full: healthy ones reach as much, and where means hardly differ from 0 little is left of them."""
VARIED = 0.25
"""Standard deviation of log variances from which they can follow anything."""
FOLLOWS = 0.8
"""Alignment from which means follow the weights up to a factor."""
SURELY, ROUNDING = 0.9, 1e-4
"""The same for means that are small beside their deviations, and how small they may be: what a rest
of the initial value leaves of them is exact all the same."""
ROUGHLY_THERE = 0.3
"""Alignment that unrelated means do not reach by any map of a few pixels."""
CLOSELY = 0.97
"""The same for a single link."""
SMALL = 0.8
"""Logarithm by which variances may be small where means are of the right size: what all channels
share, as loudness is in speech, weights take away again. Of variances alone no file tells more."""
SMALL_BEHIND_POOLING = 1.5
"""The same where an average pooling of two by two may stand before the norm, which leaves a quarter
of the variance of noise."""
FOLLOW = 0.85
"""Correlation of log variances from which their spread is compared."""


def readings(agreement: Agreement | None, first: FirstNorm | None) -> tuple[Indication, ...]:
    """All that can be read of one model, whether it speaks against it or not."""
    found: list[Indication] = []
    if agreement is not None:
        likely = agreement.likely
        inside = tuple(f for f in likely if f.link.recognition.confidence is Confidence.HIGH)
        # Links that names only make likely may cross a sum: they miss together, in a healthy model.
        proven = tuple(f for f in inside if is_proven(f))
        if len(inside) >= FEWEST_LINKS:
            found += _together(inside)
        elif len(proven) >= FEWEST_PROVEN:
            found += _together(proven)
        found += _factor(proven if len(proven) >= FEWEST_PROVEN else inside, proven)
        found += _alone(inside, likely)
        found += of_variances(agreement)
        found += behind_activations(agreement.rectified)
        found += of_growth(agreement.fits)
    if first is not None:
        found += of_first(first)
    return tuple(found)


def is_proven(fit: Fit) -> bool:
    """Whether names leave nothing to be guessed between two norms, as in an ``nn.Sequential``."""
    return "Sequential" in fit.link.recognition.reason


def _together(fits: Sequence[Fit]) -> list[Indication]:
    """What several links show."""
    paths = tuple(f.link.target.path for f in fits)
    # A pooling that no name tells moves means by a factor; in a Sequential there is no room for it.
    shifts = [
        max((1 - (f.explained if is_proven(f) else max(f.alignment, 0.0))) * f.energy, 0.0) ** 0.5
        for f in fits
    ]
    found = [
        Indication(
            "shift",
            _typical(shifts),
            0.28,
            "Means lie off what the weights predict, by the median so many deviations",
            paths,
        ),
    ]
    # Which taps a separable convolution has on a map of few pixels is not known.
    known = [f for f in fits if f.link.kind is not WeightStructure.SEPARABLE]
    if known:
        found.append(
            Indication(
                "small variances",
                _typical([-f.log_scale for f in known]),
                _smallest(known),
                "Variances are smaller than independent inputs would give, by the median so much "
                "of a logarithm",
                tuple(f.link.target.path for f in known),
            )
        )
    telling = [f for f in fits if f.energy > TELLING and not _differs_by_place(f)]
    if len(telling) >= FEWEST_LINKS and sum(f.stored_mean.size for f in telling) >= FEWEST_TOGETHER:
        found.append(
            Indication(
                "means apart",
                median([1 - f.correlation for f in telling]),
                0.16,
                "Means follow the weights, but loosely: 1 minus their correlation, by the median",
                tuple(f.link.target.path for f in telling),
            )
        )
    spreads = {f.link.target.path: _spread(f.predicted_variance) for f in fits}
    varied = [f for f in fits if spreads[f.link.target.path] > VARIED]
    if len(varied) >= FEWEST_LINKS:
        found.append(
            Indication(
                "variances apart",
                -median([f.scale_correlation for f in varied]),
                -0.10,
                "Variances do not follow the weights: the correlation of their logarithms, negated",
                tuple(f.link.target.path for f in varied),
            )
        )
    following = [f for f in varied if f.scale_correlation > FOLLOW]
    if len(following) >= FEWEST_LINKS:
        ratios = [spreads[f.link.target.path] / _spread(f.stored_variance) for f in following]
        found.append(
            Indication(
                "deviations stored",
                median(ratios),
                1 / 0.72,
                "Variances follow the weights with half the spread, as deviations in their place "
                "do: predicted over stored spread",
                tuple(f.link.target.path for f in following),
            )
        )
    depthwise = [f for f in fits if f.link.kind is WeightStructure.DEPTHWISE]
    if len(depthwise) >= FEWEST_LINKS:
        found.append(
            Indication(
                "large variances",
                median([f.log_scale for f in depthwise]),
                1.15,
                "Variances behind depthwise convolutions are too large, by the median so much of "
                "a logarithm",
                tuple(f.link.target.path for f in depthwise),
            )
        )
    return found


def _differs_by_place(fit: Fit) -> bool:
    """Whether means may follow loosely for what its places differ by.

    On a map of a few pixels zero padding gives each place a mean of its own, and a depthwise
    kernel, without a sum over inputs, meets some places more than others.
    """
    depthwise = fit.link.kind is WeightStructure.DEPTHWISE
    return fit.small_map and depthwise and fit.alignment >= ROUGHLY_THERE


def _smallest(fits: Sequence[Fit]) -> float:
    """The logarithm by which variances may be small."""
    if not _of_the_right_size(fits):
        return 0.35
    small = [fit.link for fit in fits if -fit.log_scale > SMALL]
    pooled = len(small) <= MOST_POOLINGS and all(map(has_room, small))
    return SMALL_BEHIND_POOLING if pooled else SMALL


def _of_the_right_size(fits: Sequence[Fit]) -> bool:
    """Whether means are as large as the weights make them, and statistics in their units then."""
    telling = [f for f in fits if f.energy > TELLING and f.slope > 0]
    return (
        len(telling) >= min(FEWEST_LINKS, len(fits))
        and median([f.alignment for f in telling]) > SURELY
        and median([off_one(f.slope) for f in telling]) < log(1.2)
    )


def _typical(values: Sequence[float]) -> float:
    """What most of them reach: the median, of two the lesser."""
    return median(values) if len(values) >= FEWEST_LINKS else min(values)


def _factor(fits: Sequence[Fit], proven: Sequence[Fit]) -> list[Indication]:
    """One factor between means and weights, where the way between the norms is certain.

    Where it is proven, a quarter of the links may lie on the other side: borders and distributions
    that are not normal move single factors by up to a fifth. Where names alone make it certain,
    none may: a pooling that no name tells moves some of them. Factors that differ are none that
    a whole model went through.

    Args:
        fits: Of the links that are asked.
        proven: Those of a Sequential.
    """
    told = [
        f
        for f in fits
        if f.slope > 0
        and not f.skewed
        and (
            (f.alignment > FOLLOWS and f.energy > FAINT)
            or (f.alignment > SURELY and f.energy > ROUNDING)
        )
    ]
    channels = sum(f.stored_mean.size for f in told)
    sure = len(proven) >= FEWEST_PROVEN
    matrices = [f for f in told if f.link.kind is WeightStructure.LINEAR and f.alignment > CLOSELY]
    if len(told) >= (FEWEST_PROVEN if sure else FEWEST_LINKS) and channels >= FEWEST_CHANNELS:
        threshold = PROVEN_FACTOR if sure else log(1.2)
    elif 0 < len(told) == len(matrices) and channels >= FEWEST_CHANNELS:
        # Nothing is pooled between vectors: a single matrix can speak, of a factor that is large.
        sure, threshold = False, log(1.4 if len(told) == 1 else 1.2)
    else:
        return []
    slopes = sorted(log(f.slope) for f in told)
    quarter = len(slopes) // 4 if sure else 0
    # Heavy tails make means smaller, by a factor of each layer's own; larger nothing makes them.
    aside = len(slopes) // 4 if slopes[0] > 0 else quarter
    if slopes[len(slopes) - 1 - aside] - slopes[aside] > log(ONE_FACTOR):
        return []
    return [
        Indication(
            "one factor",
            max(slopes[quarter], -slopes[len(slopes) - 1 - quarter]),
            threshold,
            "Stored means follow the weights, but by one factor that is off 1 in nearly every "
            "layer, by so much of a logarithm at least",
            tuple(f.link.target.path for f in told),
        )
    ]


def _alone(inside: Sequence[Fit], likely: Sequence[Fit]) -> list[Indication]:
    """The single certain link that fits worst.

    Names can lie: a block may run in another order than its modules were registered in. So it
    counts where names leave no choice, in an ``nn.Sequential``, or where most other links fit.
    """
    fitting = sum(f.explained >= AGREES for f in likely)
    if fitting < MOST * len(likely):
        inside = [f for f in inside if is_proven(f)]
    # Behind a depthwise convolution no sum over inputs evens out which taps a small image has.
    large = [
        f
        for f in inside
        if f.stored_mean.size >= FEWEST_CHANNELS
        and f.energy > TELLING
        and f.link.kind not in (WeightStructure.DEPTHWISE, WeightStructure.SEPARABLE)
        and not f.skewed
        and not _may_be_a_sum(f)
    ]
    if not large:
        return []
    worst = max(large, key=_apart)
    return [
        Indication(
            "one link",
            _apart(worst),
            0.34,
            "The means of one layer right behind another do not follow its weights: 1 minus their "
            "correlation",
            (worst.link.target.path,),
        )
    ]


def _apart(fit: Fit) -> float:
    """1 minus the correlation of stored and predicted means, less where they are hardly off."""
    off = beyond_prediction(fit)
    return (1 - fit.correlation) * min(1.0, off / OFF_ALONE)


def _may_be_a_sum(fit: Fit) -> bool:
    """Whether the norm before is added to what the weights make of it, as the means show."""
    shift = fit.link.source.bias
    if is_proven(fit) or shift is None or shift.size != fit.stored_mean.size:
        return False
    if not (_spread_of(shift.numbers) and _spread_of(fit.stored_mean)):
        return False
    return float(np.corrcoef(shift.numbers, fit.stored_mean)[0, 1]) > OF_A_SUM


def _spread_of(numbers: np.typing.NDArray[np.float64]) -> bool:
    return bool(np.isfinite(numbers).all()) and float(np.ptp(numbers)) > 0


def _spread(variances: np.typing.NDArray[np.float64]) -> float:
    """Standard deviation of the logarithms of those above 0."""
    positive = variances[variances > 0]
    return deviation(np.log(positive)) if positive.size > 1 else 0.0
