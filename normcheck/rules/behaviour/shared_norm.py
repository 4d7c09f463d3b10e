"""One batch norm that runs several times in a forward.

## What it does
Counts how often each batch norm runs in one forward. With data it also compares what the calls
are given.

## Why is this bad?
There is one set of running statistics for all calls. Where these see different distributions (the
levels of a feature pyramid, the steps of a recurrence), the statistics are a mixture that fits
none of them, and eval mode differs from training at every call. `num_batches_tracked` counts every
call, too.

## How severe
Info. A warning where the data show that the calls see different distributions: means more than
one standard deviation apart, or variances more than a factor of 4, in the median over channels.

## What to do
Give each use its own batch norm and share the convolution only, or use GroupNorm.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from normcheck.findings import Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, mechanics_of
from normcheck.wording import plural

_MEANS_APART = 1.0
"""Standard deviations between two calls, median over channels."""
_VARIANCES_APART = 1.386
"""Logarithm of 4."""


def check(subject: Subject) -> Iterator[Finding]:
    """Layers whose calls were seen to differ apart from those of which nothing is known."""
    seen = mechanics_of(subject)
    shared = [n for n in seen.norms if n.op == "batch_norm" and n.norm_layer and n.calls > 1]
    shared = [n for n in shared if not n.per_sample and n.training is False]
    apart = {n.path: _apart(subject, n.path) for n in shared}
    differ = [n for n in shared if apart[n.path] is not None]
    rest = [n for n in shared if apart[n.path] is None]
    if differ:
        shown = next(text for n in differ if (text := apart[n.path]))
        yield RULE.finding(
            layers=[n.path for n in differ],
            title=f"{plural(len(differ), 'batch norm')} shared by uses that see different inputs",
            detail=f"Up to {max(n.calls for n in differ)} calls in a forward; {shown}.",
            consequence=(
                "Their running statistics are a mixture that fits no single use: eval mode "
                "differs from training at every call."
            ),
            fix="give each use a batch norm of its own, or use GroupNorm",
            discriminator="differ",
        )
    if rest:
        yield RULE.finding(
            severity=Severity.INFO,
            layers=[n.path for n in rest],
            title=f"{plural(len(rest), 'batch norm')} used several times in a forward",
            detail=f"Up to {max(n.calls for n in rest)} calls share one set of statistics.",
            consequence="Harmless while the uses see the same distribution.",
            fix="with --data the uses are compared",
            discriminator="shared",
        )


def _apart(subject: Subject, path: str) -> str | None:
    """How far the calls of one layer lie apart on the data; None where they do not."""
    data = subject.run.against_data if subject.run else None
    calls = [d for d in data.drifts if d.path == path] if data else []
    for one, two in combinations(calls, 2):
        scale = np.exp(np.minimum(one.log_scale, two.log_scale) / 2)
        means = float(np.median(np.abs(one.shift - two.shift) / scale))
        variances = float(np.median(np.abs(one.log_scale - two.log_scale)))
        if means > _MEANS_APART or variances > _VARIANCES_APART:
            return (
                f"their means lie {means:.2g} standard deviations apart and their variances a "
                f"factor of {np.exp(variances):.2g} (medians over channels)"
            )
    return None


RULE = Rule(
    code="NC308",
    name="shared-norm",
    summary="one batch norm used several times in a forward",
    severity=Severity.WARNING,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
