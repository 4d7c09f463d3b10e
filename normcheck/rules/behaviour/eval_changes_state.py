"""A forward in eval mode changes the model's own tensors.

## What it does
Compares all parameters and saved buffers before and after forwards in eval mode, bit for bit.
What changes once, at the first forward, is a cache and not reported; what changes each time is.

## Why is this bad?
Predictions then depend on what was predicted before. Statistics that are updated in eval mode
drift away with the data in production, or take in a single odd batch for good.

## How severe
A warning. Where the cause is a batch norm that uses batch statistics in eval mode, NC203 or NC306
reports it and this rule is silent about its buffers.

## What to do
Guard the update with `if self.training:`. A counter that is meant to run is harmless: ignore
the finding with that reason.
"""

from collections.abc import Iterator

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import COUNTER, Need, Rule, Subject, baked_in, mechanics_of
from normcheck.saved.graph import Op
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """All tensors in one finding."""
    seen = mechanics_of(subject)
    if baked_in(subject, Op.BATCH_NORM):
        return
    known = {s.path for s in seen.still_training if s.kind == "norm"}
    known |= {n.path for n in seen.norms if n.training and n.op == "batch_norm"}
    # Counted by a program in eval mode: train-mode-export mentions it, no output depends on it.
    counted = {f"{path}.{COUNTER}".lstrip(".") for path in subject.anatomy.still_counting}
    changed = [
        n for n in seen.changed_state if n.rpartition(".")[0] not in known and n not in counted
    ]
    if not changed:
        return
    statistics = [name for name in changed if name.rpartition(".")[2].startswith("running_")]
    yield RULE.finding(
        layers=changed,
        title=f"a forward in eval mode changes {plural(len(changed), 'tensor')} of the model",
        detail=(
            "They differ after every forward"
            + ("; running statistics are among them." if statistics else ".")
        ),
        consequence="Predictions depend on what the model was given before.",
        fix="update them only if self.training",
        evidence=(Evidence("tensors changed by an eval forward", float(len(changed)), 0.0),),
    )


RULE = Rule(
    code="NC303",
    name="eval-changes-state",
    summary="a forward in eval mode changes parameters or buffers",
    severity=Severity.WARNING,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
