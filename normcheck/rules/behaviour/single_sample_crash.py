"""Train mode fails on a batch of one sample.

## What it does
Runs a single sample in train mode. A batch norm without spatial dimensions, or with one pixel
left, has then one value per channel, of which there is no variance: torch raises "Expected more
than 1 value per channel when training".

## Why does it matter?
Training crashes at the end of an epoch when the last batch happens to hold one sample; so does a
single prediction with the model left in train mode.

## How severe
Info: it is how batch norm works, and eval mode is not touched. On an image whose size normcheck
only guessed it is left out where every norm has places: a larger one may leave more of them.

## What to do
`DataLoader(..., drop_last=True)`, or a norm that works with a batch of one: LayerNorm, GroupNorm.
"""

from collections.abc import Iterator

from normcheck.findings import Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, mechanics_of


def check(subject: Subject) -> Iterator[Finding]:
    """One finding, where the reason is batch norm's."""
    error = mechanics_of(subject).single_error
    if "than 1 value per channel" not in error and "than 1 spatial element" not in error:
        return
    norms = [
        n.path
        for n in mechanics_of(subject).train_norms
        if n.op == "batch_norm" and n.training and not n.per_sample and len(n.shape) == 2
    ]
    if subject.run is not None and subject.run.fed.guessed and not norms:
        return  # a larger image than the one that was guessed may leave more places
    yield RULE.finding(
        layers=norms,
        title="train mode cannot take a batch of one",
        detail=f"torch says: {error}.",
        consequence="Training stops at a last batch of one sample; eval mode is not affected.",
        fix="DataLoader(..., drop_last=True), or LayerNorm or GroupNorm for batches of one",
    )


RULE = Rule(
    code="NC304",
    name="single-sample-crash",
    summary="train mode cannot take a batch of one",
    severity=Severity.INFO,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
