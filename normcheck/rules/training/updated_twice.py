"""Norms that are updated again between the forward and the step.

## What it does
While `normcheck.guard` watches a training loop, counts in a few steps how often the forward updates
each norm, and how often it was updated when the step comes. More, after a single forward, is a
finding.

## Why does it matter?
Activation checkpointing runs a part of the forward a second time in the backward pass. A batch
norm in it takes in the same batch twice: its momentum acts as `1 - (1 - momentum)²`, 0.19 instead
of 0.1, and `num_batches_tracked` counts double, which misleads everything that reads the count.

## How severe
Info: the statistics are noisier, not wrong.

## What to do
Nothing, where that is known; otherwise halve the momentum, or keep norms out of what is
checkpointed.

## Example
    x = torch.utils.checkpoint.checkpoint(self.block, x, use_reentrant=False)
"""

from collections.abc import Iterator

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, training_of
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """One finding for all layers."""
    from normcheck.live.training_record import CountedTwice  # no scan has any

    for seen in training_of(subject).of(CountedTwice)[:1]:
        yield RULE.finding(
            title=(
                f"{plural(len(seen.layers), 'norm')} "
                f"{'is' if len(seen.layers) == 1 else 'are'} updated more than once a step"
            ),
            detail=(
                f"A forward updates them {_times(seen.expected)}; at step {seen.step:,} they had "
                f"been updated {_times(seen.updates)}: the backward pass ran them again, as "
                "activation checkpointing does."
            ),
            consequence=(
                "The same batch counts twice: momentum acts as if it were nearly double, and "
                "num_batches_tracked runs ahead of the steps."
            ),
            fix="halve their momentum, or keep norms out of what is checkpointed",
            layers=seen.layers,
            evidence=(Evidence("updates a step", float(seen.updates), float(seen.expected)),),
        )


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


RULE = Rule(
    code="NC707",
    name="updated-twice",
    summary="norms updated again in the backward pass (checkpointing)",
    severity=Severity.INFO,
    need=Need.TRAINING,
    page=__doc__ or "",
    check=check,
)
