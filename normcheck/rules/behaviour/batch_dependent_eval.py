"""A sample's output in eval mode depends on the other samples of its batch.

## What it does
Runs one sample among two different sets of companions, in batches of the same size, and once
alone. Where its output differs by more than rounding, it names the first operator whose result
for this sample differs.

## Why is this bad?
The same input is then judged differently from one batch to the next. In serving, where batches
are put together by chance, nobody can reproduce a prediction.

## How severe
A warning. Where a batch norm in train mode is the cause, the rule on that (NC203, NC205, NC306)
reports it and this one is silent: it is about the rest, attention along the wrong axis, a mean
over the batch, padding that leaks into the result. Experts with a limited capacity depend on
their batch by design.

## What to do
Look at the module that is named. Attention over batch-first data needs `batch_first=True`;
padding needs a mask.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, baked_in, mechanics_of, place
from normcheck.saved.graph import Op
from normcheck.wording import percent


def check(subject: Subject) -> Iterator[Finding]:
    """One finding; silent where a batch norm explains it, which other rules name."""
    seen = mechanics_of(subject)
    if any(n.op == "batch_norm" and n.training and not n.per_sample for n in seen.norms):
        return
    if baked_in(subject, Op.BATCH_NORM):
        return
    among, alone = seen.companions_difference, seen.alone_difference
    if among is not None and among > seen.tolerance:
        blame = seen.companions_blame
        where = f" It first shows in {place(blame.path)} ({blame.op})." if blame else ""
        yield RULE.finding(
            confidence=Confidence.HIGH if blame else Confidence.MEDIUM,
            layers=[blame.path] if blame else (),
            title="a sample's output depends on its batch mates",
            detail=(
                f"Among other companions, in a batch of the same size, the output of one sample "
                f"changes by {percent(among)}. No batch norm used batch statistics.{where}"
            ),
            consequence="The same input is judged differently from one batch to the next.",
            fix="look there for attention, a mean or a sort along the batch (batch_first=True?)",
            evidence=(Evidence("relative difference among companions", among, seen.tolerance),),
            discriminator="companions",
        )
    elif alone is not None and alone > 10 * seen.tolerance:
        yield RULE.finding(
            severity=Severity.INFO,
            confidence=Confidence.MEDIUM,
            title="a sample alone gives another output than in a batch",
            detail=(
                f"Its output differs by {percent(alone)}, more than another batch size explains by "
                "rounding; other companions make no difference."
            ),
            consequence="Serving one request at a time predicts otherwise than evaluation did.",
            fix="look for a squeeze() without a dimension, or a division by the batch size",
            evidence=(Evidence("relative difference alone", alone, 10 * seen.tolerance),),
            discriminator="alone",
        )


RULE = Rule(
    code="NC302",
    name="batch-dependent-eval",
    summary="in eval mode a sample depends on its batch mates",
    severity=Severity.WARNING,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
