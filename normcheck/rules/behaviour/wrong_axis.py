"""A norm that normalises along another axis than the one that holds the channels.

## What it does
Follows where channels lie from the convolution or linear layer that made them, through transposes,
reshapes and activations, to the norm. BatchNorm, InstanceNorm and GroupNorm take dimension 1 for
the channels; LayerNorm takes the last ones.

## Why is this bad?
`BatchNorm1d` on `(batch, time, features)` has one mean and variance for each time step: the model
is bound to that length, and step 7 of one sequence is normalised by step 7 of others. `LayerNorm`
on the last dimension of an image normalises along its rows.

## How severe
A warning, of medium confidence: some models mean it.

## What to do
Transpose before and after: `norm(x.transpose(1, 2)).transpose(1, 2)`; for channels-first images
GroupNorm(1, C) or a LayerNorm over dimension 1.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, mechanics_of
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """All of them in one finding."""
    found = mechanics_of(subject).wrong_axes
    if not found:
        return
    first = found[0]
    axes = " and ".join(str(axis) for axis in first.normalised_at)
    yield RULE.finding(
        confidence=Confidence.MEDIUM,
        layers=[entry.path for entry in found],
        title=f"{plural(len(found), 'norm')} along the wrong axis",
        detail=(
            f"{first.kind} gets an input of shape {'x'.join(map(str, first.shape))}: the "
            f"{first.producer} before it put its channels in dimension {first.features_at}, the "
            f"norm takes dimension {axes} for its features."
        ),
        consequence=(
            "It normalises steps or pixels instead of features, and ties the model to one length "
            "or size."
        ),
        fix="transpose before and after the norm, or use the norm for this layout",
    )


RULE = Rule(
    code="NC311",
    name="wrong-axis",
    summary="a norm whose features are not the channels of its input",
    severity=Severity.WARNING,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
