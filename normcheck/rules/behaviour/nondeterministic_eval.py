"""Two forwards in eval mode, on the same input, give different outputs.

## What it does
Runs the model twice in eval mode on one batch and compares the outputs bit for bit. Where they
differ it runs both again, watches every operator, and names the first one whose result differs
and the module that it ran under.

## Why is this bad?
Predictions then change from call to call. Most often a dropout is on that `eval()` cannot turn
off: `F.dropout(x)` without `training=self.training`, an `nn.Dropout` that is made in
`forward`, a `dropout_p` that is handed to `scaled_dot_product_attention` as a constant.

## How severe
An error where a dropout is to blame. Info where other random numbers are drawn: generative
models sample on purpose. Monte Carlo dropout is an error here as well: where it is meant,
ignore the finding with that reason.

## What to do
Pass `training=self.training` to functional dropout, and make `nn.Dropout` in `__init__`.
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import COUNTER, Need, Rule, Subject, baked_in, mechanics_of, place
from normcheck.saved.graph import Op
from normcheck.wording import percent


def check(subject: Subject) -> Iterator[Finding]:
    """One finding, with the first place where the two forwards went apart."""
    seen = mechanics_of(subject)
    if seen.repeat_difference <= seen.tolerance and not (seen.draws and seen.repeat_difference):
        return
    if baked_in(subject, Op.DROPOUT, Op.RANDOM_MASK, Op.ATTENTION, Op.RECURRENT):
        return
    blame = seen.repeat_blame
    if blame and any(s.kind == "dropout" and s.path == blame.path for s in seen.still_training):
        return  # the dropout that eval() does not reach is a finding of its own
    if any(not name.endswith(COUNTER) for name in seen.changed_state) and not seen.draws:
        return  # the forward changes the model itself, which NC303 reports
    drops = blame is not None and blame.op in _DROPOUTS
    where = place(blame.path) if blame else "the model"
    what = (
        "a dropout that is on" if drops else f"random numbers ({blame.op})" if blame else "chance"
    )
    yield RULE.finding(
        severity=Severity.ERROR if drops else Severity.INFO if seen.draws else Severity.WARNING,
        confidence=Confidence.HIGH if drops else Confidence.MEDIUM,
        layers=[blame.path] if blame else (),
        title="eval mode gives another output each time",
        detail=(
            f"Two forwards of the same batch differ by {percent(seen.repeat_difference)} of the "
            f"output. They first go apart in {where}: {what}"
            + (f" ({blame.op})." if blame and drops else ".")
        ),
        consequence=(
            "Predictions change from call to call."
            if drops
            else "Predictions change from call to call; for a model that samples this is meant."
        ),
        fix=(
            "pass training=self.training to the functional dropout, or make nn.Dropout in __init__"
            if drops
            else "fix the seed, or draw the random numbers outside of the model"
        ),
        evidence=(Evidence("relative difference of two forwards", seen.repeat_difference, 0.0),),
    )


_DROPOUTS = frozenset({"bernoulli_", "bernoulli", "native_dropout", "_fused_dropout"}) | {
    f"_scaled_dot_product_{kind}_attention" for kind in ("flash", "efficient", "cudnn")
}


RULE = Rule(
    code="NC301",
    name="nondeterministic-eval",
    summary="two eval forwards of the same input differ",
    severity=Severity.ERROR,
    need=Need.RUN,
    page=__doc__ or "",
    check=check,
)
