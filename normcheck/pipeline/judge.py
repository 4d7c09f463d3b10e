"""Rules over the models of one file: what they say, and why some could not."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from normcheck.errors import NormcheckError
from normcheck.findings import Failure, Finding, Skipped
from normcheck.pipeline.results import Verdicts
from normcheck.pipeline.vouching import standings
from normcheck.report.certificate import certificate_of
from normcheck.report.fit_summary import AgreementSummary, summarise_agreement
from normcheck.report.healthy_reading import folding
from normcheck.report.report import ModelReport, summarise
from normcheck.report.run_summary import summarise_run
from normcheck.rules.rule import CannotTell, Need, Rule, Subject
from normcheck.rules.settled_by_run import settled
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.unread_tensors import unread_notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.config.settings import Settings
    from normcheck.live.measurement import Run
    from normcheck.norms.anatomy import Anatomy
    from normcheck.norms.belonging.gradient_trace import GradientTrace

BUG = "this is a bug in normcheck; please report it"


@dataclass(frozen=True, slots=True, eq=False)
class Known:
    """One model and all that is known of it before rules judge."""

    model: SavedModel
    anatomy: Anatomy
    run: Run | None = None
    notes: tuple[str, ...] = ()
    held: str = ""
    """Why a run that was asked for was not done, where only another flag allows it."""


@dataclass(slots=True)
class Asides:
    """What is no finding, as it comes up."""

    skipped: list[Skipped] = field(default_factory=list)
    errors: list[Failure] = field(default_factory=list)


def judge(
    checkpoint: Checkpoint, models: Sequence[Known], settings: Settings, asides: Asides
) -> Iterator[tuple[ModelReport, Verdicts]]:
    """Let the rules of a file judge each of its models, one after the other.

    Args:
        checkpoint: The file.
        models: What is known of its models.
        settings: Which rules, with which thresholds.
        asides: Gains what was skipped and what broke.
    """
    rules = settings.rules_of(checkpoint.name)
    for known in models:
        yield _judged(checkpoint, known, models, rules, settings.keep_predictions, asides)


def _judged(
    checkpoint: Checkpoint,
    known: Known,
    models: Sequence[Known],
    rules: tuple[Rule, ...],
    keep_predictions: bool,
    asides: Asides,
) -> tuple[ModelReport, Verdicts]:
    model, anatomy = known.model, known.anatomy
    subject = Subject(
        anatomy,
        siblings=tuple(other.anatomy for other in models if other is not known),
        optimizer_steps=checkpoint.optimizer_steps,
        alone=model.where == "" and model.form is not Form.LIVE,
        gradients=partial(_gradients, checkpoint, known),
        run=known.run,
    )
    # Of a model without norms no rule can say anything, not even that it is well.
    something = subject.layers or anatomy.power_iterations or anatomy.baked or known.run
    rules = rules if something else ()
    ran: list[str] = []
    before = len(asides.skipped)
    found = settled(
        list(_findings(checkpoint.name, subject, rules, ran, asides, known.held)), known.run
    )
    run = summarise_run(known.run) if known.run else None
    skipped = {entry.rule for entry in asides.skipped[before:]}
    standing = standings(anatomy, run, ran, skipped)
    report = ModelReport(
        target=checkpoint.name,
        where=model.where,
        format=checkpoint.format,
        form=model.form.value,
        size=checkpoint.size,
        class_path=anatomy.class_path,
        tensors=anatomy.tensor_count,
        layers=tuple(
            summarise(layer, exported=anatomy.exported, standing=standing[layer.path])
            for layer in anatomy.layers
        ),
        rules=tuple(rule.code for rule in rules),
        agreement=_agreement(anatomy, keep_predictions),
        notes=(*checkpoint.notes, *unread_notes(model), *folding(anatomy), *known.notes),
        run=run,
        ran=len(ran),
    )
    earned = certificate_of(report.layers).earned
    return report, Verdicts(model.where, tuple(found), tuple(ran), vouched=earned)


def _gradients(checkpoint: Checkpoint, known: Known, paths: Sequence[str]) -> GradientTrace | None:
    if not checkpoint.optimizer_states:
        return None
    from normcheck.norms.belonging.gradient_trace import (
        gradient_trace,  # for training checkpoints only
    )

    return gradient_trace(known.model, known.anatomy.layers, paths, checkpoint.optimizer_states)


def _agreement(anatomy: Anatomy, keep_predictions: bool) -> AgreementSummary | None:
    if anatomy.agreement is None:
        return None
    return summarise_agreement(anatomy.agreement, keep_values=keep_predictions)


def _findings(
    name: str,
    subject: Subject,
    rules: tuple[Rule, ...],
    ran: list[str],
    asides: Asides,
    held: str,
) -> Iterator[Finding]:
    where = subject.anatomy.where
    for rule in rules:
        if not rule.need.scanned:
            continue  # not skipped: a scan never has a second checkpoint, nor a training loop
        reason = _cannot_run(rule, subject, held)
        if reason:
            asides.skipped.append(Skipped(name, where, rule.code, *reason))
            continue
        try:
            for finding in rule.judge(subject):
                yield replace(finding, model=name, where=where)
            ran.append(rule.code)
        except CannotTell as outcome:
            asides.skipped.append(Skipped(name, where, rule.code, str(outcome)))
        except NormcheckError as error:
            asides.errors.append(Failure(name, error.message, error.hint, rule.code, where))
        except Exception as error:  # a rule that breaks must not end the audit
            message = f"rule {rule.code} failed on {name}: {type(error).__name__}: {error}"
            trace = _trace()
            asides.errors.append(Failure(name, message, BUG, rule.code, where, trace))


def _trace() -> str:
    import traceback  # only where something broke

    return traceback.format_exc()


def _cannot_run(rule: Rule, subject: Subject, held: str) -> tuple[str, str, bool] | None:
    """Why a rule has not what it needs, what that is, and whether only other flags give it."""
    run = subject.run
    if held and rule.need in (Need.RUN, Need.DATA):
        return held, "code of the configuration (--trust-config)", False
    if rule.need is Need.RUN and run is None:
        return "needs to run the model", "a run (--run, --model)", True
    if rule.need is Need.DATA and run is None:
        return "needs to run the model on your data", "your data (--data)", True
    if rule.need is Need.DATA and run is not None and run.against_data is None:
        few = "has too few samples" if run.fed.real else "was fed made-up input"
        return f"needs your data, the run {few}", "your data (--data)", not run.fed.real
    if rule.need is Need.MODULES and not subject.anatomy.has_modules:
        return (
            f"needs the module tree, the file has a {Form.STATE_DICT}",
            "a whole saved module",
            False,
        )
    return None
