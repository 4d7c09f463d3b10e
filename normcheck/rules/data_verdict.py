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
from normcheck.rules.channels_off import share_off
from normcheck.rules.data.skill import (
    BEYOND_GUESSING,
    both_guess,
    guesses,
    in_words,
    is_blind,
    places_in_words,
    sign_test,
    skill_in_words,
)
from normcheck.rules.harm import Harm
from normcheck.rules.harm_by_outputs import better_where_off, harm_of
from normcheck.rules.harm_without_labels import clearer
from normcheck.rules.room_for_harm import leaves_room, most_lost
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.measurement import AgainstData, Drift, Run


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
    slight: bool = False
    """Whether the harm is proven, and small: see ``SLIGHT``."""

    @property
    def severity(self) -> tuple[Severity, Confidence]:
        """What a finding deserves that these outputs are the harm of."""
        severity, confidence = _SEVERITIES[self.harm]
        return (Severity.WARNING if self.slight else severity), confidence

    def at_least(self, severity: Severity) -> Severity:
        """That of a finding which has one already: proof makes it graver, never less grave."""
        if self.harm is not Harm.PROVEN:
            return severity
        return max(severity, self.severity[0], key=lambda s: s.rank)


_SEVERITIES = {
    Harm.PROVEN: (Severity.ERROR, Confidence.HIGH),
    Harm.SHOWN: (Severity.WARNING, Confidence.HIGH),
    Harm.HINTED: (Severity.WARNING, Confidence.MEDIUM),
    Harm.STORED_RIGHT: (Severity.INFO, Confidence.MEDIUM),
    Harm.NONE: (Severity.INFO, Confidence.HIGH),
    Harm.OPEN: (Severity.INFO, Confidence.LOW),
    Harm.UNKNOWN: (Severity.INFO, Confidence.LOW),
}


SLIGHT = 0.01
"""Accuracy gained below which proof is no error: many labels, or many decisions for each, prove
what hardly matters ..."""
SLIGHT_OF_ERRORS = 0.2
"""... unless it is this share of the wrong answers, as of numbers an error is of a fifth."""


def is_slight(stored: float | None, given: float | None) -> bool:
    """Whether a gain in accuracy is small, in points and of the answers that are wrong.

    Args:
        stored: Accuracy as the model is used, 0 to 1; None where it was not measured.
        given: The better one that it could have.
    """
    if stored is None or given is None:
        return False
    gain = given - stored
    return gain < SLIGHT and gain < SLIGHT_OF_ERRORS * (1 - stored)


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
    return judged(data, labelled=run.fed.labelled)


def judged(data: AgainstData, *, labelled: bool = False) -> Verdict:
    """Judge the stored statistics by what was measured, ``re-estimated`` included.

    Args:
        data: What was measured.
        labelled: Whether there were labels, of use or not.
    """
    both = both_guess(data)
    # Of two ways to guess, none is the better one, whatever their losses are.
    harm = Harm.UNKNOWN if both else harm_of(data)
    if harm is Harm.NONE and data.answers is not None and is_blind(data.answers):
        harm = Harm.UNKNOWN  # what always answers the same loses nothing by any statistics
    off = tuple(d for d in data.drifts if share_off(d) > 0)
    if harm is Harm.NONE and off and leaves_room(data):
        harm = Harm.OPEN
    stored, given = data.regime("eval"), data.regime("re-estimated")
    slight = (
        harm is Harm.PROVEN
        and stored is not None
        and given is not None
        and is_slight(stored.accuracy, given.accuracy)
    )
    text = _words(harm, data, labelled=labelled)
    return Verdict(harm, text, off, guesses(data), both, slight)


def _words(harm: Harm, data: AgainstData, *, labelled: bool) -> str:
    stored, given = data.regime("eval"), data.regime("re-estimated")
    assert stored is not None  # noqa: S101  (both are there where one is)
    assert given is not None  # noqa: S101
    parts = []
    if data.answers is not None and data.given_answers is not None:
        parts.append(in_words(data.answers, data.given_answers, data.healed or 0, data.harmed or 0))
        parts += _of_losses(harm, data)
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
        if harm is Harm.HINTED and not clearer(data):
            parts.append(
                "They become no vaguer by it, as they would of weights that were trained with the "
                f"stored ones (median margin {number(clear.given)} against {number(clear.stored)})."
            )
        elif harm is Harm.HINTED:
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
    parts += _left_open(harm, data, labelled=labelled)
    return " ".join(parts)


def _left_open(harm: Harm, data: AgainstData, *, labelled: bool) -> Iterator[str]:
    """What outputs do not tell, and why."""
    if harm is Harm.OPEN:
        lost = percent(most_lost(data) or 0.0)
        yield f"So few samples do not exclude that it costs {lost} of accuracy (95 %)."
    if harm is not Harm.UNKNOWN:
        return
    if data.answers is not None and is_blind(data.answers):
        yield "Always answering the most frequent label is as good: these labels cannot show harm."
    given = data.regime("re-estimated")
    if given is not None and given.accuracy is None and given.loss is None:
        yield (
            "Which are right cannot be told: the labels are neither classes nor numbers that the "
            "outputs predict."
            if labelled
            else "Which are right cannot be told without labels."
        )


def _of_losses(harm: Harm, data: AgainstData) -> list[str]:
    """What the losses say where these decide."""
    parts = []
    if data.loss_t is not None and (harm is Harm.SHOWN or _by_losses(data, harm)):
        loss = _loss(data)
        parts.append(f"{loss[0].upper()}{loss[1:]}")
    if harm is Harm.SHOWN and data.exchanged is not None and better_where_off(data):
        parts.append(
            "Where only the norms that are off get re-estimated statistics, "
            f"{percent(data.exchanged.expected_gain)} more answers would be right (paired t at "
            f"the best temperatures: {number(data.exchanged.calibrated_t)})."
        )
    return parts


def _by_losses(data: AgainstData, harm: Harm) -> bool:
    """Whether losses speak for the stored statistics where answers decide nothing."""
    if harm is not Harm.STORED_RIGHT:
        return False
    return sign_test(data.harmed or 0, data.healed or 0) >= BEYOND_GUESSING


def _expected(data: AgainstData) -> str:
    if data.expected_gain is None or data.expected_gain <= 0:
        return ""
    return f"; by both sets of scores {percent(data.expected_gain)} more answers would be right"


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
    if data.calibrated_t is not None:
        return (
            f"{losses} (paired t over samples: {number(data.loss_t)}; with each set of scores at "
            f"its best temperature: {number(data.calibrated_t)}){_expected(data)}."
        )
    return f"{losses} (paired t over samples: {number(data.loss_t)})."
