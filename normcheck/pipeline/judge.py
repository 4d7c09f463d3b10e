"""Rules over one model: what they say, and why some could not. The one judge of all runs."""

from __future__ import annotations

from dataclasses import field
from typing import TYPE_CHECKING

from normcheck.errors import NormcheckError
from normcheck.findings import Failure, Finding
from normcheck.lazy_dataclass import lazy_dataclass, replace
from normcheck.pipeline.results import Verdicts
from normcheck.report.skipped_rules import Gathered
from normcheck.rules.rule import CannotTell, Need, Rule, Subject
from normcheck.rules.statistics.histories import weighed
from normcheck.saved.checkpoint import Form

if TYPE_CHECKING:
    from collections.abc import Iterable

BUG = "this is a bug in normcheck; please report it"


@lazy_dataclass(frozen=False)
class Asides:
    """What comes up that is not a finding."""

    skipped: Gathered = field(default_factory=Gathered)
    errors: list[Failure] = field(default_factory=list)


def judge(
    name: str, subject: Subject, rules: Iterable[Rule], asides: Asides, *, held: str = ""
) -> Verdicts:
    """Let rules judge one model; one that fails costs its own verdict and nothing else.

    Args:
        name: The file, as findings name it.
        subject: The model and what is known of it.
        rules: In the order of the findings; those that this kind of run has no use for are left
            out without a word.
        asides: Gains what was skipped and what failed.
        held: Why a run that was asked for was not done, where only another flag allows it.
    """
    where = subject.anatomy.where
    found: list[Finding] = []
    ran: list[str] = []
    for rule in concerned(rules, subject):
        reason = _cannot_run(rule, subject, held)
        if reason:
            asides.skipped.add(name, where, rule.code, *reason)
            continue
        try:
            for finding in rule.judge(subject):
                found.append(replace(finding, model=name, where=where))  # noqa: PERF401  (may raise)
            ran.append(rule.code)
        except CannotTell as outcome:
            asides.skipped.add(name, where, rule.code, str(outcome))
        except NormcheckError as error:
            asides.errors.append(Failure(name, error.message, error.hint, rule.code, where))
        except Exception as error:  # a rule that breaks must not end the audit
            message = f"rule {rule.code} failed on {name}: {type(error).__name__}: {error}"
            trace = _trace()
            asides.errors.append(Failure(name, message, BUG, rule.code, where, trace))
    found = weighed(found)
    if subject.run is not None:
        from normcheck.rules.settled_by_run import settled  # most scans run nothing

        found = settled(found, subject.run)
    return Verdicts(where, tuple(found), tuple(ran))


def concerned(rules: Iterable[Rule], subject: Subject) -> tuple[Rule, ...]:
    """The rules that are about such a subject: one model, several states, its export, a training.

    The others are not skipped: a scan never has a second checkpoint, nor a training loop.
    """
    if subject.training is not None:
        return tuple(rule for rule in rules if rule.need is Need.TRAINING)
    if subject.pair is None:
        return tuple(rule for rule in rules if rule.need.scanned)
    need = Need.PAIR if subject.pair.match is None else Need.EXPORT
    return tuple(rule for rule in rules if rule.need is need)


def _trace() -> str:
    import traceback  # only where something broke

    return traceback.format_exc()


def _cannot_run(rule: Rule, subject: Subject, held: str) -> tuple[str, str, bool] | None:
    """Why a rule lacks what it needs, what that is, and whether only other flags give it."""
    if rule.need is Need.STATE:
        return None  # as most
    run = subject.run
    if held and rule.need in (Need.RUN, Need.DATA):
        return held, "code of the configuration (--trust-config)", False
    if rule.need is Need.RUN and run is None:
        return "needs to run the model", "a run (--run, --model)", True
    if rule.need is Need.DATA and run is None:
        return "needs to run the model on your data", "your data (--data)", True
    if rule.need is Need.DATA and run is not None and run.against_data is None:
        if run.fed.real and not run.dry:
            return "the data have too few samples", "more samples (--data)", False
        instead = "was a dry run" if run.dry else "was fed made-up input"
        return f"needs your data, the run {instead}", "your data (--data)", not run.fed.real
    if rule.need is Need.MODULES and not subject.anatomy.has_modules:
        return (
            f"needs the module tree, the file has a {Form.STATE_DICT}",
            "a whole saved module",
            False,
        )
    return None
