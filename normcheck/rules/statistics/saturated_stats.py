"""Half-precision statistics that ran into the limits of their type.

## What it does
Reports statistics in 16 or fewer bits that are infinite or at the largest value of their
type: 65,504 for float16.

Also reported: statistics whose every value is one of bfloat16, beside γ and β that are not. They
were accumulated in bfloat16, where an update of less than 1/512 to 1/256 of a value is rounded
away: running averages stand still before they arrive. Some kernels round `1 - momentum`, too (torch
2.13 on a CPU). With momentum m and that rounded r, a growing average stops at
`m / (max(m, 1 - r) + 1/256)` of the truth at the least, a shrinking one at
`m / (min(m, 1 - r) - 1/256)` at the most: at momentum 0.1 5 % short, at 0.03 15 %, at 0.01 36 %
short and 64 % above. Measured on `nn.BatchNorm2d` in bfloat16, 4,096 values a channel and batch:
means of 0.98 of the truth at 0.1, of 0.68 to 0.71 at 0.01, of 0.38 to 0.40 at 0.003; simulated for
kernels that round the result alone, 0.85 at 0.01. Smaller batches arrive nearer, for their noise
carries averages on.

## Why is this bad?
The true value was larger. In eval mode an infinite variance makes the channel constant, and
a clipped one makes it too large. Variances above 65,504 are genuine in some models (1e7
occurs), so converting a healthy model with `.half()` can do this.

## How severe
An error: the values are lost, and other ones are used in their place. A warning for statistics that
were accumulated in bfloat16 with a momentum of at most 0.03, as a whole module or the names of a
library tell it; info where it is larger or not known.

## Stays silent
For a model all of whose values are on bfloat16's grid: it was converted afterwards, or trained so,
which the file cannot tell. For half-precision statistics within range, and for variances that
became 0 in half precision: what is below 6e-8 vanishes beside eps in any precision.

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
from normcheck.rules.rule import DEFAULT_MOMENTUM, Need, Rule, Subject
from normcheck.wording import number, part, percent, plural

SLOW = 0.03
"""Momentum from which downwards bfloat16 keeps averages 15 % and more from where they go."""
LIBRARIES_MOMENTUM = 0.01
"""Of TensorFlow's layers, which ports of their models keep."""
LOST_UPDATE = 2**-8
"""Share of a value of bfloat16 below which an update may round to nothing: half of its last bit."""
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
        detail=f"{part(channels, total, 'channel', 'is', 'are')} at the limit; {limits}.",
        consequence="In eval mode these channels come out constant, or far too large.",
        fix=(
            "convert the original again and keep batch norms in float32, or use bfloat16; the "
            "lost values cannot be recovered from this file"
        ),
        evidence=(Evidence("channels at the limit", float(channels), 0.0, total),),
    )


def _accumulated(subject: Subject) -> Finding:
    layers = subject.with_statistics()
    rates = [n.momentum for n in layers if isinstance(n.momentum, float) and 0 < n.momentum < 1]
    slowest = min(rates, default=None)
    slow = slowest is not None and slowest <= SLOW
    # Nothing is known of the momentum: what torch's own has, and what many libraries have.
    asked = [slowest] if slowest is not None else [DEFAULT_MOMENTUM, LIBRARIES_MOMENTUM]
    return RULE.finding(
        severity=Severity.WARNING if slow else Severity.INFO,
        confidence=Confidence.HIGH,
        layers=layers,
        title=f"running statistics of {plural(len(layers), 'layer')} were kept in bfloat16",
        detail=(
            "Every value of theirs is one of bfloat16; γ and β are not. They were accumulated "
            "with 8 bits, where updates below 1/256 of a value are lost: averages stop before "
            f"they arrive, {'; '.join(map(stop_in_bfloat16, asked))}."
        ),
        consequence=(
            "Means are too small and variances between their first value and the truth, so that "
            "outputs in eval mode are not those that were trained."
            if slow
            else "They may stand off what training in float32 would have left."
        ),
        fix="keep batch norms in float32 under mixed precision; re-estimate to be sure",
        evidence=() if slowest is None else (Evidence("momentum", slowest, SLOW, len(layers)),),
        discriminator="bfloat16",
    )


def stop_in_bfloat16(momentum: float) -> str:
    """How far from the truth averages stop at the most."""
    rounded = 1 - _in_bfloat16(1 - momentum)
    least = momentum / (max(momentum, rounded) + LOST_UPDATE)
    room = min(momentum, rounded) - LOST_UPDATE
    short = f"at momentum {momentum:g} up to {percent(1 - least)} short"
    return f"{short}, {percent(momentum / room - 1)} above" if room > 0 else short


def _in_bfloat16(value: float) -> float:
    """The nearest value that bfloat16 has."""
    bits = int(np.float32(value).view(np.uint32))
    return float(np.uint32((bits + 0x8000) & 0xFFFF0000).view(np.float32))


RULE = Rule(
    code="NC109",
    name="saturated-stats",
    summary="half-precision statistics at the limits of their type",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
