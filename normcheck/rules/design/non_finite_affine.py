"""NaN or infinity in γ or β.

## What it does
Reports norm weights and biases that are NaN or infinite.

## Why is this bad?
Every output of the channel is NaN or infinite in both modes: the training diverged, or the
values overflowed when the file was converted to half precision.

## How severe
An error: the layer's outputs are lost in both modes.

## Stays silent
- for any finite number, zeros included (`dead-scale`).

## What to do
Go back to the last good checkpoint. After a conversion, keep the norms in float32.
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Layers with values that are not finite."""
    hit, values = [], 0
    for layer in subject.layers:
        bad = 0
        for stored in (layer.weight, layer.bias):
            if stored is not None and not stored.finite:
                bad += int((~np.isfinite(stored.numbers)).sum())
        if bad:
            hit.append(layer)
            values += bad
    if not hit:
        return
    yield RULE.finding(
        layers=hit,
        title=(f"NaN or infinity in weight or bias of {plural(len(hit), 'norm layer')}"),
        detail=f"{plural(values, 'value')} {'is' if values == 1 else 'are'} not finite.",
        consequence="Every output of these channels is NaN or infinite, in both modes.",
        fix="go back to the last good checkpoint; after a conversion, keep norms in float32",
        evidence=(Evidence("values not finite", float(values), 0.0, len(hit)),),
    )


RULE = Rule(
    code="NC501",
    name="non-finite-affine",
    summary="NaN or infinity in γ or β",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
