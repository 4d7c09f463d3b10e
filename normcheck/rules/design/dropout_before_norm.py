"""Dropout in front of a batch norm.

## What it does
Finds a dropout followed by a BatchNorm in the same `nn.Sequential`, or in an export.

## Why does it matter?
Dropout keeps the mean and raises the variance in train mode; in eval mode it is off. The
running variance is measured with dropout on, so in eval mode the layer divides by a standard
deviation that is too large: a variance shift between the modes, which costs accuracy in some
networks ("Understanding the Disharmony between Dropout and Batch Normalization by Variance
Shift", Li et al., CVPR 2019).

## How severe
Info: small rates and wide layers hide it, and many models live with it.

## Stays silent
- for a dropout of rate 0, and where the order of the two is not known: `forward` of one's own;
- for dropouts behind the norm, and before norms that keep no statistics.

## What to do
Put dropout behind the last batch norm, or re-estimate the statistics with dropout off.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """All pairs in one finding."""
    pairs = subject.anatomy.dropouts_before_norms
    if not pairs:
        return
    highest = max(p for _, p, _ in pairs)
    yield RULE.finding(
        confidence=Confidence.MEDIUM,
        layers=[norm for _, _, norm in pairs],
        title=(f"dropout before {plural(len(pairs), 'batch norm layer')}"),
        detail=(
            f"Dropout of up to {highest:g} comes before them, "
            + (
                "with weights and activations alone between."
                if subject.anatomy.exported
                else "in the same Sequential."
            )
        ),
        consequence=(
            "The running variance is measured with dropout on and used with dropout off: it is "
            f"too large, by up to a factor of {1 / (1 - min(highest, 0.99)):.2g} for activations "
            "of mean 0."
        ),
        fix="put dropout behind the last batch norm, or re-estimate with dropout off",
        evidence=(Evidence("dropout probability", highest, 0.0, len(pairs)),),
    )


RULE = Rule(
    code="NC505",
    name="dropout-before-norm",
    summary="dropout before a batch norm: variance shift between modes",
    severity=Severity.INFO,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
)
