"""A tracking flag and buffers that contradict each other.

## What it does
Compares `track_running_stats` with the buffers that a norm really has.

## Why is this bad?
- Off, with buffers present: the flag was flipped on a built layer. Train mode no longer
  updates the statistics, but eval mode still uses them: they are those of long ago.
- On, with buffers missing: eval mode has nothing to use and takes the batch's statistics.

## How severe
A warning: which of the two was meant cannot be seen in the file.

## Stays silent
- for layers that were built with the flag off, which have no buffers (`batch-stats-in-eval`);
- for lazy layers that have not run, and where values are not in the file.

## What to do
Build the layer with the flag that you want instead of changing it afterwards, and re-estimate
its statistics.

## Example
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.track_running_stats = False  # eval mode goes on using the old buffers
"""

from collections.abc import Iterator

from normcheck.findings import Finding, Severity
from normcheck.norms.layer import NormLayer
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Both contradictions, each as one finding."""
    norms = [n for n in subject.layers if not n.unread and not n.uninitialised]
    off = [n for n in norms if n.track_running_stats is False and n.has_statistics]
    if off:
        yield _finding(
            off,
            "off",
            "track_running_stats is off, yet running statistics are there",
            "Train mode does not update them any more, eval mode still uses them.",
            "Predictions in eval mode rest on statistics from before the flag was changed.",
        )
    on = [
        n
        for n in norms
        if n.track_running_stats is True and n.running_mean is None and n.running_var is None
    ]
    if on:
        yield _finding(
            on,
            "on",
            "track_running_stats is on, yet there are no running statistics",
            "Their buffers are None or were removed.",
            "Eval mode uses the batch's statistics: predictions depend on the batch.",
        )


def _finding(
    layers: list[NormLayer], discriminator: str, what: str, detail: str, consequence: str
) -> Finding:
    return RULE.finding(
        layers=layers,
        title=f"{what} in {plural(len(layers), 'layer')}",
        detail=detail,
        consequence=consequence,
        fix="build the layers with the flag that is wanted, and re-estimate their statistics",
        discriminator=discriminator,
    )


RULE = Rule(
    code="NC207",
    name="inconsistent-tracking-flag",
    summary="track_running_stats and the buffers contradict each other",
    severity=Severity.WARNING,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
)
