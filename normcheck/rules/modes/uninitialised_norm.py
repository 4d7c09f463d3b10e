"""A lazy norm that never saw an input.

## What it does
Finds norms whose parameters or buffers are still uninitialised: `LazyBatchNorm2d` and the
like get their size from the first input.

## Why is this bad?
The layer has no numbers at all. The model was saved before its first forward pass, so it was
not trained either, or this part of it never runs.

## How severe
A warning: there is nothing to predict with, unless the layer is not used at all.

## Stays silent
- for lazy classes that have run once: torch makes plain norms of them.

## What to do
Run one batch through the model before saving, and load the trained weights after that.

## Example
    model = nn.Sequential(nn.LazyConv2d(8, 3), nn.LazyBatchNorm2d())
    torch.save(model, "model.pt")
"""

from collections.abc import Iterator

from normcheck.findings import Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Lazy layers without numbers."""
    hit = [n for n in subject.layers if n.uninitialised]
    if not hit:
        return
    yield RULE.finding(
        layers=hit,
        title=(f"{plural(len(hit), 'lazy norm layer')} never saw an input"),
        detail="Their parameters and statistics are uninitialised and have no size yet.",
        consequence="The model was saved before its first forward pass: it is not trained.",
        fix="run one batch through the model, load its trained weights, and save again",
    )


RULE = Rule(
    code="NC209",
    name="uninitialised-norm",
    summary="a lazy norm that never saw an input",
    severity=Severity.WARNING,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
