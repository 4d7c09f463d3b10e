"""What a mismatch between statistics and weights looks like, and which cause that suggests.

The thresholds lie between what was measured on healthy models of a dozen architectures and
on the same models with faults put in; ``benchmarks/foreign_stats.py`` measures both.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace

from normcheck.findings import Severity
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.fit_links import agreement_of
from normcheck.norms.belonging.fit_places import FAINT, TELLING
from normcheck.norms.belonging.structure.link import Link, place_in_block
from normcheck.norms.layer import Confidence
from normcheck.norms.layer_numbers import median
from normcheck.rules.evidence.cause import Cause
from normcheck.rules.evidence.exchanged_values import exchanged, with_statistics
from normcheck.rules.evidence.order_of_channels import in_any_order
from normcheck.wording import percent, plural

UNEXPLAINED = 0.35
"""Mean explained fraction (over channels) up to which statistics are unrelated; permuted ones and
those of other layers were measured at 0.0 to 0.2."""
UNCORRELATED = 0.5
"""Correlation of predicted and stored means below which they are unrelated."""
DRIFTED = 0.6
DRIFTED_CORRELATION = 0.8
"""The same for statistics of another epoch of one run, measured at 0.1 to 0.5 and 0.35 to 0.75
where they lie far apart. Healthy models have 0.85 and 0.96 or more."""
ALIVE = 0.35
"""Correlation of predicted and stored log variances above which the statistics do belong to
the weights and only the assumed link is wrong. Unrelated ones stay within ±0.2."""
CLOSELY = 0.9
FOLLOWS = 0.8
"""Alignment from which means follow the weights up to a factor."""
TOO_SMALL, TOO_LARGE = 0.86, 1.13
"""Factors of the means beyond which they are in other units: the upper quartile of a healthy
model's is 0.90 at least, the lower one 1.03 at most. The ratio of variances tells nothing of the
kind: it is a property of the data, of e^0.1 to e^4.9 in healthy models, for inputs correlate."""
MUCH_TOO_LARGE = 1.4
"""The same where few layers tell a factor above 1."""
FEWEST_FAINT = 2
"""Layers whose means differ from 0 by more than rounding, of which anything is said."""
FEWEST_SLOPES, FEWEST_LARGE = 3, 6
"""Layers of which such a factor is read; for one that is too large more of them, as a border or a
pooling that was told wrongly makes the prediction too small."""
USUAL_LOG_SCALE = 0.4
"""Usual logarithm of stored over predicted variance in models of correlated inputs."""
FLOOR = 0.2
"""Share of the initial value from which a floor under all variances is looked for."""
FLAT = 1.3
"""Ratio of the median to the smallest of the layers' least variances, when all stand on one
floor. In healthy models these lie decades apart."""
IMPROVED = 0.03
"""Gain in the explained fraction that shows by itself that a floor was in the statistics."""
FIT_THEN = 0.75
"""Explained fraction that three layers of four reach at least once that floor is taken out. Heavy
tails make means smaller than predicted, too, but by another share in each layer."""
ONE_FACTOR = 1.4
"""Ratio of the largest to the smallest factor, a few aside, up to which they are one: quartiles of
healthy models lie within 1.15, and what scaled a whole model leaves that as it was. Inputs with
heavy tails, such as spectrograms without a logarithm, make each layer's means smaller by a factor
of its own."""
PEERS_FIT = 0.9
FEWEST_PEERS = 2
LAYER_UNEXPLAINED = 0.3
"""A single layer is accused only when it is clearly off and two peers are clearly right."""
LAYER_TELLS = 0.02
"""Mean of (stored mean / σ)² from which a single layer's means are more than noise."""


def whole_model(fits: Sequence[Fit]) -> Cause | None:
    """The pattern that nearly all layers share; None where they fit, or differ.

    Args:
        fits: Of the links that count.
    """
    # A floor before unrelated ones: where little is left of the means, no activation is told.
    return (
        exchanged(fits) or _floor(fits) or _unrelated(fits) or in_any_order(fits) or _factor(fits)
    )


def _over_channels(fits: Sequence[Fit], values: Sequence[float]) -> float:
    """Mean over the layers, each weighing as many channels as it has."""
    channels = [f.stored_mean.size for f in fits]
    return sum(v * n for v, n in zip(values, channels, strict=True)) / sum(channels)


def _unrelated(fits: Sequence[Fit]) -> Cause | None:
    return _apart(
        fits,
        UNEXPLAINED,
        UNCORRELATED,
        Cause(
            "unrelated",
            "the running statistics do not belong to the weights",
            "Statistics of another model or of another time of training look like this, and so "
            "do mixed-up channels.",
            "Eval mode normalises with the wrong means and variances: predictions are wrong.",
            Severity.ERROR,
        ),
    )


LEFT_OPEN = (
    "Statistics of a much earlier time of training look like this. Either it went on in eval mode, "
    "as where a validation calls model.eval() and nothing model.train() after it: then weights "
    "were trained for these statistics. Or weights were moved a long way without their buffers: "
    "then predictions are wrong. The file alone cannot tell."
)
"""What may have happened to statistics that the weights have left, where no other trace tells."""


def drifted(fits: Sequence[Fit]) -> Cause | None:
    """Statistics that still have something to do with the weights, but little."""
    # Time moves all layers: where most follow closely, the others have reasons of their own.
    told = [f for f in fits if f.energy > FAINT]
    if told and min(median([f.correlation for f in told]), median([f.alignment for f in told])) > (
        CLOSELY
    ):
        return None
    return _apart(
        fits,
        DRIFTED,
        DRIFTED_CORRELATION,
        Cause(
            "drifted",
            "the running statistics are far from what the weights predict",
            LEFT_OPEN,
            "Eval mode normalises with means and variances that the weights have left behind.",
            Severity.WARNING,
        ),
    )


def _apart(
    fits: Sequence[Fit], most_explained: float, most_correlated: float, cause: Cause
) -> Cause | None:
    # Where hardly any mean differs from 0, what of them is not predicted is noise.
    fits = [f for f in fits if f.energy > FAINT]
    if len(fits) < FEWEST_FAINT:
        return None
    explained = _over_channels(fits, [min(max(f.explained, -1.0), 1.0) for f in fits])
    correlation = _over_channels(fits, [f.correlation for f in fits])
    alive = _over_channels(fits, [f.scale_correlation for f in fits])
    if alive >= ALIVE or explained >= most_explained or correlation >= most_correlated:
        return None
    evidence = (
        f"Predicted from the weights, the means of {plural(len(fits), 'layer')} correlate with the "
        f"stored ones by {correlation:.2f}; in healthy models it is 0.9 or more."
    )
    return replace(cause, detail=f"{evidence} {cause.detail}")


def _floor(fits: Sequence[Fit]) -> Cause | None:
    least = [float(f.stored_variance.min()) for f in fits]
    floor = min(least)
    if not FLOOR <= floor < 1 or median(least) > FLAT * floor:
        return None
    # With so much of the initial value left, means would be that much smaller than predicted.
    following = [f.slope for f in fits if f.alignment > CLOSELY and f.slope > 0]
    if following and median(following) > (1 - floor) ** 0.5:
        return None
    # Layers of unit variance have a floor too; taking it out must make the rest fit.
    cleaned = agreement_of(
        tuple(
            with_statistics(
                f, f.stored_mean / (1 - floor), (f.stored_variance - floor) / (1 - floor)
            )
            for f in fits
        ),
        (),
    ).fits
    before = median([f.explained for f in fits])
    each = sorted(f.explained for f in cleaned) or [0.0]
    after = median(each)
    if after < max(before - 0.01, PEERS_FIT) or each[len(each) // 4] < FIT_THEN:
        return None
    off = abs(median([f.log_scale for f in fits]) - USUAL_LOG_SCALE)
    still = abs(median([f.log_scale for f in cleaned]) - USUAL_LOG_SCALE)
    if after < before + IMPROVED and still > off:
        return None
    standing = sum(smallest <= FLAT * floor for smallest in least)
    return Cause(
        "initial value",
        f"about {percent(floor)} of the running statistics is still the initial 0 and 1",
        f"The smallest variance is close to {floor:.2f} in {standing} of "
        f"{plural(len(fits), 'layer')}. "
        "With that much of the initial value taken out, means and variances fit the weights.",
        "Eval mode uses means that are too small and variances pulled towards 1.",
        Severity.WARNING,
    )


def _without(fit: Fit, left: float) -> Link:
    """The link of a fit with so much of the initial value taken out of its target."""
    rest = 1 - left
    return with_statistics(fit, fit.stored_mean / rest, (fit.stored_variance - left) / rest)


def _factor(fits: Sequence[Fit]) -> Cause | None:
    """One factor between means and weights; variance ratios depend on the data and say nothing."""
    telling = [
        f
        for f in fits
        if not f.skewed
        and (
            (f.energy > TELLING and f.alignment > FOLLOWS)
            or (f.energy > FAINT and f.alignment > CLOSELY)
        )
    ]
    slopes = sorted(f.slope for f in telling)
    certain = sum(f.link.recognition.confidence is Confidence.HIGH for f in telling)
    if len(slopes) < max(FEWEST_SLOPES, sum(f.skewed for f in fits)):
        return None
    # All but a few: deep layers on small images, whose values are not normal early in training,
    # have factors down to a half, and the first ones none.
    some = len(slopes) // 10
    low, high = slopes[some], slopes[len(slopes) - 1 - some]
    too_small = high < TOO_SMALL
    many = len(slopes) >= FEWEST_LARGE
    too_large = low > (TOO_LARGE if many else MUCH_TOO_LARGE) and certain >= FEWEST_SLOPES
    if not (too_small or too_large) or high > ONE_FACTOR * low:
        return None
    factor = median(slopes)
    times = f"{factor:.1f} times too large" if factor > 1 else f"{1 / factor:.1f} times too small"
    return Cause(
        "factor",
        "the running statistics are in other units than the weights",
        f"Means follow the weights, but are about {times}, in {plural(len(slopes), 'layer')}. One "
        "common factor is a scaling that only one of the two went through, or decay that was "
        "applied to buffers.",
        "Eval mode scales every layer's output wrongly, and the factors multiply with depth.",
        Severity.WARNING,
    )


def odd_layers(fits: Sequence[Fit]) -> tuple[list[Fit], list[Fit]]:
    """Layers that do not fit, and those at the same place of other blocks, which do."""
    roles: dict[str, list[Fit]] = defaultdict(list)
    for fit in fits:
        roles[fit.link.role].append(fit)
    odd: list[Fit] = []
    fitting: list[Fit] = []
    for members in roles.values():
        right = [f for f in members if f.explained >= PEERS_FIT]
        wrong = [f for f in members if _does_not_fit(f)]
        # Parts of a block that never fit are of another kind, as one without an activation.
        times = Counter(map(_part_of, members))
        never = {part for part, count in times.items() if count > 1} - set(map(_part_of, right))
        wrong = [f for f in wrong if _part_of(f) not in never]
        if wrong and len(right) >= max(FEWEST_PEERS, len(wrong)):
            odd += wrong
            fitting += right
    return odd, fitting


def _part_of(fit: Fit) -> str:
    return place_in_block(fit.link.weights_path)


def _does_not_fit(fit: Fit) -> bool:
    return (
        fit.explained < LAYER_UNEXPLAINED
        and fit.energy > LAYER_TELLS
        and fit.correlation < UNCORRELATED
        and fit.scale_correlation < ALIVE
    )
