"""One judge: what a rule does that fails, cannot tell or is not concerned is the same for all."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from normcheck.config.examination import Examination
from normcheck.config.policy import LayerIgnore, Policy
from normcheck.errors import NormcheckError
from normcheck.findings import Finding, Severity
from normcheck.pipeline.judge import BUG
from normcheck.report.report import Report
from normcheck.rules.catalogue import RULES, find
from normcheck.rules.rule import CannotTell, Need, Rule, Subject
from normcheck.runs.diff import diff
from normcheck.runs.scan import scan

SAMPLE = "statistics-lost.pt"
Run = Callable[[Path, tuple[Rule, ...], Policy | None], Report]


def _scanned(samples: Path, rules: tuple[Rule, ...], policy: Policy | None) -> Report:
    asked = Examination(rules=tuple(replace(rule, need=Need.STATE) for rule in rules))
    return scan(samples / SAMPLE, asked, policy)


def _compared(samples: Path, rules: tuple[Rule, ...], policy: Policy | None) -> Report:
    asked = Examination(rules=tuple(replace(rule, need=Need.PAIR) for rule in rules))
    return diff([samples / "digits-healthy.pt", samples / SAMPLE], asked, policy).report


@pytest.fixture(params=[_scanned, _compared], ids=["scan", "diff"])
def run(request: pytest.FixtureRequest) -> Run:
    """A run of made-up rules over one model: a scan, and a comparison."""
    made: Run = request.param
    return made


def _refuses(_subject: Subject) -> Iterator[Finding]:
    raise NormcheckError("the weights are too large", "raise --limit")
    yield


def _breaks(subject: Subject) -> Iterator[Finding]:
    yield SOUND.finding(title="first", detail="", consequence="", fix="", layers=subject.layers)
    raise ZeroDivisionError("on purpose")


def _undecided(_subject: Subject) -> Iterator[Finding]:
    raise CannotTell("not without data")
    yield


def _finds(subject: Subject) -> Iterator[Finding]:
    for severity in (Severity.INFO, Severity.ERROR):
        yield SOUND.finding(
            title=severity.value, detail="", consequence="", fix="", layers=subject.layers[:2],
            severity=severity, discriminator=severity.value,
        )  # fmt: skip


SOUND = replace(find("NC101"), check=_finds)
OTHER = find("NC103")


def test_an_error_that_a_rule_names_is_that_error(samples: Path, run: Run) -> None:
    """It has its own words and hint, and is nobody's bug."""
    report = run(samples, (replace(OTHER, check=_refuses), SOUND), None)
    (error,) = report.errors
    assert (error.message, error.hint) == ("the weights are too large", "raise --limit")
    assert (error.rule, Path(error.model).name, error.trace) == (OTHER.code, SAMPLE, "")
    assert {f.rule for f in report.findings} == {SOUND.code}


def test_any_other_exception_is_a_bug_of_the_rule(samples: Path, run: Run) -> None:
    """What it found before stands, and the other rules are heard."""
    report = run(samples, (replace(OTHER, check=_breaks), SOUND), None)
    (error,) = report.errors
    name = samples / SAMPLE
    assert error.message == f"rule {OTHER.code} failed on {name}: ZeroDivisionError: on purpose"
    assert (error.hint, error.rule) == (BUG, OTHER.code)
    assert "_breaks" in error.trace
    assert {f.title for f in report.findings} == {"first", "info", "error"}
    (model,) = report.models
    assert (model.rules, model.ran) == ((OTHER.code, SOUND.code), 1)


def test_a_rule_that_cannot_tell_is_skipped(samples: Path, run: Run) -> None:
    """With its reason, and neither as a finding nor as an error."""
    report = run(samples, (replace(OTHER, check=_undecided),), None)
    assert (report.findings, report.errors) == ((), ())
    assert [(s.rule, s.reason) for s in report.skipped] == [(OTHER.code, "not without data")]


def test_the_policy_is_applied_to_the_results_of_either(samples: Path, run: Run) -> None:
    """The worst comes first; ignores split a finding, and idle ones are told."""
    report = run(samples, (SOUND,), None)
    assert [f.title for f in report.findings] == ["error", "info"]
    first, second = report.findings[0].layers
    ignores = (LayerIgnore(first, ("NC1",), "known"), LayerIgnore("nowhere.*", ("NC1",)))
    report = run(samples, (SOUND,), Policy(Severity.ERROR, layer_ignores=ignores))
    assert [f.layers for f in report.findings] == [(second,)] * 2
    assert [(s.finding.layers, s.reason) for s in report.suppressed] == [((first,), "known")] * 2
    assert [unused.source for unused in report.unused] == ["nowhere.*"]
    assert report.fail_on is Severity.ERROR
    blamed = {layer.path: (layer.rules, layer.suppressed) for layer in report.models[0].layers}
    assert blamed[first] == ((), (SOUND.code,))
    assert blamed[second] == ((SOUND.code,), ())


def test_rules_of_the_other_kind_of_run_are_left_out_without_a_word(samples: Path) -> None:
    """A scan has one state of a model, a comparison has no run: neither counts as skipped."""
    alone = scan(samples / SAMPLE)
    assert not {s.rule for s in alone.skipped} & {r.code for r in RULES if r.need.compares}
    both = diff([samples / "digits-healthy.pt", samples / SAMPLE]).report
    assert {s.rule for s in both.skipped} <= {r.code for r in RULES if r.need is Need.PAIR}
    (model,) = both.models
    assert model.rules == tuple(r.code for r in RULES if r.need is Need.PAIR)
