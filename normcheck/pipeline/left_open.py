"""What statistics can hide while their means follow the weights.

Means that follow the weights vouch for a layer's channels, and for the size of its means. Averages
of weights whose statistics are of another time keep both, roughly: an exponential average (EMA)
that still holds a share r of the initial 0 and 1 has means, weights and biases that all lag behind
together, and networks of 60 % instead of 99 % accuracy fit as well as healthy ones. Their
variances show it, or what else the file holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.norms.belonging.fit import beyond_prediction
from normcheck.norms.layer_numbers import median
from normcheck.rules.evidence.copied_statistics import copied_apart
from normcheck.wording import number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.norms.anatomy import Anatomy
    from normcheck.norms.belonging.first_norm import FirstNorm
    from normcheck.norms.layer import NormLayer

LOOSE = 0.22
"""How loosely the variances of the first norm may follow its weights for means to vouch."""
OF_TWO = (
    "their means fit, but the first norm's variances do not: so where weights of two trainings "
    "were averaged, and statistics with them"
)
FLOOR, FLOOR_AND_FLAT = 0.17, 0.10
"""Smallest variance of a whole model from which it may be the rest of an initial 1, alone and where
the first norm's variances are flattened, too. No variance lies below that rest. Of 113 healthy
networks of two dozen styles, trained for 200 to 400 steps, the largest is 0.156, and published
ones lie decades below or above 1. Of averages that still held 13 % every one was above 0.19, but
for depthwise convolutions, whose variances are small (0.15)."""
FLATTENED = 0.8
"""Slope of the first norm's log variances over those that its weights make, below which they are
flattened: 0.85 to 1.3 in nine of ten healthy ones, 0.5 to 0.8 with 5 to 13 % of the initial 1."""
ALL_INITIAL = 1.0
"""Smallest variance from which it is no rest: that is below the initial 1."""
COPIED = (
    "their means fit, but they are bit for bit the statistics of {}, whose weights explain them "
    "better"
)
PARTED = 1.25
"""What an averaged copy misses over what the copy does whose statistics it has: 0.9 to 1.2 where
training ended on a learning rate of 0 and the two hardly differ."""
OFF_AVERAGED = 0.08
"""Distance of means from what averaged weights predict, in deviations, the median over the links,
beyond which they may be those of the raw model: 0.02 to 0.07 after ``update_bn``."""
OF_RAW = (
    "their means fit, but loosely for averaged weights: so where update_bn was not called after "
    "averaging, and the statistics are the raw model's"
)
FEWEST_LINKS = 3


def left_open(anatomy: Anatomy, siblings: Sequence[Anatomy]) -> str:
    """Why means that follow the weights vouch for no layer of a model; empty where they do.

    Args:
        anatomy: Of the model.
        siblings: The other models of its file.
    """
    first = anatomy.first
    if first is not None and first.loose > LOOSE:
        return OF_TWO
    if (rest := possible_rest(anatomy.layers, first)) is not None:
        return (
            f"their means fit, but no variance lies below {number(rest)}: inputs may vary so much, "
            "or so much of the initial 1 be left, as in an average (EMA) of too few updates"
        )
    if siblings and (source := copied_apart(anatomy, siblings, PARTED)) is not None:
        return COPIED.format(f"'{source}'" if source else "the other copy")
    if anatomy.averages and anatomy.agreement is not None:
        sums = set(map(id, anatomy.agreement.by_sums))  # they fit more loosely, in health as well
        fits = [fit for fit in anatomy.agreement.agreeing if id(fit) not in sums]
        off = [beyond_prediction(fit) for fit in fits]
        if len(off) >= FEWEST_LINKS and median(off) > OFF_AVERAGED:
            return OF_RAW
    return ""


def possible_rest(layers: Sequence[NormLayer], first: FirstNorm | None) -> float | None:
    """How much of the initial 1 all variances of a model may hold; None where it is little.

    Args:
        layers: Of the model; those without statistics tell nothing.
        first: What its first norm tells.
    """
    lowest = min(
        (n.running_var.lowest for n in layers if n.has_statistics and n.running_var is not None),
        default=0.0,
    )
    if not FLOOR_AND_FLAT <= lowest < ALL_INITIAL:
        return None
    flat = first is not None and first.spread is not None and first.spread < FLATTENED
    return float(lowest) if lowest >= FLOOR or flat else None
