"""The report as workflow commands, which GitHub shows as annotations of a run."""

from dataclasses import replace
from pathlib import Path

from normcheck.findings import Finding, Severity
from normcheck.report.asides import asides, skipped
from normcheck.report.certificate import certificate_for, count, sentences
from normcheck.report.form import of_findings
from normcheck.report.machines.file_location import relative
from normcheck.report.machines.severity_levels import LEVELS
from normcheck.report.report import ModelReport, Report
from normcheck.wording import plural, printable

MOST = 10
"""Annotations of one kind that GitHub shows for a step; the log has them all."""


def render_github(report: Report, root: Path) -> str:
    """One command a line, the worst first, and a line of counts that is no command.

    Args:
        report: The finished report.
        root: The folder to which file names are relative: the repository's.
    """
    lines = [
        _command("error", "normcheck", failure.model, f"{failure.message}\n{failure.hint}", root)
        for failure in report.errors
    ]
    # The sort is stable: findings of one severity stay in the order of the report.
    worst_first = sorted(report.findings, key=lambda finding: -finding.severity.rank)
    lines += [_finding(finding, root) for finding in worst_first]
    lines += [_command("notice", "normcheck", "", u.message, root) for u in report.unused]
    # Plain lines of the log, not annotations: none of them begins like a command.
    lines += [*asides(replace(report, unused=()), verbose=True), *skipped(report)]
    lines += [_certificate(model, root) for model in report.models if model.layers]
    return "\n".join([*lines, _summary(report)]) + "\n"


def _certificate(model: ModelReport, root: Path) -> str:
    """What was judged of one model: by its first word no command, whatever the file is called."""
    certificate = certificate_for(model)
    place = printable(relative(model.target, root)) + (
        f" ({printable(model.where)})" * bool(model.where)
    )
    accused = [f"{count(certificate.accused)} accused."] * bool(certificate.accused)
    mark = "earned" if certificate.earned else "not earned"
    return " ".join([f"certificate {mark} by {place}:", *accused,
                     *(printable(said) for said in sentences(certificate))])  # fmt: skip


def _finding(finding: Finding, root: Path) -> str:
    title = f"{finding.rule} {finding.name}"
    text = "\n".join(
        printable(part)
        for part in (finding.message, finding.detail, finding.consequence, f"Fix: {finding.fix}")
        if part
    )
    return _command(LEVELS[finding.severity].github, title, finding.model, text, root)


def _command(command: str, title: str, model: str, text: str, root: Path) -> str:
    place = f",file={_property(printable(relative(model, root)))},line=1" if model else ""
    lines = "\n".join(printable(line) for line in text.split("\n") if line)
    return f"::{command} title={_property(title)}{place}::{_data(lines)}"


def _data(text: str) -> str:
    """A command's message; the percent sign first, as it is what the others become."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    """A value of a command's property, which commas and colons would end."""
    return _data(text).replace(":", "%3A").replace(",", "%2C")


def _summary(report: Report) -> str:
    counts = [
        plural(report.count(Severity.ERROR), "error"),
        plural(report.count(Severity.WARNING), "warning"),
        f"{report.count(Severity.INFO)} info",
        f"{len(report.suppressed)} suppressed",
        f"{len(report.skipped)} skipped",
        f"{len(report.errors)} failed",
    ]
    most = max(report.count(severity) for severity in Severity)
    note = f" (annotations are shown for {MOST} of a kind, this log has all)" if most > MOST else ""
    return f"normcheck: {plural(len(report.models), 'model')}, {', '.join(counts)}{note}"


FORM = of_findings("github", ".txt", render_github)
