"""The report of a guard: the live model and what rules say of the loop."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from normcheck.errors import NormcheckError
from normcheck.findings import Failure, Finding
from normcheck.live.watching.live_records import described
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.find_norms import anatomy_of
from normcheck.pipeline.judge import Asides, judge
from normcheck.report.report import ModelReport, Report, Standing, summarise
from normcheck.report.skipped_rules import SkippedEntries
from normcheck.rules.rule import CannotTell, Rule, Subject
from normcheck.version import VERSION
from normcheck.wording import part

if TYPE_CHECKING:
    from torch import nn

    from normcheck.live.training_record import TrainingRecord

_NOTHING = Anatomy(where="", layers=(), has_modules=True)
"""Rules on a loop judge the record alone."""


def findings_of(rules: Sequence[Rule], record: TrainingRecord) -> Iterator[Finding]:
    """What rules say of a loop; those that cannot tell say nothing."""
    subject = Subject(_NOTHING, training=record)
    for rule in rules:
        try:
            yield from rule.judge(subject)
        except CannotTell:
            continue


def guard_report(
    model: nn.Module, record: TrainingRecord, rules: tuple[Rule, ...], failures: Sequence[Failure]
) -> Report:
    """The report up to now.

    Args:
        model: As it is.
        record: What was seen.
        rules: That judge.
        failures: Of the guard.
    """
    name = type(model).__name__
    asides = Asides(errors=list(failures))
    verdicts = judge(name, Subject(_NOTHING, training=record), rules, asides)
    found = sorted(verdicts.findings, key=lambda f: (-f.severity.rank, f.rule, f.discriminator))
    errors = asides.errors
    models: tuple[ModelReport, ...] = ()
    try:
        models = (_model(name, model, record, rules, found, len(verdicts.ran)),)
    except NormcheckError as error:
        errors.append(Failure(name, f"{name}: {error.message}", error.hint))
    skipped = SkippedEntries(asides.skipped.groups())
    return Report(VERSION, models, tuple(found), (), skipped, tuple(errors), rules=rules)


def _model(
    name: str,
    model: nn.Module,
    record: TrainingRecord,
    rules: tuple[Rule, ...],
    found: Sequence[Finding],
    ran: int,
) -> ModelReport:
    saved = described(model, modes_known=True)
    anatomy = anatomy_of(saved, judge_links=False)
    watched, frozen = set(record.watched), set(record.frozen)
    standings = {
        layer.path: _standing(layer.path, watched, frozen, record.steps) for layer in anatomy.layers
    }
    notes = [f"guarded for {record.steps:,} steps of the optimizer, {record.forwards:,} forwards"]
    if frozen:
        share = part(len(frozen), len(watched), "norm", "is", "are")
        notes.append(f"{share} frozen on purpose, not judged")
    return ModelReport(
        target=name,
        where="",
        format="in memory",
        form=saved.form.value,
        size=sum(tensor.numel * tensor.dtype.itemsize for tensor in saved.tensors.values()),
        class_path=anatomy.class_path,
        tensors=anatomy.tensor_count,
        layers=tuple(
            summarise(layer, found, standing=standings[layer.path]) for layer in anatomy.layers
        ),
        rules=tuple(rule.code for rule in rules),
        ran=ran,
        notes=tuple(notes),
    )


def _standing(path: str, watched: set[str], frozen: set[str], steps: int) -> tuple[Standing, str]:
    if path not in watched:
        return Standing.UNTOLD, "without running statistics, not watched"
    if path in frozen:
        return Standing.UNTOLD, "frozen on purpose"
    if not steps:
        return Standing.UNTOLD, "no step of an optimizer was seen"
    return Standing.VOUCHED, "its training was watched"
