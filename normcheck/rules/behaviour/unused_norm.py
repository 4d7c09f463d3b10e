"""Normalization layers that no forward reached.

## What it does
Notes which modules are called in a forward, in eval and in train mode. Norm layers that neither
called are listed.

## Why does it matter?
Statistics of a batch norm that never runs cannot have been updated: this is often the harmless
reason for layers at 0 and 1. It can also be a layer that somebody forgot to call.

## How severe
Info. Layers that only other inputs reach, and weights that another function uses directly, look
the same.

## What to do
Call the layer, or remove it.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, mechanics_of
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """All of them in one finding."""
    unused = mechanics_of(subject).unused
    if not unused or len(unused) == len(subject.layers):
        return  # nothing was seen at all: a compiled or scripted forward
    fresh = [n.path for n in subject.layers if n.path in unused and n.at_initial_values]
    yield RULE.finding(
        confidence=Confidence.MEDIUM,
        layers=unused,
        title=f"{plural(len(unused), 'norm layer')} not reached by any forward",
        detail=(
            "Neither eval nor train mode called "
            + ("it" if len(unused) == 1 else "them")
            + (
                f"; {plural(len(fresh), 'layer')} at their initial statistics are among them."
                if fresh
                else "."
            )
        ),
        consequence="They have no part in these predictions; their statistics cannot be updated.",
        fix="call them, remove them, or try an input that reaches them",
    )


RULE = Rule(
    code="NC307",
    name="unused-norm",
    summary="norm layers that no forward reaches",
    severity=Severity.INFO,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
