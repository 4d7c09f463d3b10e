"""Forwards in train mode from which nothing is learned.

## What it does
While `normcheck.guard` watches a training loop, looks for forwards of a model in train mode
between two steps of the optimizer that no `backward` follows: several under `no_grad` in a row,
one or two of them again and again, or many more without `no_grad` than a step usually takes.

## Why is this bad?
That is a validation without `model.eval()`. Every such forward updates the running statistics with
the batch that it is given: they come to hold validation data, in the order of the validation set,
and the last batches count most. The validation itself sees dropout and batch statistics.

## How severe
A warning: how much it costs depends on how far validation data differ.

## Stays silent
Re-estimation (`update_bn` and others that set momentum to None or 1), activation checkpointing,
teachers and momentum encoders, pseudo-labels in every step, and forwards before the first step.

## What to do
Call `model.eval()` before validation and `model.train()` after it. Forwards in train mode that are
meant go into `with guard.paused():`.

## Example
    with torch.no_grad():
        for x, y in val_loader:     # the model is still in train mode
            correct += (model(x).argmax(1) == y).sum()
"""

from collections.abc import Iterator

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.rule import Need, Rule, Subject, training_of
from normcheck.wording import plural


def check(subject: Subject) -> Iterator[Finding]:
    """One finding: the loop does it again and again."""
    from normcheck.live.training_record import IdleForwards  # no scan has any

    for seen in training_of(subject).of(IdleForwards)[:1]:
        how = "under no_grad" if seen.without_gradients else "without a call of backward()"
        yield RULE.finding(
            confidence=Confidence.HIGH if seen.without_gradients else Confidence.MEDIUM,
            title=f"forwards in train mode {how} update running statistics",
            detail=(
                f"After step {seen.step:,}, {plural(seen.forwards, 'forward')} ran in train mode "
                f"{how}{f' ({seen.line})' if seen.line else ''}."
            ),
            consequence=(
                "A validation without model.eval() does that: the running statistics take in its "
                "batches, and what it measures is not what the saved model will do."
            ),
            fix=(
                "call model.eval() before validation and model.train() after it; forwards that "
                "are meant so go into 'with guard.paused():'"
            ),
            layers=seen.layers,
            evidence=(Evidence("forwards without learning", float(seen.forwards)),),
        )


RULE = Rule(
    code="NC702",
    name="idle-forwards",
    summary="forwards in train mode without a step (validation)",
    severity=Severity.WARNING,
    need=Need.TRAINING,
    page=__doc__ or "",
    check=check,
)
