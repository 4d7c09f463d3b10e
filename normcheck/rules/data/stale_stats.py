"""Running statistics that lie outside the interval of the data's.

## What it does
Runs the model on your data with every batch norm normalising by the batch, so that each layer
shows its own error and none of the layers before it. At each batch norm it takes mean and second
moment per channel and *per sample*: the sample is the unit, for pixels of one image are not
independent. A channel counts where the lower bound of its shift, or of its log variance ratio, is
above 0.1 at a confidence that is corrected for all channels of the model. So a handful of samples
never accuses a healthy layer.

## Why is this bad?
Eval mode normalises with the stored statistics. Where they are those of other weights (an average
of weights whose buffers were not updated), of other data or of too few batches, activations are
shifted and scaled, and predictions suffer without any error.

## How severe
Moments alone neither acquit nor convict: batch norms frozen from the first step or fine-tuned in
eval mode differ from the data and predict well. So the outputs decide.

- **error**: labels show that re-estimated statistics give significantly more right answers (exact
  McNemar test at 1 %, each answer under the statistics of all other samples); a warning where
  these are less than a point of accuracy and less than a fifth of the wrong answers;
- **warning**: labels show that the loss falls (a paired test over the samples, each set of scores
  at the temperature that suits it best), that no more answers turn wrong than right, and that one
  in a hundred is expected to become right, by both sets of scores together. Or that answers
  and losses gain where only the norms that are off get re-estimated statistics: those of all are
  noisy, and the noise hides harm. Or, without
  labels, the decisions are clearer under re-estimated statistics by three measures: weights decide
  most clearly under the statistics that they were trained with. Or norms are off all over, and
  decisions change without becoming vaguer. Predicted numbers: a fall of the squared error by
  a twentieth for sure (95 %); by a fifth it is an error;
- **info**: outputs do not change, or nothing tells which statistics are right. Answers that change
  both ways show no harm; where the accuracy may all the same be two points lower by the stored
  statistics (95 % interval), layers that are off get no check mark, and a scan takes more samples.

How often each is wrong is measured: see [running](../running.md).

Statistics that a rule on the file has named already (never updated, reset, under-warmed, foreign)
are not named again: that finding gets these numbers.

## What to do
Re-estimate on training data: `normcheck fix` writes a repaired copy where that helps. Give labels
with the data where the severity leaves you in doubt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcheck.findings import Evidence, Finding, Severity
from normcheck.norms.layer_numbers import median
from normcheck.rules.channels_off import MATERIAL, share_off
from normcheck.rules.data.meant_code import meant_code
from normcheck.rules.data.skill import is_blind
from normcheck.rules.data.unfamiliar_input import unfamiliar
from normcheck.rules.data_verdict import Verdict, verdict
from normcheck.rules.harm import Harm
from normcheck.rules.rule import Need, Rule, Subject, impossible_statistics, place
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.measurement import AgainstData, Fed
    from normcheck.norms.layer import Floats

_MOSTLY = 0.5
"""Share of the first norm's channels from which the input is a suspect as well."""
_NAMED = 3
"""Layers named in the ranking."""


def check(subject: Subject) -> Iterator[Finding]:
    """All layers that are off in one finding; silent where the input is what is off."""
    judged = verdict(subject.run) if subject.run else None
    if judged is None or impossible_statistics(subject):
        return
    if not judged.off or unfamiliar(judged, subject) is not None:
        return
    data = subject.run.against_data if subject.run else None
    if meant_code(data, judged.harm) is not None:
        return  # other-code names it: the statistics are right, of another function
    severity, confidence = judged.severity
    paths = list(dict.fromkeys(d.path for d in judged.off))
    means = max(_median(d.shift) for d in judged.off)
    scales = max(_median(d.log_scale) for d in judged.off)
    yield RULE.finding(
        severity=severity,
        confidence=confidence,
        layers=paths,
        title="the running statistics are not those of the data",
        detail=(
            f"Off by up to {number(means)} standard deviations in the mean and a factor of "
            f"{number(float(np.exp(scales)))} in the variance (medians over a layer's channels; "
            f"{plural(judged.off[0].samples, 'sample')}). {judged.text}"
        ),
        consequence=_consequence(judged) + _first(data) + (_ranking(data) if data else ""),
        fix=_fix(judged, subject.run.fed if subject.run else None, data),
        evidence=(
            Evidence("largest share of channels off", max(share_off(d) for d in judged.off), 0.0),
            Evidence("median shift in standard deviations", means, MATERIAL),
            Evidence("median log variance ratio", scales, MATERIAL),
        ),
    )


_CONSEQUENCES = {
    Harm.PROVEN: "Predictions in eval mode are worse than the weights can do.",
    Harm.SHOWN: "Predictions in eval mode are less sure of the right answers than they could be.",
    Harm.HINTED: "Predictions in eval mode are probably worse than the weights can do.",
    Harm.STORED_RIGHT: "The weights know these statistics: re-estimating would harm.",
    Harm.NONE: "Predictions do not suffer on these samples.",
    Harm.OPEN: "These samples show no harm, and are too few to exclude it.",
    Harm.UNKNOWN: "It may not matter: statistics that were frozen in training look the same.",
}


def _first(data: AgainstData | None) -> str:
    """A doubt where the first norm, which only the input precedes, is among the worst."""
    shares = [share_off(drift) for drift in data.drifts] if data else []
    if len(shares) < 2 or shares[0] < _MOSTLY or shares[0] < max(shares[1:]):
        return ""
    return " The first norm is off the most: rule out another preprocessing first."


def _consequence(judged: Verdict) -> str:
    if judged.both_guess:
        return "With these or others, the model answers no better than guessing."
    if judged.guesses and judged.harm is Harm.STORED_RIGHT:
        return "With them the model answers no better than guessing; new ones would not help."
    return _CONSEQUENCES[judged.harm]


def _fix(judged: Verdict, fed: Fed | None, data: AgainstData | None) -> str:
    """What to do: re-estimate, keep the file, or give what would tell."""
    if judged.both_guess:
        return (
            "check labels and preprocessing first: with neither statistics the model knows anything"
        )
    if judged.harm in (Harm.PROVEN, Harm.SHOWN, Harm.HINTED):
        return "re-estimate the statistics on training data (normcheck fix --model … --data …)"
    if fed is None or data is None or not fed.labelled:
        return "give labels with the data to see whether it matters; keep the file if not"
    if judged.harm in (Harm.NONE, Harm.STORED_RIGHT):
        return "keep the file as it is"
    if data.answers is None and data.loss_t is None:
        return "give labels that the outputs predict, to see whether it matters"
    if data.answers is not None and is_blind(data.answers):
        return "give samples of all classes, as mixed as the training's, to see whether it matters"
    return (
        "give more labelled samples to see whether it matters "
        f"(--samples {_TIMES * fed.samples}, where the data hold them); keep the file if not"
    )


_TIMES = 4
"""As many samples halve what they leave open."""


def _median(values: Floats) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return median(finite) if finite.size else float("inf")


def _ranking(data: AgainstData) -> str:
    """The layers that close most of the gap, where some stand out."""
    named = [c for c in data.closings[:_NAMED] if c.share >= 0.1]
    if len(data.closings) < 2 or not named:
        return ""
    shares = ", ".join(f"{place(c.path)} ({percent(c.share)})" for c in named)
    return f" Most to blame, by the share of the gap in outputs: {shares}."


RULE = Rule(
    code="NC401",
    name="stale-stats",
    summary="running statistics outside those of your data",
    severity=Severity.ERROR,
    need=Need.DATA,
    page=__doc__ or "",
    check=check,
)
