"""BatchNorm that has no statistics to use in eval mode.

## What it does
Finds batch norms built with `track_running_stats=False`, or whose buffers are None.

## Why is this bad?
Without running statistics the layer normalises over the batch in eval mode too: a sample's
prediction depends on the others in its batch, and a batch of one is normalised by itself,
or crashes where it leaves one value per channel.

## How severe
A warning: some models are built this way on purpose, and then it is still worth knowing.

## Stays silent
For InstanceNorm, whose statistics come from each sample. For state dicts, in which such a
layer looks like an affine norm of another kind.

## What to do
If it is on purpose (some generators and meta-learning methods), ignore this finding with that
reason and keep the batch of training at prediction time. Otherwise build the layer with
`track_running_stats=True` and re-estimate, or use GroupNorm or LayerNorm.

## Example
    nn.BatchNorm2d(64, track_running_stats=False)
"""

from collections.abc import Iterator

from normcheck.findings import Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Batch norms without both buffers."""
    hit = [
        n
        for n in subject.layers
        if n.kind.family is Family.BATCH
        and n.running_mean is None
        and n.running_var is None
        and not n.unread
        and not n.uninitialised
        # track_running_stats=True without buffers is a contradiction, another rule's.
        and n.track_running_stats is not True
    ]
    if not hit:
        return
    yield RULE.finding(
        layers=hit,
        title=(
            f"{plural(len(hit), 'batch norm layer')} {'uses' if len(hit) == 1 else 'use'} batch "
            f"statistics in eval mode too"
        ),
        detail="track_running_stats is off: there are no running statistics to use.",
        consequence=(
            "A sample's prediction changes with the other samples of its batch, and a batch of "
            "one is normalised by itself."
        ),
        fix=(
            "build them with track_running_stats=True and re-estimate, or use GroupNorm or "
            "LayerNorm; if it is on purpose, ignore this with the reason"
        ),
    )


RULE = Rule(
    code="NC205",
    name="batch-stats-in-eval",
    summary="BatchNorm without running statistics",
    severity=Severity.WARNING,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
)
