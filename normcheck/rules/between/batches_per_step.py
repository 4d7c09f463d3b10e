"""Batches that norms counted against the clocks of the training, and how to read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.findings import Severity
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.clocks import OPTIMIZER, Unit
from normcheck.wording import number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.compare.movement import Comparison, Step
    from normcheck.saved.clocks import Clock

SLACK = 0.05
"""Relative difference of batches and steps that steps skipped in mixed precision may explain."""
FEWEST_STEPS = 10
"""Steps below which a ratio says nothing."""
FEW = 0.5
"""Batches for each epoch or step of a schedule below which they are too few, whichever of the two
it counts: there are at least as many batches as that."""


@lazy_dataclass()
class Pace:
    """A ratio of batches to optimizer steps that is not one, and what it says."""

    name: str
    severity: Severity
    title: str
    consequence: str
    fix: str
    detail: str
    ratio: float
    steps: int
    """Steps between checkpoints in which it shows."""


def odd_paces(comparison: Comparison, batches: Sequence[float | None]) -> Iterator[Pace]:
    """The ratios that differ from one, each kind once.

    Args:
        comparison: Moments of one run.
        batches: Counted in each of its steps; None where that is not known.
    """
    kinds: dict[str, list[tuple[Step, float, int]]] = {}
    for step, counted in zip(comparison.steps, batches, strict=True):
        made = step.steps_made or 0
        if counted and counted > 0 and made >= FEWEST_STEPS and step.learned:
            kind = _kind(counted, made, step.clock)
            if kind:
                kinds.setdefault(kind, []).append((step, counted, made))
    for kind, found in kinds.items():
        yield _pace(kind, found, comparison)


def _kind(counted: float, made: int, clock: Clock | None) -> str:
    if clock is not None and clock.unit is Unit.AT_LEAST:
        return "fewer" if counted < FEW * made else ""
    kind = _of_ratio(counted / made)
    # A loop that was resumed may count from nothing again, while the norms go on.
    if kind in ("more", "fewer") and clock is not None and clock.value > made:
        return kind if _of_ratio(counted / clock.value) in ("more", "fewer") else ""
    return kind


def _of_ratio(ratio: float) -> str:
    if abs(ratio - 1) <= SLACK:
        return ""
    if ratio < 1:
        return "fewer"
    whole = round(ratio)
    return f"{whole} each" if whole > 1 and abs(ratio / whole - 1) <= SLACK else "more"


def _who(clock: Clock | None) -> tuple[str, str]:
    """Who counted, and what."""
    if clock is None or clock.name == OPTIMIZER:
        return "the optimizer in the same files", "steps"
    if clock.unit is Unit.BATCHES:
        return "the training loop in the same files", "batches"
    if clock.unit is Unit.AT_LEAST:
        return f"the schedule of the learning rate ({clock.name})", "steps or epochs"
    return f"the training loop ({clock.name})", "steps"


def _pace(kind: str, found: Sequence[tuple[Step, float, int]], comparison: Comparison) -> Pace:
    from normcheck.compare.movement import runs_of  # a scan never compares

    batches, made = sum(entry[1] for entry in found), sum(entry[2] for entry in found)
    ratio, apart = batches / made, number(abs(batches - made))
    steps = tuple(entry[0] for entry in found)
    where = f" from {runs_of(comparison, steps)}" if len(comparison.steps) > 1 else ""
    severity = Severity.WARNING
    if kind == "fewer":
        title = "fewer batches were counted than steps made"
        consequence = (
            f"About {apart} steps were made without a forward pass in train mode: a part of the "
            "training ran in eval mode, without dropout and without updates of the statistics."
        )
        fix = "see that model.train() follows every model.eval() in the training loop"
    elif kind == "more":
        title = "more batches were counted than steps made"
        consequence = (
            f"About {apart} forward passes ran in train mode without a step of learning. A "
            "validation without model.eval() does that: the running statistics then hold "
            "validation data, though weights moved as well."
        )
        fix = "call model.eval() before validation and model.train() after it"
    else:
        severity = Severity.INFO
        title = f"{round(ratio)} batches were counted for each step"
        consequence = (
            "None by itself: gradient accumulation, activation checkpointing, or several forward "
            "passes a step do that."
        )
        fix = "check that the model is meant to run so often in train mode"
    who, what = _who(steps[0].clock)
    went = "went on by" if steps[0].clock and steps[0].clock.unit is Unit.AT_LEAST else "made"
    each = "batch" if what == "batches" else "step"
    detail = (
        f"The layers counted {number(batches)} {'batch' if batches == 1 else 'batches'}{where}, "
        f"{who} {went} {number(made)} {what}: {number(ratio)} a {each}."
    )
    return Pace(kind, severity, title, consequence, fix, detail, ratio, len(found))
