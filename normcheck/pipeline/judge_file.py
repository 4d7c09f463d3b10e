"""The models of one file, judged and as a report shows them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from normcheck.lazy_dataclass import lazy_dataclass, replace
from normcheck.pipeline.judge import Asides, judge
from normcheck.pipeline.vouching import standings
from normcheck.report.certificate import certificate_for
from normcheck.report.fit_summary import AgreementSummary, summarise_agreement
from normcheck.report.form import Wish
from normcheck.report.healthy_reading import folding
from normcheck.report.report import ModelReport, summarise
from normcheck.report.run_summary import summarise_run
from normcheck.rules.evidence.training_traces import biases_before, gradients_before
from normcheck.rules.rule import Rule, Subject
from normcheck.saved.checkpoint import Checkpoint, Form, SavedModel
from normcheck.saved.unread_tensors import unread_notes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.live.measurement import Run
    from normcheck.norms.anatomy import Anatomy
    from normcheck.pipeline.results import Verdicts


@lazy_dataclass(eq=False)
class KnownModel:
    """One model and all that is known of it before rules judge."""

    model: SavedModel
    anatomy: Anatomy
    run: Run | None = None
    notes: tuple[str, ...] = ()
    held: str = ""
    """Why a run that was asked for was not done, where only another flag allows it."""
    failed: bool = False
    """Whether a run that was asked for failed; an error says how."""


def judge_models(
    checkpoint: Checkpoint,
    models: Sequence[KnownModel],
    rules: tuple[Rule, ...],
    wishes: frozenset[Wish],
    asides: Asides,
) -> Iterator[tuple[ModelReport, Verdicts]]:
    """Let rules judge each model of a file, one after the other.

    Args:
        checkpoint: The file.
        models: What is known of its models.
        rules: Those of the file.
        wishes: What outputs want kept of the models.
        asides: Gains what was skipped and what broke.
    """
    for known in models:
        yield _judged(checkpoint, known, models, rules, wishes, asides)


def _judged(
    checkpoint: Checkpoint,
    known: KnownModel,
    models: Sequence[KnownModel],
    rules: tuple[Rule, ...],
    wishes: frozenset[Wish],
    asides: Asides,
) -> tuple[ModelReport, Verdicts]:
    model, anatomy = known.model, known.anatomy
    subject = Subject(
        anatomy,
        siblings=tuple(other.anatomy for other in models if other is not known),
        optimizer_steps=checkpoint.optimizer_steps,
        clocks=checkpoint.pace,
        alone=model.alone and model.form is not Form.LIVE,
        gradients=partial(gradients_before, model, anatomy, checkpoint.optimizer_states),
        biases=partial(biases_before, model, anatomy),
        run=known.run,
    )
    # No rule can say anything of a model without norms, not even that it is healthy.
    modes = anatomy.baked or anatomy.modes_given
    something = subject.layers or anatomy.power_iterations or modes or known.run
    rules = rules if something else ()
    verdicts = judge(checkpoint.name, subject, rules, asides, held=known.held)
    run = summarise_run(known.run) if known.run else None
    skipped = asides.skipped.rules_of(checkpoint.name, model.where)
    standing = standings(anatomy, run, verdicts.ran, skipped, subject.siblings)
    report = ModelReport(
        target=checkpoint.name,
        where=model.where,
        format=checkpoint.format,
        form=model.form.value,
        size=checkpoint.size,
        class_path=anatomy.class_path,
        tensors=anatomy.tensor_count,
        layers=tuple(
            summarise(
                layer,
                exported=anatomy.exported,
                standing=standing[layer.path],
                bins=Wish.LINES_ALONE not in wishes,
            )
            for layer in anatomy.layers
        ),
        rules=tuple([rule.code for rule in rules]),
        agreement=_agreement(anatomy, wishes),
        notes=(*checkpoint.notes, *unread_notes(model), *folding(anatomy), *known.notes),
        run=run,
        run_failed=known.failed,
        ran=len(verdicts.ran),
    )
    return report, replace(verdicts, vouched=certificate_for(report).earned)


def _agreement(anatomy: Anatomy, wishes: frozenset[Wish]) -> AgreementSummary | None:
    if anatomy.agreement is None:
        return None
    return summarise_agreement(anatomy.agreement, keep_values=Wish.PREDICTIONS in wishes)
