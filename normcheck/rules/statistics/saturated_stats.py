"""Half-precision statistics that ran into the limits of their type.

## What it does
Reports statistics in 16 or fewer bits that are infinite or at the largest value of their
type: 65,504 for float16.

Also noted: float32 statistics whose every value is one of bfloat16, beside γ and β that are not.
They were accumulated in bfloat16: an update of less than 1/256 of a value is lost there, so that
running averages stand still before they arrive.

## Why is this bad?
The true value was larger. In eval mode an infinite variance makes the channel constant, and
a clipped one makes it too large. Variances above 65,504 are genuine in some models (1e7
occurs), so converting a healthy model with `.half()` can do this.

## How severe
An error: the values are lost, and other ones are used in their place. Info for statistics that were
accumulated in bfloat16, which are imprecise rather than wrong.

## Stays silent
For half-precision statistics within range, and for variances that became 0 in half
precision: what is below 6e-8 vanishes beside eps in any precision.

## What to do
Convert the original again and keep the norms in float32 (`model.half()` followed by
`.float()` on each batch norm), or use bfloat16, which has float32's range. A batch norm in
float32 between half-precision layers is what mixed precision does anyway.

## Example
    model.half()  # running_var 180,000 becomes inf
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.number_grids import kept_in_bfloat16
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number, plural

HALF_BYTES = 2
"""Types up to this size are those that real statistics overflow."""


def check(subject: Subject) -> Iterator[Finding]:
    """Layers with statistics at or beyond the largest finite value of a small type."""
    hit, channels, total = [], 0, 0
    types: dict[str, float] = {}
    for layer in subject.layers:
        over = 0
        for stored in (layer.running_mean, layer.running_var):
            if stored is None or stored.dtype.itemsize > HALF_BYTES or not stored.dtype.largest:
                continue
            limit = stored.dtype.largest
            at_limit = int((np.abs(stored.numbers) >= limit).sum())
            if at_limit:
                types[stored.dtype.name] = limit
            over = max(over, at_limit)
        if over:
            hit.append(layer)
            channels += over
            total += layer.features or 0
    if not hit:
        if kept_in_bfloat16(subject.with_statistics()):
            yield _accumulated(subject)
        return
    limits = ", ".join(f"{name} ends at {number(limit)}" for name, limit in sorted(types.items()))
    yield RULE.finding(
        layers=hit,
        title=(f"running statistics overflowed half precision in {plural(len(hit), 'layer')}"),
        detail=f"{channels:,} of their {plural(total, 'channel')} are at the limit; {limits}.",
        consequence="In eval mode these channels come out constant, or far too large.",
        fix=(
            "convert the original again and keep batch norms in float32, or use bfloat16; the "
            "lost values cannot be recovered from this file"
        ),
        evidence=(Evidence("channels at the limit", float(channels), 0.0, total),),
    )


def _accumulated(subject: Subject) -> Finding:
    layers = subject.with_statistics()
    return RULE.finding(
        severity=Severity.INFO,
        confidence=Confidence.HIGH,
        layers=layers,
        title=f"running statistics of {plural(len(layers), 'layer')} were kept in bfloat16",
        detail=(
            "They are stored in float32, and every value is one of bfloat16; γ and β are not. They "
            "were accumulated with 8 bits, where updates below 1/256 of a value are lost."
        ),
        consequence="They may stand a few per cent off what training in float32 would have left.",
        fix="keep batch norms in float32 under mixed precision; re-estimate to be sure",
        discriminator="bfloat16",
    )


RULE = Rule(
    code="NC109",
    name="saturated-stats",
    summary="half-precision statistics at the limits of their type",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
