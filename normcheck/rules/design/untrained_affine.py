"""γ and β at their initial values while other layers' were trained.

## What it does
Finds norms whose γ is exactly 1 and β exactly 0 in every channel, in a model in which other
norms of the same kind have moved.

## Why does it matter?
Training moves every γ and β a little. A layer that stood still was not in the optimizer, does
not require gradients, or is not used by the model.

## Stays silent
Where no layer moved (frozen or new models), and for layers whose statistics are at their
initial values too: those were not run at all, which is `never-updated-stats`.

## How severe
Info: frozen parts are frozen on purpose more often than not.

## What to do
Check that the optimizer was given all parameters, and that the layer is used in `forward`.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.layer import untouched_beside_others
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Untouched layers among trained ones of the same family."""
    affine = [n for n in subject.layers if n.weight is not None]
    still = untouched_beside_others(affine)
    if not still:
        return
    yield RULE.finding(
        confidence=Confidence.MEDIUM,
        layers=still,
        title=(f"γ and β of {plural(len(still), 'layer')} were never trained"),
        detail="γ is 1 and β is 0 in every channel; other layers of the model have moved.",
        consequence="The layers were frozen, left out of the optimizer, or are not used.",
        fix="nothing, if they were meant to be frozen; otherwise check the optimizer's parameters",
        evidence=(Evidence("layers with untouched γ and β", float(len(still)), 0.0, len(affine)),),
    )


RULE = Rule(
    code="NC503",
    name="untrained-affine",
    summary="γ and β never trained while others were",
    severity=Severity.INFO,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
