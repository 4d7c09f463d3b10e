"""Reasons not to write statistics that random fields gave, which the user may overrule.

Without data nobody sees whether answers become better. What is seen is how many decisions on the
fields change, and how far the statistics move; where that is little, the stored ones may be the
better ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.norms.layer_numbers import median
from normcheck.repair.emergency.permission import GIVE_DATA
from normcheck.repair.estimating.proof import UNSETTLED
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.repair.estimating.estimate import Estimate

AS_HEALTHY = (0.6, 0.5)
"""Share of decisions on fields that has to change, under the usual ones and under those that are
fitted to the first norm, where most norms are replaced or statistics are only unlike the weights.
Random fields are near no class: of networks that are healthy half change more than 0.52 and 0.36,
one in ten more than 0.62 and 0.52 (70 of ``benchmarks/repair_without_data.py``). Where no more
change, the stored statistics may do as well."""
OF_FEW = 0.4
"""The same where a few norms are replaced that have lost theirs. Of 51 networks that lost those of
one norm 20 change fewer: the loss costs them 1 point, 6 at most, and the repair made 3 worse, one
of them surely; of the other 31, which lose 20, it made 2 worse and none surely."""
ITS_OWN = 0.75
"""Correlation, over the channels of a norm, of the stored means with those that the fields give, by
the median of the norms that are only unlike the weights, from which the stored ones are the model's
own, of another time of its training. Of networks of ``benchmarks/repair_without_data.py``, 9 by
which it was set and 9 of another seed, those of other weights have 0.26 and 0.60 at most, those of
an early epoch 0.44 to 0.89 (but for tanh) and averages 0.96 and more. Of 41 repairs of an early
epoch 2 were surely for the worse, at 0.80 and 0.84."""


def objections(
    estimate: Estimate, flips: float | None, least: float, alike: Sequence[float], *, lost: bool
) -> Iterator[str]:
    """What speaks against writing them, in words.

    Args:
        estimate: The statistics.
        flips: Share of decisions on fields that they change; None where there are no decisions.
        least: Share that has to change; 0 where the stored statistics cannot be.
        alike: Correlation of the new means with the stored ones, over the channels, of each norm
            that is only unlike the weights.
        lost: Whether it is known that the weights were not trained with 0 and 1.
    """
    if estimate.residual > UNSETTLED:
        yield (
            f"the statistics do not reproduce themselves: after {plural(estimate.rounds, 'pass')} "
            f"one more still moves a channel by {number(estimate.residual)} standard deviations"
        )
    if not lost:
        yield (
            "nothing tells whether the statistics were lost, or the weights trained with 0 and 1 "
            "(in eval mode throughout), which new ones would ruin: force it only if the model "
            f"guesses as it is, and was trained with model.train(); otherwise {GIVE_DATA}"
        )
    if flips is not None and flips < least:
        yield (f"only {percent(flips)} of the decisions on random images would change: {_AS_WELL}")
    own = median(alike) if alike else 0.0
    if own >= ITS_OWN:
        yield (
            "the stored means go with those that random images give (their correlation over the "
            f"channels is {number(own)}), so they are the model's own, of another time of its "
            f"training, and only mildly off: {_AS_WELL}"
        )


_AS_WELL = (
    "the stored statistics may do as well, or better. Force it only if the model guesses as it is; "
    f"otherwise {GIVE_DATA}"
)
