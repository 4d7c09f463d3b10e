"""A model that answers no better than guessing on the user's labels.

## What it does
Counts the right answers in eval mode on your labelled data, and holds them against what guessing
gives: one class in all of them, or the model's own answers dealt out anew, whichever is more (so
that a model that always says the most frequent class knows nothing). It speaks where so many right
answers are no surprise from guessing (binomial test at 1 %), and where there are enough samples for
a model that knows something to show it. Of decisions at many places of a sample (segmentation,
tokens, marks) it asks how far they agree with the labels beyond the model's own answers for other
samples at the same places (Cohen's kappa), with samples as units. Of numbers it asks how much of
the error of one constant for all samples they take away, by squares against the mean and by
absolute values against the median, whichever is more.

## Why is this bad?
Whatever the cause, these predictions are worth nothing. A comparison of statistics says nothing
either: both are at chance, and neither is right because of it.

## How severe
A warning. Where another finding explains it (lost statistics, an input that the model does not
know, norms in train mode), that finding carries it and this one is left out.

## What to do
Check that the labels are this model's: their order, an offset by one, the classes' names. Check the
preprocessing (channel order, inverted intensities, scale), of numbers the unit (a model trained on
standardised labels predicts standardised ones), then whether training got anywhere: with
`model.eval()` left on from before the first epoch deep models learn nothing.

## Example
    images = 1 - images  # inverted: the model answers, and always wrongly
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.data.skill import at_chance, knows_nothing, skill_in_words
from normcheck.rules.rule import Need, Rule, Subject, impossible_statistics
from normcheck.wording import percent, plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from normcheck.live.hits import Skill
    from normcheck.live.measurement import AgainstData


def check(subject: Subject) -> Iterator[Finding]:
    """One finding on the outputs."""
    data = subject.run.against_data if subject.run else None
    if data is None or impossible_statistics(subject):
        return
    if data.skill is not None and knows_nothing(data.skill):
        yield _without_skill(data, data.skill)
    if data.answers is None or not at_chance(data.answers):
        return
    answers, given = data.answers, data.given_answers
    share = answers.right / answers.samples
    others = ""
    if given is not None and at_chance(given):
        others = (
            f" With re-estimated statistics it is {percent(given.right / given.samples)}: both are "
            "at chance, so accuracy decides nothing between them."
        )
    yield RULE.finding(
        confidence=Confidence.MEDIUM,
        title="the model answers no better than guessing",
        detail=(
            f"On {plural(answers.samples, 'labelled sample')} accuracy is {percent(share)} in eval "
            f"mode, between {answers.classes} classes; guessing gives {percent(answers.chance)}."
            f"{others}"
        ),
        consequence=_WORTHLESS,
        fix=_CHECK,
        evidence=(Evidence("accuracy in eval mode", share, answers.chance, answers.samples),),
    )


def _without_skill(data: AgainstData, skill: Skill) -> Finding:
    """Of numbers, and of decisions at many places."""
    numbers = skill.of == "numbers"
    others = ""
    if data.given_skill is not None and knows_nothing(data.given_skill):
        others = " With re-estimated statistics it is no better, so that decides nothing."
    return RULE.finding(
        confidence=Confidence.MEDIUM,
        title=(
            "the model predicts no better than a constant"
            if numbers
            else "the model answers no better than guessing"
        ),
        detail=(
            f"On {plural(skill.samples, 'labelled sample')}, in eval mode, "
            f"{skill_in_words(skill)}.{others}"
        ),
        consequence=(
            "Its predictions on these data are worth nothing: labels in another unit or of "
            "something else, input that it does not know, or weights that learned nothing."
            if numbers
            else _WORTHLESS
        ),
        fix=(
            "check the labels' unit and the preprocessing; if both are right, train again, "
            "with model.train() at the start of each epoch"
            if numbers
            else _CHECK
        ),
        evidence=(
            Evidence("share of the error of guessing taken away", skill.share, 0.0, skill.samples),
        ),
    )


_WORTHLESS = (
    "Its predictions on these data are worth nothing: other labels than the model's, input "
    "that it does not know, or weights that learned nothing."
)
_CHECK = (
    "check the order of the classes and the preprocessing; if both are right, train again, "
    "with model.train() at the start of each epoch"
)


RULE = Rule(
    code="NC406",
    name="at-chance",
    summary="answers on your labels are no better than guessing",
    severity=Severity.WARNING,
    need=Need.DATA,
    page=__doc__ or "",
    check=check,
)
