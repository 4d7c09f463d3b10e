"""Train and eval mode differ although nothing ran that depends on the mode.

## What it does
Runs the same batch in both modes, with every dropout giving what it gives on average. Where no
batch norm used batch statistics and no random number was drawn, the outputs ought to be equal.

## Why does it matter?
LayerNorm, GroupNorm, RMSNorm and plain InstanceNorm compute the same in both modes. A difference
comes from code that asks `self.training`: another head, a scaled residual, a softmax that is
applied in eval mode only. Often meant, sometimes a forgotten branch.

## How severe
Info: a branch like that is often meant.

## What to do
Search the model's code for `self.training`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, mechanics_of
from normcheck.wording import percent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.measurement import Mechanics, NormRun


def check(subject: Subject) -> Iterator[Finding]:
    """One finding, where everything that explains a difference is ruled out."""
    seen = mechanics_of(subject)
    if seen.modes_allclose is not False or seen.mode_draws or seen.repeat_difference:
        return
    if seen.mode_difference is None or seen.mode_difference <= 10 * seen.tolerance:
        return
    if any(n.training and (n.op == "batch_norm" or _differs(n, seen)) for n in seen.train_norms):
        return
    yield RULE.finding(
        confidence=Confidence.MEDIUM,
        title="train and eval mode differ, and no norm or dropout explains it",
        detail=(
            f"With dropout off the outputs differ by {percent(seen.mode_difference)}; no batch "
            "norm used batch statistics and no random number was drawn."
        ),
        consequence="The model computes something else in eval mode than it was trained for.",
        fix="search its code for self.training",
        evidence=(
            Evidence("relative difference of the modes", seen.mode_difference, seen.tolerance),
        ),
    )


def _differs(norm: NormRun, seen: Mechanics) -> bool:
    """Whether an instance norm uses its statistics in eval mode only."""
    return any(n.path == norm.path and n.training is False for n in seen.norms)


RULE = Rule(
    code="NC305",
    name="unexpected-mode-gap",
    summary="outputs differ between modes without a reason that was seen",
    severity=Severity.INFO,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
