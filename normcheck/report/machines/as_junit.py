"""The report as JUnit XML, which Jenkins, GitLab and most CI servers show as tests.

A model is a suite, a rule on it a case. junitparser writes the XML.
"""

import io
from pathlib import Path

from junitparser import Attr, Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from normcheck.findings import Finding
from normcheck.report.certificate import certificate_for
from normcheck.report.form import of_findings
from normcheck.report.machines.file_location import relative
from normcheck.report.report import ModelReport, Report
from normcheck.wording import printable

_READ = "read"
"""The case of a file that could not be read."""


class _Case(TestCase):
    """A case that names its file, which GitLab links."""

    file = Attr()


def render_junit(report: Report, root: Path) -> str:
    """The whole report.

    Findings that fail the run are failures; milder ones and suppressed ones leave their case
    passed and stand in its output.

    Args:
        report: The finished report.
        root: The folder to which file names are relative.
    """
    document = JUnitXml("normcheck")
    for model in report.models:
        _add(document, _suite(report, model, root))
    seen = {model.target for model in report.models}
    # Files that gave no model: one suite a file, so that none is lost among the others.
    for target in dict.fromkeys(
        [e.model for e in report.errors] + [s.model for s in report.skipped]
    ):
        if target not in seen:
            _add(document, _file_suite(report, target, root))
    if report.unused:
        _add(document, _unused_suite(report))
    document.update_statistics()  # type: ignore[no-untyped-call]  # junitparser lacks the hint
    written = io.BytesIO()
    # Pretty XML is written by the standard library, whichever parser junitparser found.
    document.write(written, pretty=True)
    return written.getvalue().decode("utf-8")


def _add(document: JUnitXml, suite: TestSuite) -> None:
    # Not add_testsuite, which compares the new suite with every other.
    document.append(suite)  # type: ignore[no-untyped-call]  # junitparser lacks the hint


def _suite(report: Report, model: ModelReport, root: Path) -> TestSuite:
    name = relative(model.target, root) + (f" ({model.where})" if model.where else "")
    suite = TestSuite(printable(name))
    certificate = certificate_for(model)
    # Never praise in a property alone: what is vouched for, accused, and cannot be told.
    suite.add_property("earned", str(certificate.earned).lower())
    if model.layers:
        suite.add_property("layers", certificate.in_brief)
    for code in model.rules:
        suite.add_testcase(_case(report, model, code, root))
    if not model.rules:
        case = _new_case(_READ, name, model.target, root)
        case.result = [Skipped("no rule was to judge this model")]
        suite.add_testcase(case)
    # What broke outside a rule has no case of its own.
    lost = [e for e in report.errors if e.model == model.target and e.rule not in model.rules]
    if lost:
        case = _new_case(_READ, name, model.target, root)
        case.result = [_error(e.message, e.hint) for e in lost]
        suite.add_testcase(case)
    return suite


def _case(report: Report, model: ModelReport, code: str, root: Path) -> _Case:
    names = {rule.code: rule.name for rule in report.rules}
    here = (model.target, model.where)
    suite = relative(model.target, root) + (f" ({model.where})" if model.where else "")
    case = _new_case(f"{code} {names.get(code, '')}".strip(), suite, model.target, root)
    found = [f for f in report.findings if f.rule == code and (f.model, f.where) == here]
    known = [
        entry
        for entry in report.suppressed
        if entry.finding.rule == code and (entry.finding.model, entry.finding.where) == here
    ]
    broken = [e for e in report.errors if e.rule == code and (e.model, e.where) == here]
    skipped = [s for s in report.skipped if s.rule == code and (s.model, s.where) == here]
    failing = [finding for finding in found if report.is_failing(finding)]
    if broken:
        case.result = [_error(e.message, e.hint) for e in broken]
    elif failing:
        # Readers show the first failure only: all findings of a rule are one.
        failure = Failure(printable(failing[0].message), failing[0].severity.value)
        failure.text = "\n\n".join(_told(finding) for finding in failing)
        case.result = [failure]
    elif skipped:
        case.result = [Skipped(printable(skipped[0].reason))]
    remarks = [_told(finding) for finding in found if finding not in failing]
    remarks += [f"{_told(entry.finding)}\nsuppressed: {printable(entry.why)}" for entry in known]
    if remarks:
        case.system_out = "\n\n".join(remarks)
    return case


def _file_suite(report: Report, target: str, root: Path) -> TestSuite:
    name = relative(target, root)
    suite = TestSuite(printable(name))
    case = _new_case(_READ, name, target, root)
    errors = [e for e in report.errors if e.model == target]
    passed_over = [s for s in report.skipped if s.model == target]
    case.result = [_error(e.message, e.hint) for e in errors] or [
        Skipped(printable(entry.reason)) for entry in passed_over[:1]
    ]
    suite.add_testcase(case)
    return suite


def _unused_suite(report: Report) -> TestSuite:
    suite = TestSuite("suppressions that matched nothing")
    for number, unused in enumerate(report.unused, 1):
        case = _Case(f"{unused.by.value} {number}", "normcheck")
        case.system_out = printable(unused.message)
        suite.add_testcase(case)
    return suite


def _new_case(name: str, suite: str, target: str, root: Path) -> _Case:
    case = _Case(printable(name), printable(suite))
    case.file = printable(relative(target, root))
    return case


def _error(message: str, hint: str) -> Error:
    error = Error(printable(message), "error")
    error.text = "\n".join(printable(part) for part in (message, hint) if part)
    return error


def _told(finding: Finding) -> str:
    """A finding in lines, for a log."""
    head = f"{finding.severity.value}: {finding.message}"
    layers = [f"layer: {path or 'the model itself'}" for path in finding.layers]
    parts = [head, *layers, finding.detail, finding.consequence, f"fix: {finding.fix}"]
    return "\n".join(printable(part) for part in parts if part)


FORM = of_findings("junit", ".xml", render_junit)
