"""Layers most of whose channels are scaled to nothing.

## What it does
Finds norms in which at least half of the channels have a γ of practically zero.

## Why does it matter?
Such a channel outputs its β whatever comes in. Weight decay on γ and pruning do this, and a
network can work well with it, but a layer that is mostly switched off is worth knowing of.

## Stays silent
Where γ is exactly zero in the whole layer: the last norm of a residual block is often
initialised that way, and a block that was not trained further is skipped as a whole.

## How severe
Info: what is switched off on purpose looks the same.

## What to do
If it was not pruned on purpose, leave γ and β out of weight decay.
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.option import Option
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import percent, plural

# Beside weights of order 1 a scale of 1e-6 is below float32's resolution.
NOTHING = Option("dead-scale", 1e-6, "of γ", "size of γ below which a channel counts as off")
MOST = Option(
    "min-share", 0.5, "share", "share of a layer's channels from which it is reported", most=1.0
)


def check(subject: Subject) -> Iterator[Finding]:
    """Layers that are mostly, but not wholly, switched off."""
    hit, worst, dead, total = [], 0.0, 0, 0
    nothing, most = subject.value(NOTHING), subject.value(MOST)
    for layer in subject.layers:
        if layer.weight is None or layer.weight.size == 0:
            continue
        offset = 1.0 if layer.unit_offset else 0.0
        if layer.weight.lowest + offset >= nothing:
            continue
        scale = layer.weight.numbers + offset
        off = np.abs(scale) < nothing
        count = int(np.count_nonzero(off))
        share = count / off.size
        if count and share >= most and np.any(scale != 0):
            hit.append(layer)
            worst, dead, total = max(worst, share), dead + count, total + off.size
    if not hit:
        return
    yield RULE.finding(
        confidence=Confidence.HIGH,
        layers=hit,
        title=(f"most channels of {plural(len(hit), 'layer')} are scaled to nothing"),
        detail=f"γ is below {nothing:g} in {dead:,} of {total:,} channels, up to {percent(worst)}.",
        consequence="These channels output a constant; the layers do less than their size says.",
        fix="if this is no pruning, leave γ and β out of weight decay",
        evidence=(Evidence("share of channels off", worst, most, total),),
    )


RULE = Rule(
    code="NC502",
    name="dead-scale",
    summary="layers most of whose channels are switched off",
    severity=Severity.INFO,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
    options=(MOST, NOTHING),
)
