"""Channels whose running variance is zero or next to it.

## What it does
Counts the channels whose running variance lies far below eps and far below the rest of
their layer: they were constant over the last training batches, "dead" channels.

## Why does it matter?
A dead channel is normal. Weight decay and ReLU make many of them in healthy models, and
they do no harm as long as their input stays constant. But eval mode divides by
`sqrt(var + eps)`, so an input that does move is multiplied by up to 1/sqrt(eps), which is
316 at the default. Whether that happens cannot be seen in the file.

## How severe
Info. Fixed thresholds on variances mostly meet healthy models.

## Stays silent
- for channels that are small like the rest of their layer: the bound is a thousandth of the layer's
  median, as well as of eps;
- for variances below zero by more than rounding, a millionth of eps (`negative-variance`), and
  where the statistics are not finite.

## What to do
Nothing, if the model predicts well. If outputs explode on new data, look at these channels
first.

## Example
A published mask detector has 505 of 1,248 variances exactly at zero and works.
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.option import Option
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number, part, plural

FAR_BELOW = Option(
    "max-ratio",
    1e-3,
    "times eps and times the layer's median variance",
    "a channel whose variance is below both is dead",
    most=1.0,
)
MIN_CHANNELS = Option(
    "min-channels", 1, "channels", "dead channels of a model from which they are reported", least=1
)


def check(subject: Subject) -> Iterator[Finding]:
    """Dead channels by layer, in one finding."""
    hit, dead, rounded, total, strongest = [], 0, 0, 0, 0.0
    for layer in subject.batch_norms():
        if layer.running_var is None or not layer.running_var.size or not layer.running_var.finite:
            continue
        variances, ordered = layer.running_var.numbers, layer.running_var.ordered
        eps = layer.assumed_eps
        bound = subject.value(FAR_BELOW) * min(eps, float(ordered[ordered.size // 2]) or eps)
        if ordered[0] > bound:
            continue  # as nearly always
        low = (variances >= layer.negative_below) & (variances <= bound)
        if low.any():
            hit.append(layer)
            dead += int(low.sum())
            rounded += int((variances[low] < 0).sum())
            total += low.size
            gamma = 1.0
            if layer.weight is not None and layer.weight.size == low.size:
                gamma = float(np.abs(layer.weight.numbers[low]).max())
            strongest = max(strongest, gamma / np.sqrt(eps) if eps > 0 else np.inf)
    if not hit or dead < subject.value(MIN_CHANNELS):
        return
    yield RULE.finding(
        confidence=Confidence.HIGH,
        layers=hit,
        title=(f"{plural(dead, 'dead channel')} in {plural(len(hit), 'layer')}"),
        detail=(
            f"{part(dead, total, 'channel', 'has', 'have')} a variance of practically zero"
            f"{_below(rounded)}; a change in the input would be amplified up to "
            f"{number(strongest)} times."
        ),
        consequence="Normal in trained models, and harmless while the input stays constant.",
        fix="nothing, unless outputs explode on new data: then look at these channels first",
        evidence=(Evidence("dead channels", float(dead), None, total),),
    )


def _below(rounded: int) -> str:
    """How many are below zero, and why that is no fault."""
    return f" ({rounded:,} a rounding below it, as an export may leave them)" if rounded else ""


RULE = Rule(
    code="NC106",
    name="collapsed-variance",
    summary="dead channels: variances of practically zero",
    severity=Severity.INFO,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
    options=(FAR_BELOW, MIN_CHANNELS),
)
