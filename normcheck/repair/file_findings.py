"""What the file alone says of its statistics, before anything is repaired. No torch."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normcheck.findings import Finding, Severity
from normcheck.norms.find_norms import anatomy_of
from normcheck.rules import catalogue
from normcheck.rules.evidence.initial_stats import FIX_TRAINED
from normcheck.rules.evidence.training_traces import biases_before, gradients_before
from normcheck.rules.rule import CannotTell, Subject
from normcheck.rules.statistics.histories import weighed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from normcheck.norms.anatomy import Anatomy
    from normcheck.saved.checkpoint import Checkpoint, SavedModel


def statistics_findings(
    checkpoint: Checkpoint, saved: SavedModel, anatomies: Mapping[str, Anatomy]
) -> list[Finding]:
    """Warnings and errors of the rules on statistics.

    Args:
        checkpoint: The file, open.
        saved: The model in it.
        anatomies: Of all its models, by their places.
    """
    anatomy = anatomies[saved.where]
    subject = Subject(
        anatomy,
        siblings=tuple(a for where, a in anatomies.items() if where != saved.where),
        optimizer_steps=checkpoint.optimizer_steps,
        alone=saved.alone,
        gradients=partial(gradients_before, saved, anatomy, checkpoint.optimizer_states),
        biases=partial(biases_before, saved, anatomy),
    )
    found = [f for rule in catalogue.select(["NC1"], []) for f in _judged(rule.judge(subject))]
    return [f for f in weighed(found) if f.severity is not Severity.INFO]


def training_in_eval(checkpoint: Checkpoint, saved: SavedModel) -> str:
    """What the file shows of a training in eval mode throughout, in words; empty where nothing."""
    anatomies = {model.where: anatomy_of(model) for model in checkpoint.models}
    findings = statistics_findings(checkpoint, saved, anatomies)
    return next((f.title for f in findings if f.fix == FIX_TRAINED), "")


def _judged(findings: Iterator[Finding]) -> Iterator[Finding]:
    try:
        yield from findings
    except CannotTell:
        return
