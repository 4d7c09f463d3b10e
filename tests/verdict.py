"""What is said of a checkpoint, for tests of what is read out of one."""

from pathlib import Path

from normcheck import scan
from normcheck.findings import Severity
from normcheck.report.report import Report


def report_on(path: Path) -> Report:
    """The report on one path, which must be readable."""
    report = scan([path])
    assert not report.errors, report.errors
    return report


def accused(path: Path) -> set[str]:
    """The codes of warnings and errors."""
    return {f.rule for f in report_on(path).findings if f.severity is not Severity.INFO}
