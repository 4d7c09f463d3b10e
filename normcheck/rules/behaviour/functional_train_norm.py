"""A batch norm that is called with `training=True` although the model is in eval mode.

## What it does
Watches the operators of a forward in eval mode. A batch norm operator whose training flag is on,
under a module that is itself in eval mode, was called by hand: a
`F.batch_norm(x, ..., training=True)`, or a wrapper that never looks at `self.training`.

## Why is this bad?
There is no module to find, and no flag that `eval()` could set. Predictions depend on the batch
mates, a batch of one may fail, and statistics that are passed along are updated by every
prediction.

## How severe
An error where the output of a sample was seen to depend on its companions. Instance norms, which
torch computes with the same operator, and weight standardisation are told apart and not named.
Where the forward is random, so that companions cannot be compared, a warning.

## What to do
Pass `training=self.training`, and keep the running statistics as registered buffers.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, baked_in, mechanics_of
from normcheck.saved.graph import Op
from normcheck.wording import percent, plural


def check(subject: Subject) -> Iterator[Finding]:
    """All places in one finding."""
    seen = mechanics_of(subject)
    if baked_in(subject, Op.BATCH_NORM):
        return
    explained = {s.path for s in seen.still_training}
    without = {n.path for n in subject.layers if n.track_running_stats is False}
    norms = [
        n
        for n in seen.norms
        if n.op == "batch_norm"
        and n.training
        and not n.per_sample
        and n.path not in explained
        and n.path not in without
    ]
    among = seen.companions_difference
    if not norms or (among is not None and among <= seen.tolerance):
        return
    yield RULE.finding(
        severity=Severity.WARNING if among is None else Severity.ERROR,
        confidence=Confidence.MEDIUM if among is None else Confidence.HIGH,
        layers=[n.path for n in norms],
        title=f"{plural(len(norms), 'batch norm')} called with training=True in eval mode",
        detail=(
            "The operator got training=True under a module that is in eval mode"
            + (
                "."
                if among is None
                else f"; among other companions a sample's output changes by {percent(among)}."
            )
        ),
        consequence="Predictions depend on the batch mates, whatever mode the model is in.",
        fix="pass training=self.training to F.batch_norm, with running statistics as buffers",
        evidence=()
        if among is None
        else (Evidence("relative difference among companions", among, seen.tolerance),),
    )


RULE = Rule(
    code="NC306",
    name="functional-train-norm",
    summary="batch_norm called with training=True in eval mode",
    severity=Severity.ERROR,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
