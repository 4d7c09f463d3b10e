"""A frozen layer whose statistics keep moving.

## What it does
Finds batch norms whose γ and β are frozen (`requires_grad` False) while the layer is in train
mode and its statistics are updated, in a model of which other parameters train.

## Why is this bad?
`requires_grad_(False)` freezes parameters, not buffers. In train mode the running statistics
go on moving towards the new data while the weights around them stay: the frozen part drifts,
and what it predicted before is lost.

## How severe
A warning: letting the statistics follow new data is done on purpose too (AdaBN).

## Stays silent
Where all of the model is frozen, and for momentum 0.

## What to do
Put the frozen part into eval mode after every `model.train()`, most safely by overriding
`train` in the module that owns it.

## Example
    for p in model.backbone.parameters():
        p.requires_grad_(False)
    model.train()  # the backbone's running statistics follow the new data
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Frozen affine parameters in train mode, where something else trains."""
    if not subject.anatomy.trainable or subject.anatomy.exported:
        return
    hit = [
        n
        for n in subject.layers
        if n.kind.family is Family.BATCH
        and n.training
        and n.has_statistics
        and n.track_running_stats is not False
        and n.momentum != 0
        and n.weight is not None
        and n.weight.requires_grad is False
        and (n.bias is None or n.bias.requires_grad is False)
    ]
    if not hit:
        return
    yield RULE.finding(
        confidence=Confidence.MEDIUM,
        layers=hit,
        title=(
            f"{plural(len(hit), 'frozen batch norm layer')} still "
            f"{'updates' if len(hit) == 1 else 'update'} running statistics"
        ),
        detail="γ and β do not require gradients, but the layers are in train mode.",
        consequence=(
            "The statistics drift towards the new data under weights that do not: the frozen part "
            "no longer computes what it was trained to."
        ),
        fix="call .eval() on the frozen part after every model.train()",
    )


RULE = Rule(
    code="NC211",
    name="thawed-layer",
    summary="frozen γ and β, statistics that keep moving",
    severity=Severity.WARNING,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
)
