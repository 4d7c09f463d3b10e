"""Running statistics at 0 and 1 although batches were counted.

## What it does
Looks for batch norms whose `running_mean` is exactly 0 and `running_var` exactly 1 in every
channel, while `num_batches_tracked` is above zero.

## Why is this bad?
Updating with any momentum above zero moves the statistics away from their initial values,
so these were reset after they had been collected, or were never allowed to move
(momentum 0). In eval mode the layer then does not normalise, and predictions are wrong
unless the model was trained that way.

## How severe
A warning: the file shows that the statistics did not come from counting, not which mode the
weights were trained for. An error where the optimizer in the same file shows that the last steps
normalised by the batch (see `never-updated-stats`).

## Stays silent
For counts of zero or absent ones: those are `never-updated-stats`.

## What to do
Look for `reset_running_stats()` calls, a momentum of 0, or code that copies 0/1 buffers over
a loaded model. Re-estimate the statistics on training data with `normcheck fix`, which first
compares predictions with the stored and with new statistics: weights that were trained in eval
mode, or into which the statistics were folded, need them as they are.

## Example
    model.load_state_dict(state)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.zero_()
            m.running_var.fill_(1)  # the counter goes on counting
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.traces.gradient_trace import Used
from normcheck.rules.evidence.initial_stats import lost, told_of
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """Layers at 0/1 with a count above zero."""
    reset = [
        n
        for n in subject.batch_norms()
        if n.at_initial_values and n.batches is not None and n.batches.value > 0
    ]
    if not reset:
        return
    counts = [n.batches.value for n in reset if n.batches is not None]
    channels = sum(n.features or 0 for n in reset)
    span = f"{min(counts):,.0f}"
    if max(counts) > min(counts):
        span += f" to {max(counts):,.0f}"
    still = [n for n in reset if n.momentum == 0]
    cause = (
        f"Momentum is 0 in {len(still)} of them: their statistics cannot move."
        if still
        else "Updates with a momentum above 0 cannot leave them there: they were reset after "
        "counting, or never allowed to move."
    )
    found = RULE.finding(
        layers=reset,
        severity=Severity.WARNING,
        confidence=Confidence.HIGH,
        title=(
            f"{plural(len(reset), 'batch norm layer')} {'was' if len(reset) == 1 else 'were'} "
            f"reset to 0 and 1"
        ),
        detail=(
            f"running_mean is 0 and running_var 1 in all {plural(channels, 'channel')}, yet "
            f"num_batches_tracked is {span}. {cause}"
        ),
        consequence=(
            "In eval mode these layers do not normalise: predictions are wrong unless the model "
            "was trained in eval mode or the statistics were folded into the weights."
        ),
        fix=(
            "compare accuracy in eval mode and with batch statistics; where eval is worse, "
            "re-estimate on training data (normcheck fix --model … --data …)"
        ),
        evidence=(
            Evidence("running_mean in every channel", 0.0, 0.0, channels),
            Evidence("running_var in every channel", 1.0, 1.0, channels),
            Evidence("num_batches_tracked", min(counts), 0.0, len(reset)),
        ),
    )
    trace = subject.gradients([n.path for n in reset])
    if trace is not None and trace.used is Used.BATCH and not still:
        found = lost(found, told_of(trace), _LOST)
    yield found


_LOST = (
    "The statistics were reset after training: in eval mode these layers do not normalise, and "
    "predictions are wrong."
)


RULE = Rule(
    code="NC102",
    name="reset-stats",
    summary="running statistics at 0 and 1 although batches were counted",
    severity=Severity.ERROR,
    need=Need.STATE,
    page=__doc__ or "",
    check=check,
)
