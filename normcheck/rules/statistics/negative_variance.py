"""A running variance below zero.

## What it does
Reports running variances below zero.

## Why is this bad?
A variance cannot be negative: something other than training wrote it. Where it is below
-eps, the square root in eval mode is NaN, and so is every output of the channel. Arithmetic
on whole state dicts (task vectors, extrapolated averages) does this, and so does a mean
copied into the place of the variance.

## How severe
An error where variance + eps is not above zero (with eps 1e-5 assumed in a state dict), a
warning for values between -eps and 0.

## Stays silent
- for variances of exactly 0, which dead channels have (`collapsed-variance`), or below it by no
  more than a millionth of eps: an export that stores 1/sqrt(var + eps) leaves them by rounding;
- where mean and variance stand in each other's place: negative variances are means then, and
  `foreign-stats` says so where the weights prove it.

## What to do
Leave buffers out of weight arithmetic and re-estimate the statistics of the result.

## Example
    merged = {k: 2 * a[k] - b[k] for k in a}  # running_var is not a weight
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Evidence, Finding, Severity
from normcheck.norms.layer import NormLayer
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number, part, plural


def check(subject: Subject) -> Iterator[Finding]:
    """Layers with a negative variance in any channel."""
    hit = [n for n in subject.layers if n.any_negative_variance]
    if not hit:
        return
    lowest = min(_lowest(n) for n in hit)
    fatal = [n for n in hit if _lowest(n) + n.assumed_eps <= 0]
    channels = sum(
        int((n.running_var.numbers < n.negative_below).sum()) for n in hit if n.running_var
    )
    total = sum(n.running_var.size for n in hit if n.running_var)
    yield RULE.finding(
        severity=Severity.ERROR if fatal else Severity.WARNING,
        layers=hit,
        title=f"negative running_var in {plural(len(hit), 'layer')}",
        detail=(
            f"{part(channels, total, 'channel', 'is', 'are')} below zero, "
            f"the lowest {number(lowest)}."
        ),
        consequence=(
            "In eval mode the square root of such a variance is NaN, and so is every output."
            if fatal
            else "The values are within eps of zero, so outputs stay finite; training did not "
            "write them."
        ),
        fix=(
            "leave buffers out of weight arithmetic (merging, task vectors) and re-estimate the "
            "statistics of the result"
        ),
        evidence=(Evidence("lowest running_var", lowest, 0.0, total),),
    )


def _lowest(layer: NormLayer) -> float:
    """The lowest variance, past any NaN beside it."""
    return float(np.nanmin(layer.running_var.numbers)) if layer.running_var is not None else 0.0


RULE = Rule(
    code="NC105",
    name="negative-variance",
    summary="a running variance below zero",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
