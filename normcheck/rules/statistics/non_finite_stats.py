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

## What to do
Find the batch (NaN in the input, overflow under mixed precision) and re-estimate the
statistics on clean data. The weights may well be intact: train mode did not use the
statistics.

## Example
    x[0] = float("nan")
    model.train()(x)  # every running statistic behind it is NaN for good
"""

from collections.abc import Iterator

import numpy as np

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Layers with NaN, or with infinities in types wide enough not to overflow."""
    hit, channels, total = [], 0, 0
    for layer in subject.layers:
        bad = np.zeros(0, dtype=bool)
        for stored in (layer.running_mean, layer.running_var):
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
    yield RULE.finding(
        layers=hit,
        title=(f"NaN or infinity in the running statistics of {plural(len(hit), 'layer')}"),
        detail=f"{channels:,} of their {plural(total, 'channel')} are not finite.",
        consequence="In eval mode every output behind these channels is NaN or constant.",
        fix=(
            "find the batch that caused it, then re-estimate the statistics on clean data; the "
            "weights may be intact"
        ),
        evidence=(Evidence("channels not finite", float(channels), 0.0, total),),
    )


RULE = Rule(
    code="NC104",
    name="non-finite-stats",
    summary="NaN or infinity in running statistics",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
