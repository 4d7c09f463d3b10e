"""NaN or infinity in the running statistics.

## What it does
Reports running means and variances that are NaN or infinite. An infinity in half precision
is an overflow and reported as `saturated-stats`.

## Why is this bad?
In eval mode every output of the channel is NaN, or zero for an infinite variance. In train
mode the batch's own statistics are used, so training went on without a sign of it. One bad
batch is enough: a running average never forgets a NaN.

## How severe
An error: a NaN has no harmless reading.

## Stays silent
- for an infinity in half precision, which is an overflow (`saturated-stats`);
- for any finite number, however large: variances of 1e7 occur in healthy models.

## What to do
Find the batch (NaN in the input, overflow under mixed precision) and re-estimate the
statistics on clean data. The weights may well be intact: train mode did not use the
statistics.

Where every number of a float32 model is a value of float16, no batch is to blame: the model was
cast to float16 and back (`model.half().float()`, also on an EMA copy), and what was above 65,504
became infinite. Cast a copy, and leave batch norms in float32.

## Example
    x[0] = float("nan")
    model.train()(x)  # every running statistic behind it is NaN for good
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Evidence, Finding, Severity
from normcheck.norms.layer import NormLayer
from normcheck.norms.number_grids import went_through_half
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import part, plural


def check(subject: Subject) -> Iterator[Finding]:
    """Layers with NaN, or with infinities in types wide enough not to overflow."""
    hit, channels, total = [], 0, 0
    for layer in subject.layers:
        mean, variance = layer.running_mean, layer.running_var
        if (mean is None or mean.finite) and (variance is None or variance.finite):
            continue
        bad = np.zeros(0, dtype=bool)
        for stored in (mean, variance):
            if stored is None:
                continue
            wrong = np.isnan(stored.numbers)
            if stored.dtype.itemsize > 2:
                wrong |= np.isinf(stored.numbers)
            if bad.size == wrong.size:
                bad = wrong | bad
            elif not bad.any():  # statistics of two sizes belong to different layers
                bad = wrong
        if bad.any():
            hit.append(layer)
            channels += int(bad.sum())
            total += bad.size
    if not hit:
        return
    halved = any(_infinite(n) for n in hit) and went_through_half(subject.layers)
    detail = f"{part(channels, total, 'channel', 'is', 'are')} not finite."
    if halved:
        detail += (
            " Every other number of these norms is a value of float16, though float32 is stored: "
            "the model went through float16 (half().float()), whose largest number is 65,504."
        )
    yield RULE.finding(
        layers=hit,
        title=(f"NaN or infinity in the running statistics of {plural(len(hit), 'layer')}"),
        detail=detail,
        consequence="In eval mode every output behind these channels is NaN or constant.",
        fix=(
            "convert a copy, not the model that is saved, and keep batch norms in float32; "
            "re-estimate the statistics, which cannot be recovered from this file"
            if halved
            else "find the batch that caused it, then re-estimate the statistics on clean data; "
            "the weights may be intact"
        ),
        evidence=(Evidence("channels not finite", float(channels), 0.0, total),),
    )


def _infinite(layer: NormLayer) -> bool:
    parts = (layer.running_mean, layer.running_var)
    return any(part is not None and bool(np.isinf(part.numbers).any()) for part in parts)


RULE = Rule(
    code="NC104",
    name="non-finite-stats",
    summary="NaN or infinity in running statistics",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
