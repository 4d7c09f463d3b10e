"""InstanceNorm that uses stored statistics in eval mode.

## What it does
Finds InstanceNorm layers with `track_running_stats=True`.

## Why is this bad?
In train mode InstanceNorm normalises each sample by itself, which is what it is for. With
tracking on, eval mode uses averages over samples instead: another function, without the
instance-wise normalisation that the weights were trained with. Outputs of the two modes
differ however well the statistics were collected.

## How severe
A warning: the modes differ by design of the flag, which is rarely wanted.

## Stays silent
For state dicts, in which such a layer and a BatchNorm look alike.

## What to do
Leave `track_running_stats` at its default (False). For a trained model, switching it off and
dropping the buffers makes eval mode compute what training did.

## Example
    nn.InstanceNorm2d(64, track_running_stats=True)
"""

from collections.abc import Iterator

from normcheck.findings import Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """InstanceNorm layers with statistics that eval mode uses."""
    hit = [n for n in subject.layers if n.kind.family is Family.INSTANCE and n.has_statistics]
    if not hit:
        return
    yield RULE.finding(
        layers=hit,
        title=(
            f"{plural(len(hit), 'InstanceNorm layer')} {'uses' if len(hit) == 1 else 'use'} "
            f"stored statistics in eval mode"
        ),
        detail="track_running_stats is on: train mode normalises each sample by itself, eval not.",
        consequence="Outputs in eval mode differ from those of training, by design of the flag.",
        fix="leave track_running_stats off; for this model, drop the buffers and switch it off",
    )


RULE = Rule(
    code="NC208",
    name="tracked-instance-norm",
    summary="InstanceNorm with running statistics",
    severity=Severity.WARNING,
    need=Need.MODULES,
    page=__doc__ or "",
    check=check,
)
