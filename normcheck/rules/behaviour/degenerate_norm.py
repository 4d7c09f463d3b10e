"""A norm that takes its mean over a single value.

## What it does
Looks at the shapes that norms are really given. Where a mean is taken over one number, the
difference to the mean is 0 and the output is β, whatever the input: InstanceNorm on one pixel,
GroupNorm with one value a group, LayerNorm over a dimension of length 1.

## Why is this bad?
Everything before the norm is lost; what comes out is a constant.

## How severe
A warning. On an input whose shape normcheck only guessed, a norm is not named for what a larger
image would mend.

## What to do
Fewer groups, another shape for LayerNorm, or no norm at this place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, mechanics_of
from normcheck.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.measurement import NormRun


def check(subject: Subject) -> Iterator[Finding]:
    """All of them in one finding."""
    if subject.run is None:
        return
    guessed = subject.run.fed.guessed
    norms = [
        n
        for n in mechanics_of(subject).norms
        if n.per_sample and n.values == 1 and n.calls and not (guessed and _spatial(n))
    ]
    if not norms:
        return
    shapes = sorted({"x".join(map(str, n.shape)) for n in norms})
    yield RULE.finding(
        layers=[n.path for n in norms],
        title=f"{plural(len(norms), 'norm')} over a single value",
        detail=f"Given inputs of shape {', '.join(shapes[:3])}, each mean is over one number.",
        consequence="The output is β whatever the input: all that comes before is lost.",
        fix="use fewer groups or another normalized_shape, or leave the norm out here",
        evidence=(Evidence("values in a mean", 1.0, 2.0, len(norms)),),
    )


def _spatial(norm: NormRun) -> bool:
    """Whether a larger image or a longer sequence would give it more values."""
    return norm.op in ("instance_norm", "group_norm") and len(norm.shape) > 2


RULE = Rule(
    code="NC309",
    name="degenerate-norm",
    summary="a norm over a single value: its output is constant",
    severity=Severity.WARNING,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
