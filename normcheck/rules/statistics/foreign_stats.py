"""Running statistics that do not belong to the weights.

## What it does
Behind a norm with scale γ and shift β every channel is close to N(β, γ²), whatever the data is.
Through the activation and the weights that follow, this predicts the mean of the next norm's
input: no data, no code of the model, only numbers of the file. Where the next norm's stored
statistics have nothing to do with that prediction, they were not collected with these weights.

The fraction of the stored means that the weights explain is 0.9 to 1 in healthy models (1 is
perfect, 0 as good as predicting nothing, below 0 worse). Reported are
- models in which hardly any layer's statistics fit: those of another model or of a far-off
  point of training, permuted channels, mean and variance swapped;
- models whose means follow the weights by a wrong common factor: other units. The ratio of
  variances says nothing of the kind, as it depends on how inputs correlate;
- models whose variances all stand on one floor: part of the initial value is left;
- single layers that do not fit, where layers at the same place of other blocks do.

## Why is this bad?
Eval mode normalises with the wrong numbers, and predictions are wrong. Nothing else in the file
shows it: every single value looks plausible.

## How severe
An error where links inside blocks are certain and unrelated to the statistics, a warning
otherwise.

## Stays silent
- where fewer than three links are known, or their connection is a guess (across residual adds,
  between parallel branches, in files that keep no order): a false link accuses nobody;
- where predicted and stored variances still go together: then the link is false, not the
  statistics;
- where the batch count says already that part of the initial value is left
  (`under-warmed-stats`);
- for small differences: averaged weights (SWA, EMA) a little ahead of their buffers fit almost
  as well as healthy ones. Only data can tell there.

## What to do
Find the checkpoint from which weights and buffers come together, or re-estimate the statistics
with these weights on training data (`torch.optim.swa_utils.update_bn`).

## Example
    state = new.state_dict()
    state |= {k: v for k, v in old.state_dict().items() if "running" in k}
"""

from collections.abc import Iterator, Sequence

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.belonging.prediction import Fit
from normcheck.norms.belonging.weights_budget import BEYOND
from normcheck.norms.layer_numbers import median
from normcheck.rules.rule import CannotTell, Need, Rule, Subject, count_is_trusted
from normcheck.rules.statistics.mismatch_causes import (
    TOO_LARGE,
    TOO_SMALL,
    UNCORRELATED,
    UNEXPLAINED,
    Cause,
    drifted,
    odd_layers,
    whole_model,
)
from normcheck.rules.statistics.under_warmed_stats import WARNING_RESIDUE, residue
from normcheck.wording import percent, plural

FEWEST_LINKS = 3
FEWEST_CHANNELS = 64
"""Below these, an accident of a few channels could look like a fault."""


def check(subject: Subject) -> Iterator[Finding]:
    """The model as a whole, or the single layers that stand out."""
    agreement = subject.anatomy.agreement
    if agreement is None or not subject.with_statistics():
        return
    likely = agreement.likely
    channels = sum(fit.stored_mean.size for fit in likely)
    if len(likely) < FEWEST_LINKS or channels < FEWEST_CHANNELS:
        beyond = sum(reason == BEYOND for _, reason in agreement.unjudged)
        unread = f"; the weights of {beyond} are beyond --weights-budget" if beyond else ""
        raise CannotTell(
            f"the weights predict too little: {plural(len(likely), 'norm')} of "
            f"{len(subject.with_statistics())}, {plural(channels, 'channel')}{unread}"
        )
    # Links inside blocks are as good as certain: where there are enough, only they count.
    inside = tuple(f for f in likely if f.link.recognition.confidence is Confidence.HIGH)
    certain = len(inside) >= FEWEST_LINKS
    fits = inside if certain else likely
    cause = whole_model(fits)
    if cause is not None and cause.key == "initial value" and _counted_too_few(subject, fits):
        return
    odd, fitting = odd_layers(likely) if cause is None else ([], [])
    if odd:
        yield _finding(odd, _of_layers(odd, fitting), Confidence.MEDIUM)
        return
    cause = cause or drifted(fits)
    if cause is not None:
        yield _finding(likely, cause, Confidence.HIGH if certain else Confidence.MEDIUM)


def _counted_too_few(subject: Subject, fits: Sequence[Fit]) -> bool:
    """Whether the batch counts tell of the initial value already: one cause, one finding."""
    left = [residue(fit.link.target) or 0.0 for fit in fits]
    return max(left) > WARNING_RESIDUE and count_is_trusted(subject.batch_norms())


def _of_layers(odd: Sequence[Fit], fitting: Sequence[Fit]) -> Cause:
    here, there = (median([f.explained for f in fits]) for fits in (odd, fitting))
    return Cause(
        "layers",
        f"the running statistics of {plural(len(odd), 'layer')} do not belong to the weights",
        f"The weights predict {percent(there)} of the running means of the "
        f"{plural(len(fitting), 'layer')} at the same place of other blocks; in "
        f"{'this one' if len(odd) == 1 else 'these'} {percent(here)}.",
        "In eval mode these layers normalise with wrong numbers.",
        Severity.WARNING,
    )


def _finding(fits: Sequence[Fit], cause: Cause, confidence: Confidence) -> Finding:
    channels = sum(f.stored_mean.size for f in fits)
    severity = cause.severity
    if confidence is not Confidence.HIGH:
        severity = min(severity, Severity.WARNING, key=lambda s: s.rank)
    return RULE.finding(
        severity=severity,
        confidence=confidence,
        layers=[f.link.target for f in fits],
        title=cause.title,
        detail=cause.detail,
        consequence=cause.consequence,
        fix=(
            "find the checkpoint where weights and buffers come together, or re-estimate with "
            "these weights on training data (normcheck fix --model … --data …)"
        ),
        evidence=(
            Evidence(
                "explained fraction of the running means",
                median([f.explained for f in fits]),
                UNEXPLAINED,
                channels,
            ),
            Evidence(
                "correlation of predicted and stored means",
                median([f.correlation for f in fits]),
                UNCORRELATED,
                channels,
            ),
            Evidence(
                "stored over predicted means",
                median([f.slope for f in fits]),
                f"{TOO_SMALL} to {TOO_LARGE}",
                channels,
            ),
        ),
        discriminator=cause.key,
    )


RULE = Rule(
    code="NC108",
    name="foreign-stats",
    summary="running statistics that do not belong to the weights",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
