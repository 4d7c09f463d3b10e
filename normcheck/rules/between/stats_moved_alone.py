"""Running statistics that moved under weights that did not.

## What it does
Compares two checkpoints, or each with the next of a series. Reported are batch norms whose
running statistics moved while no weight of the model did; and, in a model that was trained in
other parts, batch norms whose own weights, γ and β stood still while their statistics moved.

## Why is this bad?
A forward pass in train mode moves the statistics towards the batches that it sees, whether or
not anything is learned. Statistics that move alone show such passes:
- **a validation without `model.eval()`**: the statistics, and every later prediction, now
  depend on the validation data;
- **a frozen part in train mode**: `requires_grad = False` does not stop running statistics.
  The part drifts away from what it was trained as;
- **a re-estimation on purpose**: `update_bn`, PreciseBN, adaptation to another domain.

Statistics that are back at 0 and 1, which no forward pass leads to, were lost between the two
files. That is reported whether or not weights moved.

## How severe
A warning; an error where statistics were lost and the weights are the same. Info where
statistics at 0 and 1 were replaced by real ones: somebody collected them.

## Stays silent
- where the weights moved along with the statistics, as in training;
- for two files with equal weights and equal counts, which look like two ranks of one step
  (`ranks-disagree`);
- where all that moved went through one exact operation each (`exact-transformation`);
- for differences below the rounding of the coarser of two element types.

## What to do
Call `model.eval()` before validation, and on a frozen part after each `model.train()`. Where
the statistics were re-estimated on purpose, ignore this finding.

## Example
    torch.save(model.state_dict(), "before.pt")
    with torch.no_grad():               # no gradients, and still in train mode
        for images, labels in validation:
            correct += (model(images).argmax(1) == labels).sum()
    torch.save(model.state_dict(), "after.pt")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Evidence, Finding, Severity
from normcheck.norms.kinds import Family
from normcheck.rules.between.accused_layers import Accused, accuse
from normcheck.rules.between.frozen_parts import drifted_part
from normcheck.rules.rule import Need, Rule, Subject
from normcheck.wording import plural

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.compare.movement import LayerChange, Step

_LOST, _COLLECTED = (False, True), (True, False)
"""Whether statistics are 0 and 1, before and after."""


def check(subject: Subject) -> Iterator[Finding]:
    """Steps in which nothing was learned, then parts in which nothing was."""
    comparison = subject.compared
    if comparison.ranks or comparison.converted:
        return
    idle = [s for s in comparison.steps if not s.learned and s.weights and not s.same_moment]
    lost = accuse(comparison, comparison.steps, lambda step: _which(step, _LOST))
    moved = accuse(comparison, idle, lambda step: _which(step, (False, False)))
    collected = accuse(comparison, idle, lambda step: _which(step, _COLLECTED))
    learned = [step for step in comparison.steps if step.learned]
    drifted = accuse(comparison, learned, _drifted)
    if lost:
        yield _report_lost(lost)
    if moved:
        yield _report_moved(moved)
    if drifted:
        yield drifted_part(RULE, drifted)
    if collected:
        yield _report_collected(collected)


def _which(step: Step, initial: tuple[bool, bool]) -> list[LayerChange]:
    return [n for n in step.tracked if n.stats_moved and n.at_initial_values == initial]


def _drifted(step: Step) -> list[LayerChange]:
    """Layers whose statistics moved and whose weights certainly did not.

    The layer before a norm is a guess; γ and β are the norm's own, and training moves them.
    """
    return [
        n
        for n in step.tracked
        if n.stats_moved
        and n.family is Family.BATCH
        and n.weights is not None
        and n.affine is not None
        and n.learned is False
    ]


def _report_moved(accused: Accused) -> Finding:
    comparison = accused.comparison
    tensors = accused.steps[0].tensors
    half = next((s.floating for s in comparison.sides if s.floating.endswith("float16")), "")
    reading, consequence = _reading(accused.counted_by_step)
    return RULE.finding(
        severity=Severity.WARNING,
        layers=accused.paths,
        confidence=Confidence.MEDIUM if half or comparison.sampled else Confidence.HIGH,
        title=(
            f"{accused.norms} changed {'its' if len(accused.paths) == 1 else 'their'} "
            "statistics while no weight moved"
        ),
        detail=(
            f"{plural(tensors, 'weight tensor')}, γ and β are identical"
            f"{f' as far as {half} shows' if half else ''}"
            f"{' in the values that were read' if comparison.sampled else ''}"
            f"{accused.when}; {accused.shifted}. {reading}"
        ),
        consequence=consequence,
        fix=(
            "call model.eval() before validation and prediction, model.train() before training; "
            "ignore this where the statistics were re-estimated on purpose"
        ),
        evidence=(
            accused.shift_evidence,
            Evidence("movement of the weights", 0.0, 0.0, tensors),
        ),
        discriminator="alone",
    )


def _reading(counted: Sequence[float]) -> tuple[str, str]:
    """What the counts say, and what it does to predictions."""
    otherwise = "Eval mode now predicts otherwise though nothing was learned."
    leaked = f"{otherwise} If these were validation data, results on them are tainted."
    if not counted:
        return "No batch count is stored: passes in train mode, or a re-estimation.", leaked
    if min(counted) > 0:
        passed = plural(int(sum(counted)), "batch")
        return f"{passed} passed in train mode and nothing was learned from them.", leaked
    if min(counted) < 0:
        went = "The batch count went down: statistics reset and collected anew, as update_bn does."
        return went, otherwise
    return "No batch was counted: re-estimated, averaged or put there from elsewhere.", otherwise


def _report_lost(accused: Accused) -> Finding:
    first = accused.steps[0]
    names = [accused.comparison.name(side) for side in (first.old, first.new)]
    beside = "other weights" if first.learned else "the same weights"
    unless = ", unless it was trained so, in eval mode from the start" if first.learned else ""
    return RULE.finding(
        # Under other weights the new file may be of a model that was trained so from the start.
        severity=Severity.WARNING if first.learned else Severity.ERROR,
        layers=accused.paths,
        title=f"{accused.norms} lost the running statistics",
        detail=(
            f"{names[0]} has real ones, {names[1]} has 0 and 1 in all "
            f"{plural(accused.channels, 'channel')} of these layers, under {beside}."
        ),
        consequence=(
            f"In eval mode these layers of {names[1]} do not normalise any more: its predictions "
            f"are wrong{unless}."
        ),
        fix=(
            f"use {names[0]}, and find what dropped the buffers on the way (strict=False, "
            "parameters copied alone, reset_running_stats)"
        ),
        evidence=(
            Evidence("running_mean in every channel", 0.0, 0.0, accused.channels),
            Evidence("running_var in every channel", 1.0, 1.0, accused.channels),
        ),
        discriminator="lost",
    )


def _report_collected(accused: Accused) -> Finding:
    return RULE.finding(
        severity=Severity.INFO,
        layers=accused.paths,
        title=f"{accused.norms} got real running statistics",
        detail=f"They were 0 and 1{accused.when}, under the same weights.",
        consequence="Eval mode normalises now; whether it predicts better, only data can tell.",
        fix="compare accuracy of both files in eval mode on a few labelled batches",
        discriminator="collected",
    )


RULE = Rule(
    code="NC602",
    name="stats-moved-alone",
    summary="running statistics moved, weights did not",
    severity=Severity.ERROR,
    need=Need.PAIR,
    page=__doc__ or "",
    check=check,
)
