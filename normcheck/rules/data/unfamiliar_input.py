"""The first norm sees something else than it was trained on, and the others do not.

## What it does
With every batch norm normalising by the batch, an error in the scale or offset of the input shows
in the first batch norm only: it normalises it away. Stale statistics show in all layers. Where most
channels of the first norm are provably off and the later norms are not, the input is to blame.

## Why is this bad?
The model was trained with another preprocessing: pixels from 0 to 255 instead of 0 to 1, no mean
subtracted, another channel order. In eval mode every prediction is made on input that the model
does not know.

## How severe
As NC401: an error where labels show that predictions suffer, a warning where the decisions hint at
it, else info: a first layer that was frozen while the data changed looks the same.

## What to do
Compare the preprocessing with that of training. One constant ratio over all channels is a factor
in the input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.layer_numbers import median
from normcheck.rules.data_verdict import MATERIAL, Harm, Verdict, share_off, verdict
from normcheck.rules.rule import Need, Rule, Subject, impossible_statistics
from normcheck.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.measurement import Drift

_SHARE = 0.5
"""Of the first norm's channels that have to be off."""
_ELSEWHERE = 0.25
"""Largest share off in later norms, in parts of the first norm's."""
_FEWEST_LAYERS = 3
"""With fewer, a first norm that is off cannot be told from a model that is."""
_CONSTANT = 0.2
"""Scatter of the log variance ratio over channels below which it is one factor."""


def check(subject: Subject) -> Iterator[Finding]:
    """One finding on the first norm."""
    judged = verdict(subject.run) if subject.run else None
    if judged is None or impossible_statistics(subject):
        return
    first = unfamiliar(judged, subject)
    if first is None:
        return
    shift, log_scale = median(np.abs(first.shift)), median(first.log_scale)
    scatter = float(np.percentile(first.log_scale, 75) - np.percentile(first.log_scale, 25))
    factor = ""
    if scatter < _CONSTANT and abs(log_scale) > _CONSTANT:
        factor = (
            f" The ratio is the same in all channels: the input seems to be multiplied by "
            f"{number(float(np.exp(log_scale / 2)))}."
        )
    severity, confidence = {
        Harm.PROVEN: (Severity.ERROR, Confidence.HIGH),
        Harm.HINTED: (Severity.WARNING, Confidence.MEDIUM),
    }.get(judged.harm, (Severity.INFO, Confidence.LOW))
    yield RULE.finding(
        severity=severity,
        confidence=confidence,
        layers=[first.path],
        title="the input does not look like the training data",
        detail=(
            f"The first norm is off by {number(shift)} standard deviations in the mean and a "
            f"factor of {number(float(np.exp(log_scale)))} in the variance (medians), the later "
            f"ones agree with their statistics.{factor} {judged.text}"
        ),
        consequence=(
            "Predictions are made on input that the model was not trained on: another range, mean "
            "or channel order."
        ),
        fix="compare the preprocessing with that of training (scale, mean and std, channel order)",
        evidence=(
            Evidence("share of the first norm's channels off", share_off(first), _SHARE),
            Evidence("median shift in standard deviations", shift, MATERIAL),
            Evidence("median log variance ratio", log_scale, MATERIAL),
        ),
    )


def unfamiliar(judged: Verdict, subject: Subject) -> Drift | None:
    """The first norm, where it alone is off; None where it is not, or others are as well."""
    data = subject.run.against_data if subject.run else None
    drifts = data.drifts if data else ()
    if len(drifts) < _FEWEST_LAYERS or judged.harm is Harm.STORED_RIGHT:
        return None
    first, later = drifts[0], drifts[1:]
    share = share_off(first)
    if share < _SHARE or first.at_initial_values:
        return None
    others = float(np.mean([share_off(drift) for drift in later]))
    return first if others <= _ELSEWHERE * share else None


RULE = Rule(
    code="NC404",
    name="unfamiliar-input",
    summary="the input is not what the first norm was trained on",
    severity=Severity.ERROR,
    need=Need.DATA,
    page=__doc__ or "",
    check=check,
)
