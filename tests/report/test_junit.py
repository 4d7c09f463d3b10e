"""JUnit as CI servers read it."""

from dataclasses import replace
from pathlib import Path

import pytest
from junitparser import Error, Failure, JUnitXml, Skipped, TestCase

from normcheck.findings import Failure as Broken
from normcheck.findings import Severity
from normcheck.report.machines.as_junit import render_junit
from normcheck.report.report import Report
from tests.report.everything import clean, everything

ROOT = Path("/project")


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


def cases(report: Report) -> dict[tuple[str, str], TestCase]:
    document = JUnitXml.fromstring(render_junit(report, ROOT).encode())
    return {(suite.name, case.name): case for suite in document for case in suite}


def test_a_suite_a_model_and_a_case_a_rule() -> None:
    """Every rule of every model is a case, whatever became of it."""
    report = everything()
    found = cases(report)
    for model in report.models:
        names = [name for suite, name in found if suite == model.target]
        assert [name.split()[0] for name in names] == list(model.rules)


def test_totals_are_sums() -> None:
    """The counts of the document are those of its cases."""
    document = JUnitXml.fromstring(render_junit(everything(), ROOT).encode())
    found = list(cases(everything()).values())
    assert document.tests == len(found)
    assert document.failures == sum(case.is_failure for case in found) == 4
    assert document.errors == sum(case.is_error for case in found) == 1
    assert document.skipped == sum(case.is_skipped for case in found) == 5


def test_what_fails_the_run_is_a_failure() -> None:
    """A finding below ``--fail-on`` is output of a case that passed."""
    report = everything()
    key = ("statistics-lost.pt", "NC101 never-updated-stats")
    failed = cases(report)[key]
    assert isinstance(failed.result[0], Failure)
    assert "6 batch norm layers were never updated" in failed.result[0].message
    assert "layer: stem.norm" in (failed.result[0].text or "")
    passed = cases(replace(report, fail_on=Severity.ERROR))[key]
    assert passed.is_passed
    assert "6 batch norm layers" in (passed.system_out or "")


def test_info_and_suppressed_findings_pass() -> None:
    """Their case passes and tells them, with the reason."""
    found = cases(everything())
    mild = found["mlp-batchnorm-module.pt", "NC504 bias-before-norm"]
    assert mild.is_passed
    assert "has no effect" in (mild.system_out or "")
    known = found["mlp-batchnorm.pt", "NC504 bias-before-norm"]
    assert known.is_passed
    assert "suppressed: below --min-confidence high" in (known.system_out or "")


def test_skipped_and_broken_rules_and_files() -> None:
    """Each with its reason, in the suite of its model or its file."""
    report = everything()
    broken = Broken("nan-statistics.pt", "rule NC504 failed", "report it", "NC504")
    found = cases(replace(report, errors=(*report.errors, broken)))
    skipped = found["nan-statistics.pt", "NC202 mixed-modes"].result[0]
    assert isinstance(skipped, Skipped)
    assert "needs the module tree" in skipped.message
    crashed = found["nan-statistics.pt", "NC504 bias-before-norm"].result[0]
    assert isinstance(crashed, Error)
    assert crashed.message == "rule NC504 failed"
    unread = found["there-is-no-such-file.pt", "read"].result[0]
    assert isinstance(unread, Error)
    assert found["runs/tokenizer.model", "read"].is_skipped


def test_cases_name_their_file() -> None:
    """Relative to the root, which GitLab links."""
    text = render_junit(clean(), Path.cwd())
    assert 'file="digits-healthy-module.pt"' in text
    assert "timestamp" not in text


def test_an_error_on_a_model_that_was_judged_is_not_lost() -> None:
    """What broke outside a rule is a case of its own in the model's suite."""
    report = clean()
    target = report.models[0].target
    found = cases(replace(report, errors=(Broken(target, "judging it failed"),)))
    assert found[target, "read"].is_error


def test_a_model_without_norms_passes_no_rule() -> None:
    """Of what was not looked at nothing good is said: one case, and it is skipped."""
    report = clean()
    found = cases(replace(report, models=(replace(report.models[0], layers=(), rules=()),)))
    assert [(name, case.is_skipped) for (_, name), case in found.items()] == [("read", True)]
