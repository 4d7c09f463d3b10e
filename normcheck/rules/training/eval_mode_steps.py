"""Batch norms in eval mode while the optimizer steps.

## What it does
While `normcheck.guard` watches a training loop, looks at every step of the optimizer: are norms
whose weights the step changes in eval mode, and was none of their forwards since the last step in
train mode? Three such steps in a row are a finding.

## Why is this bad?
It is the commonest fault of this kind: `model.eval()` for validation, and no `model.train()` after
it. From then on the norms do not normalise by the batch, their statistics are never updated, and
dropout is off. Nothing fails; deep networks learn badly or not at all. Models that are loaded in
eval mode, as those of Hugging Face are, start so, and trainers that keep the modes of parts keep
it.

## How severe
An error where the statistics are still the initial 0 and 1, or the whole model is in eval mode; a
warning where a part of a model in train mode is: that may be meant.

## Stays silent
Where nothing of a part requires gradients; where `guard(..., frozen=["backbone.*"])` says so; and
where norms are in eval mode in a parent that is in train mode, as nobody leaves them by mistake.

## What to do
Call `model.train()` at the start of each epoch. If it is meant, freeze the weights too, or declare
the part with `frozen=`.

## Example
    for epoch in range(10):
        for x, y in train_loader: ...   # from the second epoch on: eval mode
        model.eval()
        validate(model)
"""

from collections.abc import Iterator

from normcheck.findings import Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, training_of
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """A finding for each time that it began."""
    from normcheck.live.training_record import EvalSteps  # no scan has any

    for seen in training_of(subject).of(EvalSteps):
        grave = seen.whole or seen.never_updated
        statistics = "the initial 0 and 1" if seen.never_updated else "those of an earlier training"
        norms = plural(len(seen.layers), "batch norm")
        yield RULE.finding(
            severity=Severity.ERROR if grave else Severity.WARNING,
            title=(
                f"{norms} {'is' if len(seen.layers) == 1 else 'are'} in eval mode while the "
                "optimizer steps"
            ),
            detail=(
                f"In {plural(seen.steps, 'step')} in a row, up to step {seen.step:,}, their "
                "weights were changed and no forward ran them in train mode. "
                f"{'The whole model is' if seen.whole else 'A part of the model is'} in eval mode"
                f"{f' ({seen.line})' if seen.line else ''}."
            ),
            consequence=(
                f"They do not normalise by the batch but by {statistics}, which are never "
                "updated; dropout is off as well."
            ),
            fix=(
                "call model.train() at the start of each epoch; model.eval() belongs around "
                "validation only. Where it is meant: guard(..., frozen=[pattern of the layers])"
            ),
            layers=seen.layers,
            evidence=(Evidence("steps in eval mode in a row", float(seen.steps)),),
            discriminator=str(seen.step) if subject_has_several(subject) else "",
        )


def subject_has_several(subject: Subject) -> bool:
    """Whether it began more than once, in other layers each time."""
    from normcheck.live.training_record import EvalSteps  # no scan has any

    return len(training_of(subject).of(EvalSteps)) > 1


RULE = Rule(
    code="NC701",
    name="eval-mode-steps",
    summary="norms in eval mode while the optimizer steps",
    severity=Severity.ERROR,
    need=Need.TRAINING,
    page=__doc__ or "",
    check=check,
)
