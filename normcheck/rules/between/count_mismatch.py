"""Batch counts that do not advance as training does.

## What it does
Compares how many batches the batch norms of a model counted between two checkpoints: with one
another, and with what both files say of the training's progress: the batches of Lightning's loop,
the optimizer's steps, `global_step` and its like, the steps of a learning rate's schedule.

## Why does it matter?
Every forward pass in train mode counts one batch in each layer that runs. In plain training all
layers advance by the same number, which is the number of optimizer steps. What deviates shows how
the layers were run:
- **more batches than steps, by no whole factor**: forward passes in train mode that nothing was
  learned from. A validation without `model.eval()` does that, and the statistics then hold
  validation data although weights moved as well;
- **a whole factor**: several forward passes a step (gradient accumulation, activation
  checkpointing, a layer shared by several inputs);
- **fewer batches than steps**: part of the training ran in eval mode. A schedule goes on once a
  step or once an epoch, so it shows this only where the batches are not half as many;
- **a count that goes down in some layers only**: they were reset, or loaded from elsewhere.

## How severe
A warning where counts go down in some layers, where there are more batches than steps by no
whole factor, or fewer than steps. Info where layers differ or a whole factor explains it: healthy
training does both.

## Stays silent
- for layers that did not move at all (`stats-stood-still` names them);
- for a few steps that mixed precision skipped, up to 5 %;
- for a training that was resumed and counts its steps from nothing again;
- where batches of a loop are known and gradients are accumulated: the batches count then;
- against all clocks, where a file holds several optimizers: nobody knows which trains the model.

## What to do
Look at what else calls the model in train mode within an epoch: validation, a metric, a teacher's
forward pass.

## Example
    for images, labels in loader:
        train_step(model, images, labels)
    accuracy = evaluate(model, validation)   # still in train mode: counts, and moves statistics
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.rules.between.accused_layers import Accused, accuse
from normcheck.rules.between.batches_per_step import SLACK, odd_paces
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.compare.movement import LayerChange, Step


def check(subject: Subject) -> Iterator[Finding]:
    """Layers against one another, then against the optimizer."""
    comparison = subject.compared
    if comparison.ranks:
        return
    back = accuse(comparison, comparison.steps, _went_back)
    uneven = accuse(comparison, comparison.steps, _unlike_the_rest)
    if back:
        yield _backwards(back)
    if uneven:
        yield _uneven(uneven)
    for pace in odd_paces(comparison, [_usual(_advanced(step)) for step in comparison.steps]):
        yield RULE.finding(
            severity=pace.severity,
            confidence=Confidence.MEDIUM,
            title=pace.title,
            detail=pace.detail,
            consequence=pace.consequence,
            fix=pace.fix,
            evidence=(
                Evidence("batches counted for each step", pace.ratio, 1 + SLACK, pace.steps),
            ),
            discriminator=pace.name,
        )


def _counting(step: Step) -> list[LayerChange]:
    """Layers that took part and count; one that stood still as a whole is another matter."""
    return [n for n in step.tracked if n.counted is not None and (n.stats_moved or n.counted)]


def _went_back(step: Step) -> list[LayerChange]:
    """Those whose count fell, where others went on: all of them only shows the files' order."""
    layers = _counting(step)
    fell = [n for n in layers if (n.counted or 0) < 0]
    return fell if len(fell) < len(layers) else []


def _unlike_the_rest(step: Step) -> list[LayerChange]:
    advanced = _advanced(step)
    usual = _usual(advanced)
    return [n for n in advanced if n.counted != usual]


def _advanced(step: Step) -> list[LayerChange]:
    # A norm that never counts (called through torch.nn.functional) is none of this.
    return [n for n in _counting(step) if (n.counted or 0) > 0]


def _usual(layers: Sequence[LayerChange]) -> float | None:
    """The commonest count, the smaller of equally common ones, so that "twice" reads right."""
    counts = Counter(n.counted for n in layers if n.counted is not None)
    return min(counts, key=lambda value: (-counts[value], value), default=None)


def _backwards(accused: Accused) -> Finding:
    before, after = accused.layers[0].batches
    return RULE.finding(
        layers=accused.paths,
        title=f"the batch count of {accused.norms} went down",
        detail=(
            f"From {number(before or 0)} to {number(after or 0)}, for instance{accused.when}, "
            "while the other layers went on counting."
        ),
        consequence=(
            "These layers were reset or loaded from elsewhere in between: their statistics do not "
            "go back as far as those of the rest."
        ),
        fix="check what is loaded or reset when training resumes (strict=False, another file)",
        evidence=(Evidence("batches counted", min(accused.counted), 0.0, len(accused.paths)),),
        discriminator="backwards",
    )


def _uneven(accused: Accused) -> Finding:
    first = accused.steps[0]
    usual = _usual(_advanced(first)) or 1.0
    others = sorted({n.counted or 0.0 for n in _unlike_the_rest(first)})
    shown = ", ".join(number(n) for n in others[:3]) + (" …" if len(others) > 3 else "")
    if all(n > usual and n % usual == 0 for n in others):
        reading = (
            "Whole factors: these layers run several times per step, or activation checkpointing "
            "runs them again."
        )
    elif all(n < usual for n in others):
        reading = "Fewer: frozen or not taken for a part of the time."
    else:
        reading = "No whole factor: they were frozen for a while, or do not always run."
    return RULE.finding(
        severity=Severity.INFO,
        layers=accused.paths,
        title=f"{accused.norms} counted unlike the rest",
        detail=f"{shown} batches against {number(usual)}{accused.when}. {reading}",
        consequence="None by itself; it shows how the layers were run.",
        fix="check that this is how the model was meant to be trained",
        evidence=(Evidence("different counts", float(len(others) + 1), 1.0, len(first.tracked)),),
        discriminator="uneven",
    )


RULE = Rule(
    code="NC604",
    name="count-mismatch",
    summary="batch counts that advance unlike training",
    severity=Severity.WARNING,
    need=Need.PAIR,
    page=__doc__ or "",
    check=check,
)
