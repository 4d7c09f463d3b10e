"""Running statistics that stand still while weights move.

## What it does
While `normcheck.guard` watches a training loop, compares the running statistics of norms in train
mode with those of some steps before. Where no bit of them changed in eight steps or more, while γ
and β did or batches were counted, the norms are named.

## Why is this bad?
In train mode such a norm looks healthy: it normalises by the batch. What it stores for eval mode is
that of a model that is long gone. A momentum of 0 does that, and so do buffers that a wrapper, a
copy of a state or a forward of one's own leaves out.

## How severe
An error: eval mode uses what was never updated.

## What to do
Give the layers a momentum (0.1 is torch's default), and pass `self.running_mean` and
`self.running_var` themselves where `F.batch_norm` is called by hand. Statistics that are kept on
purpose belong to norms in eval mode.

## Example
    nn.BatchNorm2d(64, momentum=0.0)
"""

from collections.abc import Iterator

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, training_of
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """One finding for all that were seen together."""
    from normcheck.live.training_record import StoodStill  # no scan has any

    for seen in training_of(subject).of(StoodStill):
        why = "Their momentum is 0. " if seen.zero_momentum else ""
        yield RULE.finding(
            title=(
                f"running statistics of {plural(len(seen.layers), 'norm')} stand still while "
                "weights move"
            ),
            detail=(
                f"{why}In {plural(seen.steps, 'step')} up to step {seen.step:,} no bit of "
                "running_mean and running_var changed, in train mode"
                f"{f' ({seen.line})' if seen.line else ''}."
            ),
            consequence="In eval mode they normalise by statistics of a model that is long gone.",
            fix=(
                "give them a momentum above 0"
                if seen.zero_momentum
                else "find what keeps updates from the buffers: a copy, a forward of one's own"
            ),
            layers=seen.layers,
            evidence=(Evidence("steps without a change", float(seen.steps)),),
        )


RULE = Rule(
    code="NC703",
    name="stats-frozen-in-training",
    summary="statistics that stand still in train mode",
    severity=Severity.ERROR,
    need=Need.TRAINING,
    page=__doc__ or "",
    check=check,
)
