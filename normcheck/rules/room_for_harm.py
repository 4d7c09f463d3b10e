"""How much harm the user's labels leave room for where they show none.

Answers that change both ways show no harm and exclude none: of 256 samples of which an eighth
change, five points of accuracy may be lost by chance unseen.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

from normcheck.rules.harm_by_outputs import ONE_SIDED

if TYPE_CHECKING:
    from normcheck.live.measurement import AgainstData

TOO_MUCH = 0.02
"""Accuracy that may be lost from which labels leave open whether statistics are harmless."""
_ADDED = 0.5
"""Added to each of the four counts of a paired comparison, so that no change is no certainty."""


def most_lost(data: AgainstData) -> float | None:
    """The accuracy that the stored statistics may cost: the upper end of its interval, 95 %.

    The interval of Agresti and Min for paired proportions (Statistics in Medicine 24, 2005): of
    healed answers b and harmed ones c of n, with half an answer added to each of the four counts,
    (b - c) / (n + 2) with the variance ((b + c + 1) - (b - c)^2 / (n + 2)) / (n + 2)^2.

    Returns:
        A share from 0 to 1; None where there are no answers to count.
    """
    if data.answers is None or data.healed is None:
        return None
    healed, harmed = data.healed, data.harmed or 0
    samples = data.answers.samples + 4 * _ADDED
    difference = healed - harmed
    spread = sqrt(healed + harmed + 2 * _ADDED - difference**2 / samples)
    return max(0.0, (difference + ONE_SIDED * spread) / samples)


def leaves_room(data: AgainstData) -> bool:
    """Whether so much may be lost that labels which show no harm do not exclude it."""
    lost = most_lost(data)
    return lost is not None and lost >= TOO_MUCH
