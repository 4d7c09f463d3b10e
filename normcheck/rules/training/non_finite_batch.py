"""The batch that made running statistics NaN or infinite.

## What it does
While `normcheck.guard` watches a training loop, looks after each step whether the statistics of the
norm that ran last are finite (on an accelerator every 32 steps, because to look means to wait for
it), and says which forward it was, which norm was the first, and whether its input was finite.

## Why is this bad?
A NaN never leaves a running mean: every later average holds it. The loss may recover, in train
mode nothing shows, and in eval mode every output is NaN.

## How severe
An error, always: the model is lost in eval mode.

## What to do
Look at that batch: NaN in the data, a sample without content, an overflow in half precision. Check
`torch.isfinite` before the forward and skip what is not; then start again from the last checkpoint
before, or call `reset_running_stats()` and re-estimate.
"""

from collections.abc import Iterator

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, training_of


def check(subject: Subject) -> Iterator[Finding]:
    """One finding: what comes after it follows from it."""
    from normcheck.live.training_record import NonFiniteBatch  # no scan has any

    for seen in training_of(subject).of(NonFiniteBatch)[:1]:
        which = (
            f"Forward {seen.forward:,} of the training"
            if seen.earliest == seen.forward
            else f"One of the forwards {seen.earliest:,} to {seen.forward:,} of the training"
        )
        inputs = "The model's input was finite: the values arose within it."
        if seen.input_was:
            inputs = f"The model's input had {seen.input_was}."
        elif not seen.input_known:
            inputs = "Whether the input was finite is not known."
        yield RULE.finding(
            title="a batch made running statistics NaN or infinite",
            detail=(
                f"{which} did it, before step {seen.step:,}"
                f"{f' ({seen.line})' if seen.line else ''}. {inputs} The first norm that it met "
                f"is {seen.layers[0] or 'the model itself'}."
            ),
            consequence="A NaN never leaves a running statistic: in eval mode all outputs are NaN.",
            fix=(
                "look at that batch; skip batches that are not finite, and go back to the last "
                "checkpoint before it"
            ),
            layers=seen.layers,
            evidence=(Evidence("forward", float(seen.forward)),),
        )


RULE = Rule(
    code="NC705",
    name="non-finite-batch",
    summary="the batch that made statistics NaN or infinite",
    severity=Severity.ERROR,
    need=Need.TRAINING,
    page=__doc__ or "",
    check=check,
)
