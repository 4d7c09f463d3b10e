"""What the clearness of decisions hints at, where there are no labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcheck.norms.layer_numbers import median
from normcheck.rules.channels_off import share_off

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.live.measurement import AgainstData, Drift
    from normcheck.norms.layer import Floats

CLEARER = 4.0
"""Paired t of the margins, in deviations and in scores, and of the entropies from which decisions
count as clearer without labels: augmentation moves one of them and fine-tuning in eval mode
another. Below minus as much, the stored ones count as clearer."""
SURER = (5.0, 10.0)
"""Paired t of the margins in scores and of the entropies from which that needs no margin in
deviations, which says nothing of models that seldom decide clearly."""
MOST_VAGUE = 0.7
"""Mean entropy under re-estimated statistics, in parts of that of guessing, up to which decisions
are any: noise leaves 0.7 and more."""
BEHIND_FIRST = (0.15, 0.3)
"""Share of a later norm's channels that has to be off, at least and in parts of the first norm's:
where the first alone is off, it is the input that differs, as clean data do from augmented ones."""
LED_BY_FIRST = 0.6
"""Share of the first norm's channels off from which no later one may be off less: of noise 0.62 to
0.98 are, and fewer behind it."""
ALL_OVER = 0.6
"""Share of a later norm's channels off, in parts of the first norm's, from which decisions need not
become clearer: it is enough that they change and do not become vaguer, as they do where weights
were trained on the stored statistics."""
CHANGED = 0.05
"""Share of decisions that have to change for that."""
VAGUER = (-4.0, 0.0)
"""Paired t of the margins in scores and of the entropies down to which decisions are not vaguer."""
MADE_UP_FOR = 0.3
"""Log variance ratio of the first norm, one way, and of a later one, the other way, from which
weights have made up for another input: fine-tuned with the statistics kept."""


def clearer(data: AgainstData) -> bool:
    """Whether decisions are clearer under re-estimated statistics, by every measure of it."""
    found = data.decisiveness
    if found is None or found.vague > MOST_VAGUE or not _behind_first(data.drifts):
        return False
    margin, entropy = SURER
    return min(found.t, found.margin_t, found.entropy_t) >= CLEARER or (
        found.margin_t >= margin and found.entropy_t >= entropy
    )


def changed_all_over(data: AgainstData) -> bool:
    """Whether norms are off all over, and decisions change without becoming vaguer by it."""
    found, given = data.decisiveness, data.regime("re-estimated")
    shares = [share_off(drift) for drift in data.drifts]
    if found is None or given is None or len(shares) < 2 or not _behind_first(data.drifts):
        return False
    return (
        found.vague <= MOST_VAGUE
        and max(shares[1:]) >= ALL_OVER * shares[0]
        and (given.flips or 0.0) >= CHANGED
        and found.margin_t >= VAGUER[0]
        and found.entropy_t >= VAGUER[1]
    )


def _behind_first(drifts: Sequence[Drift]) -> bool:
    """Whether more than the first norm is off, and not as where weights made up for its input."""
    if len(drifts) < 2:
        return True  # a repair measures no drifts
    shares = [share_off(drift) for drift in drifts]
    least, part = BEHIND_FIRST
    most = max(shares[1:])
    if most < max(least, part * shares[0]) or shares[0] > max(LED_BY_FIRST, most):
        return False
    first, *later = (_middle(drift.log_scale) for drift in drifts)
    opposite = max(later) if first < 0 else -min(later)
    return not (abs(first) > MADE_UP_FOR and opposite > MADE_UP_FOR)


def _middle(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return median(finite) if finite.size else 0.0
