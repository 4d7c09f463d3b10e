"""What the outputs say of statistics: whether the stored ones or re-estimated ones are right.

With labels, answers and losses decide; without, how clearly the model decides. How often that goes
wrong is measured by ``benchmarks/run_verdicts.py``.
"""

from __future__ import annotations

from math import inf, sqrt
from typing import TYPE_CHECKING

import numpy as np

from normcheck.live.hits import z_of
from normcheck.norms.layer_numbers import median
from normcheck.rules.channels_off import channels_off, is_near, share_off
from normcheck.rules.data.skill import sign_test
from normcheck.rules.harm import Harm
from normcheck.rules.harm_without_labels import BEHIND_FIRST, CLEARER, changed_all_over, clearer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.live.measurement import AgainstData, Drift, Regime

SET_ON = 256
"""Samples on which the levels of t were set."""
SIGNIFICANT = 0.01
"""Probability, if neither set of statistics were better, of so many answers changing one way."""
SIGNIFICANT_ALONE = 0.001
"""The same where no norm is off, and answers speak alone: one healthy network in a hundred has less
than the former by luck, and there are many."""
MORE_RIGHT = 0.01
"""Share of answers that have to be expected to become right under re-estimated statistics: losses
fall a little under them in many a network whose answers do not change."""
RIGHTER = (1.5, 3.0, 6.0)
"""Paired t of the losses at their best temperatures plus the z of the changed answers, from which
re-estimated statistics count as better if so many answers become right: where channels are off;
where hardly one is, but all are by a little more than a running average leaves (``WORTH``), or
where losses as they are speak for the stored ones, as after fine-tuning with frozen norms; and
where not even that is so: as where averages lag behind a training at a constant rate, of which a
network for digits that nobody would call sick has 5.8. How often that is wrong and how much harm
it finds is measured by ``benchmarks/run_verdicts.py``: the table is in ``docs/running.md``."""
UNLUCKY = (-0.6, 2.0)
"""z of the changed answers down to which a few more may have turned wrong than right by luck, where
the t is the second of ``RIGHTER`` and so many times ``MORE_RIGHT`` answers are expected to become
right: none of 217 harmless networks has that, and 3 of 20 that were missed and cost 2 to 5 points
(seeds 420, 421 and 430 of the same program)."""
WORTH = 64
"""Samples down to which the stored variances may be worth no more, by the median over the layers,
for all channels to count as off by a little: two batches of 32, where a running average at
momentum 0.1 is worth nineteen."""
ALONE = (0.5, 0.125)
"""Share of the channels of one norm, not the first, that has to be off, and that of any other's in
parts of it up to which it is off alone. Nothing but its own statistics is off so: input shows in
the first norm, and where weights were trained on the stored statistics, norms are off all over."""
ALONE_RIGHTER = (1.0, 0.008)
"""What is needed there: t plus z, and the share of answers expected to become right."""
RIGHT_WHERE_OFF = 0.004
"""Share of answers expected to become right where only the norms that are off get re-estimated
statistics, from which these count as better, ..."""
SURE_WHERE_OFF = (1.2, 4.0, 9.0)
"""... if more answers become right than wrong and t plus z of that exchange are so much: where
channels are off, where hardly one is, and where it is a single one, as averages that lag behind a
training at a constant rate have: a network for digits that nobody would call sick has 6.0. Where
one norm behind the first is off alone, the first of these is enough. A healthy network has no norm
to exchange, and a look-alike loses by it: of 632 harmless ones (seeds 420, 430, 431 and 440 to 442
of the same program) it accuses one more, and of 221 that cost 2 to 5 points it finds 17 more, 177
in all."""
RIGHTER_ALONE = (2.5, 5.0)
"""The same where nothing tells how many answers would become right, and of numbers the t alone."""
SURER_THROUGHOUT = 6.0
"""Paired t of the losses as they are plus twice the z, from which they count as better there where
later norms are off as much as the first: it alone is off where weights were trained on augmented
input, whose losses are too high or too low with the same answers."""
BETTER = 3.5
"""The same without temperatures (of marks), and where the stored ones count as better:
minus as much."""
BETTER_THOUGH_NEAR = 7.2
"""That where hardly any channel is off: statistics of the last batches of a training at a constant
rate lag by as little, in networks that nobody calls sick."""
FALLS = (0.05, 0.2)
"""Part of the squared error of predicted numbers that re-estimated statistics take away for sure,
by the lower end of its interval, from which it is worth a warning, and an error. How often that
is wrong is measured by ``benchmarks/run_verdicts_numbers.py``: running averages that lag behind
the last steps of a training at a constant rate cost a healthy denoiser 0.04."""
OF_PLACES = 0.03
"""The same of the loss of masks: networks that were trained with noise gain less by luck."""
ONE_SIDED = 1.64
"""Standard errors to the end of an interval of 95 % to one side."""
ENOUGH_LABELS = 200
"""Labelled samples with which no change for the better means no harm."""


def harm_of(data: AgainstData) -> Harm:
    """What the stored statistics do to the outputs, ``re-estimated`` measured; chance apart."""
    given = data.regime("re-estimated")
    samples = given.samples if given else 0
    labelled = _by_labels(data)
    if labelled is not None:
        return labelled
    # Numbers are no scores of classes, however many there are.
    if (data.healed is not None or data.loss_t is not None) and samples >= ENOUGH_LABELS:
        return Harm.NONE
    if data.loss_t is not None and data.healed is None:
        return Harm.UNKNOWN if _changes(data) else Harm.NONE
    if data.decisiveness is not None:
        if clearer(data) or changed_all_over(data):
            return Harm.HINTED
        if given and given.flips:
            less_clear = data.decisiveness.t <= -CLEARER
            return Harm.STORED_RIGHT if less_clear else Harm.UNKNOWN
        return Harm.NONE
    return Harm.UNKNOWN if given is None or _changes(data) else Harm.NONE


def _by_labels(data: AgainstData) -> Harm | None:
    """What answers and losses decide; None where they decide nothing, or there are none."""
    if data.healed is None:
        return _by_numbers(data)
    healed, harmed = data.healed, data.harmed or 0
    if healed > harmed and _changes_places_only(data):
        return None
    if healed > harmed and sign_test(healed, harmed) < significant(data):
        return Harm.PROVEN
    if harmed > healed and sign_test(harmed, healed) < SIGNIFICANT:
        return Harm.STORED_RIGHT
    if data.loss_t is None:
        return None
    z = z_of(healed, harmed)
    better = data.loss_t + 2 * z
    no_fewer_right = healed >= harmed or _may_be_unlucky(data, z)
    shown = (no_fewer_right and _is_better(data, better, z)) or _is_off_alone(data, z)
    if shown or better_where_off(data):
        return Harm.SHOWN
    if better > -BETTER or healed > harmed or (data.calibrated_t or 0.0) + z > 0:
        return None
    return Harm.STORED_RIGHT


def better_where_off(data: AgainstData) -> bool:
    """Whether answers and losses speak for exchanging the norms that are off."""
    found, given = data.exchanged, data.regime("re-estimated")
    if found is None or given is None or found.expected_gain < RIGHT_WHERE_OFF:
        return False
    sure = found.calibrated_t + z_of(found.healed, found.harmed)
    surely, though_few, though_one = SURE_WHERE_OFF
    if _is_one_alone(data.drifts) and not _is_against(data):
        return sure >= surely
    if given.samples < ENOUGH_LABELS or found.healed <= found.harmed:
        return False
    if is_near(data.drifts):
        one = sum(map(channels_off, data.drifts)) <= 1
        surely = (though_one if one else though_few) * _grown(given.samples)
    return sure >= surely


def significant(data: AgainstData) -> float:
    """Probability of answers changing so by chance below which they are proof."""
    off = not data.drifts or any(share_off(drift) > 0 for drift in data.drifts)
    return SIGNIFICANT if off else SIGNIFICANT_ALONE


def _grown(samples: int) -> float:
    """By how much a t has to be larger so that small effects stay below.

    With the samples the t of the same effect grows as their root.
    """
    return sqrt(max(1.0, samples / SET_ON))


def _may_be_unlucky(data: AgainstData, z: float) -> bool:
    """Whether a few more wrong answers are luck, so clearly do the scores speak."""
    least, times = UNLUCKY
    if data.calibrated_t is None or (data.expected_gain or 0.0) < times * MORE_RIGHT or z < least:
        return False
    return data.calibrated_t + z >= RIGHTER[1] and not (is_near(data.drifts) or _is_against(data))


def _is_better(data: AgainstData, better: float, z: float) -> bool:
    """Whether the losses of re-estimated statistics speak for them, answers considered."""
    near, given = is_near(data.drifts), data.regime("re-estimated")
    grown = _grown(given.samples) if near and given else 1.0
    if data.calibrated_t is None:
        return better >= (BETTER_THOUGH_NEAR * grown if near else BETTER)
    if data.expected_gain is not None:
        level = (2 if _worth(data.drifts) > WORTH else 1) if near else int(_is_against(data))
        least = RIGHTER[level] * (grown if level == 2 else 1.0)
        return data.expected_gain >= MORE_RIGHT and data.calibrated_t + z >= least
    if data.calibrated_t + z >= RIGHTER_ALONE[near or _is_against(data)] * grown:
        return True
    shares = [share_off(drift) for drift in data.drifts]
    throughout = len(shares) > 1 and max(shares[1:]) >= max(BEHIND_FIRST[0], shares[0])
    return throughout and better >= SURER_THROUGHOUT


def _is_against(data: AgainstData) -> bool:
    """Whether losses as they are speak for the stored statistics, whatever suits the scores."""
    return data.loss_t is not None and data.loss_t <= -BETTER


def _worth(drifts: Sequence[Drift]) -> float:
    """Samples that the stored variances are worth, by the median over the layers."""
    misfit = median([1 / drift.worth for drift in drifts])
    return 1 / misfit if misfit else inf


def _is_off_alone(data: AgainstData, z: float) -> bool:
    """Whether one norm alone is off, and losses and scores do not speak against that."""
    if data.calibrated_t is None or data.expected_gain is None or _is_against(data):
        return False
    least, right = ALONE_RIGHTER
    right_enough = data.calibrated_t + z >= least and data.expected_gain >= right
    return right_enough and _is_one_alone(data.drifts)


def _is_one_alone(drifts: Sequence[Drift]) -> bool:
    """Whether one norm behind the first is off, and its neighbours are right."""
    if len(drifts) < 2:
        return False
    shares = [share_off(drift) for drift in drifts]
    most = max(shares[1:])
    others = sorted(shares)[-2] if most >= shares[0] else most
    return most >= ALONE[0] and most >= shares[0] and others <= ALONE[1] * most


def _by_numbers(data: AgainstData) -> Harm | None:
    """What the errors of predicted numbers decide, which have no answers that could change."""
    stored, given = data.regime("eval"), data.regime("re-estimated")
    if data.loss_t is None or stored is None or given is None:
        return None
    if data.loss_t <= -BETTER:
        return Harm.STORED_RIGHT
    if data.loss_t < RIGHTER_ALONE[is_near(data.drifts)]:
        return None
    if _fall(stored, given) < FALLS[0]:
        return Harm.NONE
    surely = _surely_falls(data, stored, given)
    if surely < FALLS[0]:
        return None
    # Not a number, as of a loss that was infinite, is no little fall.
    return Harm.PROVEN if not surely < FALLS[1] else Harm.SHOWN


def _changes_places_only(data: AgainstData) -> bool:
    """Whether masks or tokens gain next to nothing, however many samples gain it.

    A single place is enough for a sample to be answered better.
    """
    stored, given = data.regime("eval"), data.regime("re-estimated")
    if data.skill is None or data.skill.of != "places" or stored is None or given is None:
        return False
    return _surely_falls(data, stored, given) < OF_PLACES


def _fall(stored: Regime, given: Regime) -> float:
    return 1 - (given.loss or 0.0) / stored.loss if stored.loss else 0.0


def _surely_falls(data: AgainstData, stored: Regime, given: Regime) -> float:
    """The part of the loss that re-estimated statistics take away: the lower end of its interval.

    A paired t is a mean in its standard errors. Not a number where a loss was infinite.
    """
    fall, t = _fall(stored, given), data.loss_t or 0.0
    return fall * (1 - ONE_SIDED / t) if t > 0 else min(fall, 0.0)


def _changes(data: AgainstData) -> bool:
    """Whether outputs change by more than estimating from half of the data explains."""
    given = data.regime("re-estimated")
    if given is None or not np.isfinite(given.difference):
        return True
    return bool(given.flips) or (data.effect or 0.0) > _HEALTHY_EFFECT


_HEALTHY_EFFECT = 1.5
"""Largest ratio of |eval - batch| to |batch - batch'| that a healthy model showed."""
