"""The first norm sees something else than it was trained on, and the others do not.

## What it does
The first norm stands behind weights that are linear in the input, so its stored mean and variance
tell which input they are of: a factor, an offset for each channel, an inversion, the channels in
reverse order. The input is fed once more, so changed. Where all norms then fit their statistics,
the change is named: "× 0.217: as if it had not been divided by 4.6". Foreign statistics fit no
input like that.

Where later norms lag behind weights that still moved, not all of them fit: the change under which
the first norm fits is named all the same, if the shape of the misfit tells that it is the input.

That shape tells it without a change, too. With every batch norm
normalising by the batch, an error in the input shows in the first batch norm only, stale statistics
show in all. Where most channels of the first norm are provably off and the later norms are not, the
input is to blame, unless no input at all explains the first norm's means: then its statistics are
foreign (NC401).

Images of another kind (noise, pixels in another order, another set of images) reach all norms. A
channel behind a convolution takes some of the input's spectrum, so their variances disagree by the
filters' own doing. Where no factor explains the stored ones, smooth random images do, and a part of
the initial value left in them does not, the statistics are intact and the data are others.

## Why is this bad?
The model was trained with another preprocessing: pixels from 0 to 255 instead of 0 to 1, no mean
subtracted, another channel order. In eval mode every prediction is made on input that the model
does not know.

## How severe
An error where labels show that answers are better on the input so changed, or under re-estimated
statistics. A warning where the losses or the decisions hint at it, where the model is as wrong as
guessing, where the change is larger than two sets of data differ by (a factor of 1.5, half a
deviation, an inversion), or where the statistics are of images of another kind. Else info: clean
data differ so from augmented ones, and a first layer that was frozen while the data changed looks
the same.

## What acquits
Later norms that do not fit on the input so changed (weights that were fine-tuned on this input made
up for it), or labels that are answered better as the input is.

## What to do
Compare the preprocessing with that of training, and scan again. Statistics that were collected on
other input than the weights were trained on look the same: then `normcheck fix` on training data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.layer_numbers import median
from normcheck.rules.channels_off import MATERIAL, share_off
from normcheck.rules.data.meant_code import meant_code
from normcheck.rules.data.meant_input import (
    as_formula,
    as_if,
    heals,
    is_far,
    meant_input,
    statistics_in_words,
)
from normcheck.rules.data_verdict import Verdict, verdict
from normcheck.rules.harm import Harm
from normcheck.rules.rule import Need, Rule, Subject, impossible_statistics
from normcheck.wording import number, percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.measurement import AgainstData, Drift
    from normcheck.live.misfit import InputMap, OtherContent

_SHARE = 0.4
"""Of the first norm's channels that have to be off."""
_ELSEWHERE = 0.25
"""Largest share off in later norms, in parts of the first norm's."""
_FAR = 0.25
"""Largest distance of the later norms from their statistics, in parts of the first norm's, where
the first is this far off: borders of zeros carry some of a wrong offset on."""
_CLEARER = 6.0
"""Paired t of the margins from which decisions on other input count as clearer: where the first
norm alone is off, augmentation has 4.8 at most."""
_FEWEST_LAYERS = 2
"""With one, a first norm that is off cannot be told from a model that is."""
_MANY_LAYERS = 3
"""With fewer, the others being near is little evidence: the first has to be far off."""
_FAR_OFF = 0.3
"""Median shift, or log variance ratio, of a first norm that is far off."""
_NO_INPUT = 0.45
"""What no input explains of the first norm's means, in deviations, from which it is the file:
healthy models have 0.33 at most (behind a max pooling)."""

_IF_THE_SAME = (
    "; if that is the same, re-estimate the statistics on training data (normcheck fix --model … "
    "--data …)"
)

_ALIKE = 0.25
"""Difference of two correlations of neighbours up to which images are as smooth as each other."""


def check(subject: Subject) -> Iterator[Finding]:
    """One finding on the first norm."""
    judged = verdict(subject.run) if subject.run else None
    data = subject.run.against_data if subject.run else None
    if judged is None or data is None or impossible_statistics(subject):
        return
    first = unfamiliar(judged, subject)
    if first is None:
        return
    meant = meant_input(data)
    shift, log_scale = median(np.abs(first.shift)), median(first.log_scale)
    content = None if meant is not None else other_content(judged, data)
    of_first = _of_first(data.first_map)
    severity, confidence = judged.severity
    if content is not None and severity is not Severity.ERROR:
        severity, confidence = Severity.WARNING, Confidence.MEDIUM
    elif meant is not None and heals(meant):
        severity, confidence = Severity.ERROR, Confidence.HIGH
    elif severity is Severity.INFO and (
        judged.guesses or _clearer(data) or (meant is not None and is_far(meant))
    ):
        severity, confidence = Severity.WARNING, Confidence.MEDIUM
    yield RULE.finding(
        severity=severity,
        confidence=confidence,
        layers=[first.path],
        title="the input does not look like the training data",
        detail=(
            _meant(meant)
            if meant is not None
            else _content(content)
            if content is not None
            else f"The first norm is off by {number(shift)} standard deviations in the mean and a "
            f"factor of {number(float(np.exp(log_scale)))} in the variance (medians), the later "
            f"ones agree with their statistics.{of_first}"
        )
        + f" {judged.text}",
        consequence=(
            "Nothing is known of the statistics by these data: a healthy model looks like this on "
            "input that it was not trained on."
            if content is not None
            else "Predictions are made on input that the model was not trained on: another range, "
            "mean or channel order."
            if meant is not None or of_first
            else "Either predictions are made on input that the model was not trained on (another "
            "range, mean or channel order), or the first norm's statistics alone are off, as where "
            "its weights still moved fast when the training ended."
        ),
        fix=(
            "scan with samples of the training data, preprocessed as in training"
            if content is not None
            else "compare the preprocessing with that of training (scale, mean and std, channel "
            f"order){'' if meant is not None or of_first else _IF_THE_SAME}"
        ),
        evidence=(
            Evidence("share of the first norm's channels off", share_off(first), _SHARE),
            Evidence("median shift in standard deviations", shift, MATERIAL),
            Evidence("median log variance ratio", log_scale, MATERIAL),
            *([Evidence("factor in the input", meant.factor)] if meant is not None else ()),
            *(
                [Evidence("scatter of variances about the input's", content.scatter)]
                if content is not None
                else ()
            ),
        ),
    )


def _meant(found: InputMap) -> str:
    """The input under which norms fit, and what answers make of it."""
    words = as_if(found) if is_far(found) else "no more than two sets of data differ by"
    off = max(found.before, found.behind)
    fits = (
        f"all fit their stored statistics (at most {number(max(found.first, found.later))} off)"
        if found.fits
        else f"the first fits its stored statistics ({number(found.first)} off, those behind it up "
        f"to {number(found.later)})"
    )
    text = (
        f"Norms are off by up to {number(off)} (medians over channels, in standard deviations or a "
        f"log variance ratio), and with the input {as_formula(found)} {fits}"
        f"{': ' if words else ''}{words}. {statistics_in_words(found).capitalize()}."
    )
    if found.right is not None and found.healed is not None:
        text += (
            f" With the input so changed {percent(found.right / found.samples)} of "
            f"{plural(found.samples, 'answer')} are right ({found.healed} become right, "
            f"{found.harmed} wrong)."
        )
    return text


def _of_first(found: InputMap | None) -> str:
    """The input under which the first norm fits; said where it is more than data differ by."""
    if found is None or not is_far(found):
        return ""
    return (
        f" With the input {as_formula(found)} it would fit ({number(found.first)} off): "
        f"{as_if(found)}. {statistics_in_words(found).capitalize()}."
    )


def _content(found: OtherContent) -> str:
    """What the first norm takes of the input, against what its statistics are of."""
    if abs(found.fed - found.neighbours) <= _ALIKE:
        words = "They are as smooth as the input: another set of images, or another crop or size"
    else:
        words = (
            f"Neighbouring values of the input correlate by {number(found.fed)}, those of the "
            f"images by about {number(found.neighbours)}: "
        )
        words += (
            "as of noise, of pixels in another order or of another set of images"
            if found.fed < found.neighbours
            else "as of images of one colour, of enlarged or blurred ones, or of another set"
        )
    return (
        "No factor and offset make the input fit the first norm's variances (they scatter by "
        f"{number(found.scatter)}, root mean square of logarithms), and its statistics are those "
        f"of images of another kind: smooth random ones leave {number(found.explained)}. "
        f"{words}."
    )


def other_content(judged: Verdict, data: AgainstData) -> OtherContent | None:
    """The kind of images that the statistics are of; None where labels decide about them."""
    by_labels = (
        judged.harm is Harm.STORED_RIGHT and bool(data.regimes) and data.regimes[0].loss is not None
    )
    if judged.harm in (Harm.PROVEN, Harm.SHOWN) or (by_labels and not judged.guesses):
        return None
    return data.other_content


def unfamiliar(judged: Verdict, subject: Subject) -> Drift | None:
    """The first norm, where it is the input that is off; None where the statistics are."""
    data = subject.run.against_data if subject.run else None
    drifts = data.drifts if data else ()
    known_better = judged.harm is Harm.STORED_RIGHT and not judged.guesses
    if len(drifts) < _FEWEST_LAYERS or meant_code(data, judged.harm) is not None:
        return None  # with one norm nothing is told; and other code explains the misfit
    if meant_input(data) is not None:
        return drifts[0]
    first, later = drifts[0], drifts[1:]
    share = share_off(first)
    if share < _SHARE or first.at_initial_values:
        return None
    if data is not None and other_content(judged, data) is not None:
        return first
    if known_better or (data and (data.first_leftover or 0.0) > _NO_INPUT):
        return None
    if len(drifts) < _MANY_LAYERS and _far(first) < _FAR_OFF:
        return None
    others = float(np.mean([share_off(drift) for drift in later]))
    if others <= _ELSEWHERE * share:
        return first
    return first if median([_far(drift) for drift in later]) <= _FAR * _far(first) else None


def _far(drift: Drift) -> float:
    """How far a norm is off: the larger of its median shift and log variance ratio."""
    return max(median(np.abs(values)) for values in (drift.shift, drift.log_scale))


def _clearer(data: AgainstData | None) -> bool:
    return bool(data and data.decisiveness and data.decisiveness.t >= _CLEARER)


RULE = Rule(
    code="NC404",
    name="unfamiliar-input",
    summary="the input is not what the first norm was trained on",
    severity=Severity.ERROR,
    need=Need.DATA,
    page=__doc__ or "",
    check=check,
)
