"""What data say about statistics: whether they are off, whether it matters, which are right.

Moments alone neither acquit nor convict: batch norms that were frozen from the first step, or
fine-tuned in eval mode, have statistics far from the data's and predict well. What decides is
the mode that the weights were trained for. Labels show it; without labels the clearness of the
decisions hints at it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import comb
from typing import TYPE_CHECKING

import numpy as np

from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from normcheck.live.measurement import AgainstData, Drift, Run

MATERIAL = 0.1
"""Lower bound of a shift in standard deviations, or of a log variance ratio, that counts.

Measured on networks for digits: no channel of a healthy model reaches it with 16, 64 or 256
samples; with 1 % of the initial value left one channel in 128 does."""
SIGNIFICANT = 0.05
"""Probability, if neither set of statistics were better, of so many answers changing one way."""
CLEARER = 2.0
"""Paired t of the margins from which decisions count as clearer: harmful cases have 2.1 to 28,
look-alikes and healthy models at most 0.7."""
ENOUGH_LABELS = 200
"""Labelled samples with which no change for the better means no harm."""


class Harm(StrEnum):
    """What the stored statistics do to the outputs on the user's data."""

    PROVEN = "proven"
    """Labels show that re-estimated statistics predict better."""
    HINTED = "hinted"
    """No labels; decisions are clearer under re-estimated statistics."""
    STORED_RIGHT = "stored are right"
    """Labels, or the clearness of decisions, speak for the stored ones."""
    NONE = "none"
    """Nothing changes that would matter."""
    UNKNOWN = "unknown"
    """Outputs change, and nothing tells which are right."""


@dataclass(frozen=True, slots=True, eq=False)
class Verdict:
    """The verdict on one model's statistics, and the words for it."""

    harm: Harm
    text: str
    """The measured numbers, in a sentence or two."""
    off: tuple[Drift, ...]
    """Layers whose statistics lie provably outside those of the data."""


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
    harm = _harm(data)
    return Verdict(harm, _words(harm, data), tuple(d for d in data.drifts if share_off(d) > 0))


def share_off(drift: Drift) -> float:
    """The share of a layer's channels that lie provably and materially off."""
    with np.errstate(invalid="ignore"):
        return float(np.mean((drift.shift_bound > MATERIAL) | (drift.log_scale_bound > MATERIAL)))


def _harm(data: AgainstData) -> Harm:
    given = data.regime("re-estimated")
    samples = given.samples if given else 0
    if data.healed is not None and data.harmed is not None:
        if data.healed > data.harmed and sign_test(data.healed, data.harmed) < SIGNIFICANT:
            return Harm.PROVEN
        if data.harmed > data.healed and sign_test(data.harmed, data.healed) < SIGNIFICANT:
            return Harm.STORED_RIGHT
        if samples >= ENOUGH_LABELS:
            return Harm.NONE
    elif data.loss_t is not None and abs(data.loss_t) > CLEARER:
        return Harm.PROVEN if data.loss_t > 0 else Harm.STORED_RIGHT
    if data.decisiveness is not None:
        if data.decisiveness.t >= CLEARER:
            return Harm.HINTED
        if given and given.flips:
            return Harm.STORED_RIGHT if data.decisiveness.t <= -CLEARER else Harm.UNKNOWN
        return Harm.NONE
    return Harm.UNKNOWN if given is None or _changes(data) else Harm.NONE


def _changes(data: AgainstData) -> bool:
    """Whether outputs change by more than estimating from half of the data explains."""
    given = data.regime("re-estimated")
    if given is None or not np.isfinite(given.difference):
        return True
    return bool(given.flips) or (data.effect or 0.0) > _HEALTHY_EFFECT


_HEALTHY_EFFECT = 1.5
"""Largest ratio of |eval - batch| to |batch - batch'| that a healthy model showed."""


def sign_test(more: int, fewer: int) -> float:
    """Probability of at least ``more`` of all changed answers going one way by chance.

    The exact one-sided test of McNemar.
    """
    total = more + fewer
    if total > 1000:
        return 0.0 if more - fewer > 4 * total**0.5 else 1.0
    return float(sum(comb(total, k) for k in range(more, total + 1)) / 2**total)


def _words(harm: Harm, data: AgainstData) -> str:
    stored, given = data.regime("eval"), data.regime("re-estimated")
    assert stored is not None  # noqa: S101  (both are there where one is)
    assert given is not None  # noqa: S101
    before = _accuracy_before(data)
    parts = []
    if given.accuracy is not None and before is not None:
        parts.append(
            f"On {plural(given.samples, 'labelled sample')} accuracy is {percent(before)} with the "
            f"stored statistics and {percent(given.accuracy)} with statistics re-estimated from "
            "other samples."
        )
    elif given.loss is not None and stored.loss is not None:
        parts.append(
            f"On {plural(given.samples, 'labelled sample')} the loss is {number(stored.loss)} with "
            f"the stored statistics and {number(given.loss)} with re-estimated ones."
        )
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
    if harm is Harm.UNKNOWN:
        parts.append("Which are right cannot be told without labels.")
    return " ".join(parts)


def _accuracy_before(data: AgainstData) -> float | None:
    given = data.regime("re-estimated")
    if given is None or given.accuracy is None or data.healed is None or data.harmed is None:
        return None
    return given.accuracy - (data.healed - data.harmed) / max(1, given.samples)
