"""Counts instead of findings: which rules fire how often."""

from collections import Counter

from normcheck.findings import Finding
from normcheck.report.report import Report
from normcheck.wording import plural


def render_statistics(report: Report) -> str:
    """A line a rule, the most frequent first, then a line of totals."""
    findings: Counter[tuple[str, str]] = Counter()
    models: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for finding in report.findings:
        findings[_rule(finding)] += 1
        models.setdefault(_rule(finding), set()).add((finding.model, finding.where))
    width = max((len(f"{count:,}") for count in findings.values()), default=1)
    names = max((len(name) for _, name in findings), default=1)
    ordered = sorted(findings.items(), key=lambda item: (-item[1], item[0]))
    lines = [
        f"{count:>{width},}  {code}  {name:<{names}}  in {plural(len(models[code, name]), 'model')}"
        for (code, name), count in ordered
    ]
    total = (
        f"{plural(len(report.findings), 'finding')} in {plural(len(report.models), 'model')}, "
        f"{len(report.suppressed)} suppressed, {len(report.skipped)} skipped, "
        f"{len(report.errors)} failed"
    )
    return "\n".join([*lines, total]) + "\n"


def _rule(finding: Finding) -> tuple[str, str]:
    return finding.rule, finding.name
