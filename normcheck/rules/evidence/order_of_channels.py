"""Means of one level, whose channels are in another order than the weights."""

from collections.abc import Sequence

import numpy as np

from normcheck.findings import Severity
from normcheck.norms.belonging.fit import Fit, beyond_none, weighted_means
from normcheck.norms.belonging.fit_places import AGREES, FAINT
from normcheck.norms.layer_numbers import median
from normcheck.rules.evidence.cause import Cause
from normcheck.wording import plural

FEWEST_LAYERS = 3
BY_CHANCE, AT_MOST = 2.0, 4.0
"""Standard errors (``beyond_none``) up to which predicted and stored means correlate by chance: by
the median of layers, and each. Of 1,161 links of published models that agree none has fewer than
4."""
ALIVE = 0.35
"""Correlation of log variances above which a link is no other one's."""


def in_any_order(fits: Sequence[Fit]) -> Cause | None:
    """Means of which weights explain what all channels have in common, and nothing else.

    Args:
        fits: Of the links that count.
    """
    explained = [f for f in fits if f.explained >= AGREES]
    if any(beyond_none(f) >= AT_MOST and _apart_in_layer(f) > FAINT for f in explained):
        return None  # as nearly always
    told = [f for f in explained if _apart_in_layer(f) > FAINT]
    if len(told) < FEWEST_LAYERS:
        return None
    if median([beyond_none(f) for f in told]) >= BY_CHANCE:
        return None
    if _mean([f.scale_correlation for f in told]) >= ALIVE:
        return None
    correlation = _mean([f.correlation for f in told])
    return Cause(
        "unrelated",
        "the running statistics do not belong to the weights",
        f"The weights explain what the channels of {plural(len(told), 'layer')} have in common, "
        f"but not which of them has which mean: these correlate with the predicted ones by "
        f"{correlation:.2f}; in healthy models it is 0.9 or more. Channels in another order, and "
        "statistics of another model, look like this.",
        "Eval mode normalises channels with the means and variances of others.",
        Severity.WARNING,
    )


def _apart_in_layer(fit: Fit) -> float:
    """Mean square by which the channels' means differ from each other, in their deviations."""
    means, weight = weighted_means(fit.link)
    middle = float(means @ weight) / float(weight.sum())
    return float(np.square(means - middle) @ weight) / means.size


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
