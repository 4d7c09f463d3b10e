"""Layers that counted different numbers of batches.

## What it does
Compares `num_batches_tracked` between the batch norms of a model.

## Why does it matter?
Every forward pass in train mode counts one batch in each layer that runs. Different counts
show that some layers ran more often than others, for which there are good reasons:
- exactly twice, three times … as many: the layer runs several times per step (shared by
  several inputs, a siamese network), or activation checkpointing runs its forward again;
- fewer: a frozen part, a part added later, a branch not always taken.

A layer that runs for several inputs has one set of statistics for all of them. With
checkpointing the statistics move twice per step.

## How severe
Info: healthy models do this.

## Stays silent
- for counts of 0, of converted or frozen layers, beside any other;
- for counts that are no whole numbers (`damaged-batch-count`);
- up to the `tolerance` that is set.

## What to do
Check that the reading fits the model. A frozen part should have been frozen on purpose.
"""

from collections import Counter
from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.option import Option
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural

TOLERANCE = Option(
    "tolerance",
    0.0,
    "share of the commonest count",
    "difference up to which a count passes for the commonest one",
)


def check(subject: Subject) -> Iterator[Finding]:
    """Layers whose count is not that of the most."""
    counted = [
        (n, n.batches.value)
        for n in subject.batch_norms()
        if n.batches is not None and n.batches.whole and n.batches.value > 0
    ]
    counts = Counter(value for _, value in counted)
    if len(counts) < 2:
        return
    # The commonest count; of equally common ones the smaller, so that "twice" reads right.
    usual = min(counts, key=lambda value: (-counts[value], value))
    allowed = subject.value(TOLERANCE) * usual
    different = sorted(value for value in counts if abs(value - usual) > allowed)
    if not different:
        return
    others = [n for n, value in counted if value in different]
    multiples = [value / usual for value in different if value % usual == 0]
    if len(multiples) == len(different):
        times = ", ".join(f"{m:.0f}" for m in multiples[:4])
        reading = (
            f"Exactly {times} times as many: they run several times per step, or activation "
            "checkpointing runs them again."
        )
    elif all(value < usual for value in different):
        reading = "Fewer than the others: a frozen part, one added later, or a branch not taken."
    else:
        reading = (
            "No simple ratio: parts were trained apart, frozen for a while, or not always run."
        )
    shown = ", ".join(f"{v:,.0f}" for v in different[:3]) + (" …" if len(different) > 3 else "")
    yield RULE.finding(
        layers=others,
        confidence=Confidence.HIGH,
        title=(f"{plural(len(others), 'layer')} counted another number of batches than the rest"),
        detail=f"{shown} against {usual:,.0f} in {counts[usual]} layers. {reading}",
        consequence="None by itself; it shows how the layers were run.",
        fix="check that this is how the model was meant to be trained",
        evidence=(Evidence("different counts", float(len(different) + 1), 1.0, len(counted)),),
    )


RULE = Rule(
    code="NC110",
    name="uneven-batch-counts",
    summary="batch counts differ between layers",
    severity=Severity.INFO,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
    options=(TOLERANCE,),
)
