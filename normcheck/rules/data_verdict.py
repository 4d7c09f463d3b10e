"""What data say about statistics: whether they are off, whether it matters, which are right.

Moments alone neither acquit nor convict: batch norms that were frozen from the first step, or
fine-tuned in eval mode, have statistics far from the data's and predict well. What decides is
the mode that the weights were trained for. Labels show it; without labels the clearness of the
decisions hints at it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcheck.findings import Confidence, Severity
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer_numbers import median
from normcheck.rules.data.skill import (
    both_guess,
    guesses,
    in_words,
    places_in_words,
    sign_test,
    skill_in_words,
)
from normcheck.rules.harm import Harm
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.live.measurement import AgainstData, Drift, Run
    from normcheck.norms.layer import Floats

MATERIAL = 0.1
"""Lower bound of a shift in standard deviations, or of a log variance ratio, that counts.

Measured on networks for digits: no channel of a healthy model reaches it with 16, 64 or 256
samples; with 1 % of the initial value left one channel in 128 does."""
SIGNIFICANT = 0.01
"""Probability, if neither set of statistics were better, of so many answers changing one way."""
BETTER = 3.5
"""Paired t of the losses plus twice the z of the changed answers, from which re-estimated
statistics count as better; below minus as much, the stored ones do. ``benchmarks/run_verdicts.py``
measures how often that is wrong and how much harm it finds: the table is in ``docs/running.md``."""
BETTER_THOUGH_NEAR = 7.2
"""The same where hardly any channel is off: statistics of the last batches of a training at a
constant rate lag by as little, in networks that nobody calls sick."""
NEAR = 0.03
"""Share of channels off, over all layers, below which that holds."""
FALLS = (0.1, 0.25)
"""Part of the squared error of predicted numbers that re-estimated statistics take away, from which
it is worth a warning, and an error: running averages that lag behind the last steps of a training
at a constant rate cost a healthy denoiser 0.04."""
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
BEHIND_FIRST = (0.1, 0.3)
"""Share of a later norm's channels that has to be off, at least and in parts of the first norm's:
where the first alone is off, it is the input that differs, as clean data do from augmented ones."""
MADE_UP_FOR = 0.3
"""Log variance ratio of the first norm, one way, and of a later one, the other way, from which
weights have made up for another input: fine-tuned with the statistics kept."""
ENOUGH_LABELS = 200
"""Labelled samples with which no change for the better means no harm."""


@lazy_dataclass(eq=False)
class Verdict:
    """The verdict on one model's statistics, and the words for it."""

    harm: Harm
    text: str
    """The measured numbers, in a sentence or two."""
    off: tuple[Drift, ...]
    """Layers whose statistics lie provably outside those of the data."""
    guesses: bool = False
    """Whether the model is as wrong as guessing on the user's labels, as it is used."""
    both_guess: bool = False
    """Whether it is so with re-estimated statistics, too."""

    @property
    def severity(self) -> tuple[Severity, Confidence]:
        """What a finding deserves that these outputs are the harm of."""
        return _SEVERITIES[self.harm]


_SEVERITIES = {
    Harm.PROVEN: (Severity.ERROR, Confidence.HIGH),
    Harm.SHOWN: (Severity.WARNING, Confidence.HIGH),
    Harm.HINTED: (Severity.WARNING, Confidence.MEDIUM),
    Harm.STORED_RIGHT: (Severity.INFO, Confidence.MEDIUM),
    Harm.NONE: (Severity.INFO, Confidence.HIGH),
    Harm.UNKNOWN: (Severity.INFO, Confidence.LOW),
}


def verdict(run: Run) -> Verdict | None:
    """Judge the stored statistics by a run on the user's data.

    Args:
        run: What was measured.

    Returns:
        None where nothing was re-estimated.
    """
    data = run.against_data
    if data is None or data.regime("re-estimated") is None:
        return None
    return judged(data)


def judged(data: AgainstData) -> Verdict:
    """Judge the stored statistics by what was measured, ``re-estimated`` included."""
    both = both_guess(data)
    # Of two ways to guess, none is the better one, whatever their losses are.
    harm = Harm.UNKNOWN if both else _harm(data)
    off = tuple(d for d in data.drifts if share_off(d) > 0)
    return Verdict(harm, _words(harm, data), off, guesses(data), both)


def share_off(drift: Drift) -> float:
    """The share of a layer's channels that lie provably and materially off."""
    with np.errstate(invalid="ignore"):
        return float(np.mean((drift.shift_bound > MATERIAL) | (drift.log_scale_bound > MATERIAL)))


def _harm(data: AgainstData) -> Harm:
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
        if clearer(data):
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
    if healed > harmed and sign_test(healed, harmed) < SIGNIFICANT:
        return Harm.PROVEN
    if harmed > healed and sign_test(harmed, healed) < SIGNIFICANT:
        return Harm.STORED_RIGHT
    if data.loss_t is None:
        return None
    z = (healed - harmed) / max(1, healed + harmed) ** 0.5
    better = data.loss_t + 2 * z
    if better >= (BETTER_THOUGH_NEAR if _is_near(data) else BETTER) and healed >= harmed:
        return Harm.SHOWN
    return Harm.STORED_RIGHT if better <= -BETTER and harmed >= healed else None


def _by_numbers(data: AgainstData) -> Harm | None:
    """What the errors of predicted numbers decide, which have no answers that could change."""
    stored, given = data.regime("eval"), data.regime("re-estimated")
    if data.loss_t is None or stored is None or given is None:
        return None
    if data.loss_t <= -BETTER:
        return Harm.STORED_RIGHT
    if data.loss_t < (BETTER_THOUGH_NEAR if _is_near(data) else BETTER):
        return None
    fall = 1 - (given.loss or 0.0) / stored.loss if stored.loss else 0.0
    if fall < FALLS[0]:
        return Harm.NONE
    return Harm.PROVEN if not fall < FALLS[1] else Harm.SHOWN


def _is_near(data: AgainstData) -> bool:
    """Whether hardly any channel is off."""
    off = [share_off(drift) for drift in data.drifts]
    return bool(off) and sum(off) < NEAR * len(off)


def clearer(data: AgainstData) -> bool:
    """Whether decisions are clearer under re-estimated statistics, by every measure of it."""
    found = data.decisiveness
    if found is None or found.vague > MOST_VAGUE or not _behind_first(data.drifts):
        return False
    margin, entropy = SURER
    return min(found.t, found.margin_t, found.entropy_t) >= CLEARER or (
        found.margin_t >= margin and found.entropy_t >= entropy
    )


def _behind_first(drifts: Sequence[Drift]) -> bool:
    """Whether more than the first norm is off, and not as where weights made up for its input."""
    if len(drifts) < 2:
        return True  # a repair measures no drifts
    shares = [share_off(drift) for drift in drifts]
    least, part = BEHIND_FIRST
    if max(shares[1:]) < max(least, part * shares[0]):
        return False
    first, *later = (_middle(drift.log_scale) for drift in drifts)
    opposite = max(later) if first < 0 else -min(later)
    return not (abs(first) > MADE_UP_FOR and opposite > MADE_UP_FOR)


def _middle(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return median(finite) if finite.size else 0.0


def _changes(data: AgainstData) -> bool:
    """Whether outputs change by more than estimating from half of the data explains."""
    given = data.regime("re-estimated")
    if given is None or not np.isfinite(given.difference):
        return True
    return bool(given.flips) or (data.effect or 0.0) > _HEALTHY_EFFECT


_HEALTHY_EFFECT = 1.5
"""Largest ratio of |eval - batch| to |batch - batch'| that a healthy model showed."""


def _words(harm: Harm, data: AgainstData) -> str:
    stored, given = data.regime("eval"), data.regime("re-estimated")
    assert stored is not None  # noqa: S101  (both are there where one is)
    assert given is not None  # noqa: S101
    parts = []
    if data.answers is not None and data.given_answers is not None:
        parts.append(in_words(data.answers, data.given_answers, data.healed or 0, data.harmed or 0))
        if data.loss_t is not None and harm is Harm.SHOWN:
            loss = _loss(data)
            parts.append(f"{loss[0].upper()}{loss[1:]}")
    elif given.accuracy is not None and stored.accuracy is not None and data.skill:
        parts.append(
            places_in_words(
                stored.accuracy,
                given.accuracy,
                (data.skill, data.given_skill or data.skill),
                data.healed or 0,
                data.harmed or 0,
            )
        )
    elif given.loss is not None and stored.loss is not None:
        parts.append(f"On {plural(given.samples, 'labelled sample')} {_loss(data)}")
        if data.skill is not None:
            parts.append(f"In eval mode {skill_in_words(data.skill)}.")
    elif given.flips is not None:
        parts.append(
            f"{percent(given.flips)} of {plural(given.samples, 'prediction')} change under "
            "statistics re-estimated from other samples."
        )
    elif np.isfinite(given.difference):
        parts.append(
            f"Outputs change by {percent(given.difference)} under re-estimated statistics."
        )
    if data.decisiveness is not None and given.accuracy is None:
        clear = data.decisiveness
        if harm is Harm.HINTED:
            parts.append(
                f"The model decides more clearly there (median margin {number(clear.given)} "
                f"against {number(clear.stored)}): its weights seem to expect them."
            )
        elif harm is Harm.STORED_RIGHT:
            parts.append(
                f"It decides more clearly with the stored ones (median margin "
                f"{number(clear.stored)} against {number(clear.given)}): its weights seem to "
                "expect these, or the data are one-sided."
            )
    if harm is Harm.UNKNOWN and given.accuracy is None and given.loss is None:
        parts.append("Which are right cannot be told without labels.")
    return " ".join(parts)


def _loss(data: AgainstData) -> str:
    stored, given = data.regime("eval"), data.regime("re-estimated")
    losses = (
        f"the loss is {number(stored.loss)} with the stored statistics and {number(given.loss)} "
        "with re-estimated ones"
        if stored and given and stored.loss is not None and given.loss is not None
        else "the loss differs"
    )
    if data.loss_t is None:
        return f"{losses}."
    return f"{losses} (paired t over samples: {number(data.loss_t)})."
