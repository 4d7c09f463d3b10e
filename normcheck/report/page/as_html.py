"""HTML as a form of the report: one file, no network, legible without script."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from normcheck.findings import Finding, Severity
from normcheck.report.form import ReportForm, View, Wish
from normcheck.report.page import template
from normcheck.report.page.contents import (
    Section,
    Table,
    lists_of,
    page_again,
    section_of,
)
from normcheck.report.part import Part
from normcheck.report.report import Report, joined
from normcheck.report.tally import MANY, Tally
from normcheck.wording import plural

if TYPE_CHECKING:
    from normcheck.repair.repair_result import Repair
    from normcheck.report.diff_report import Diff

_ORDER = ("error", "warning", "open", "good")
"""The worst first."""


class Page:
    """A page grows with the parts of a report; healthy models of many are a row each."""

    def __init__(self, view: View) -> None:
        """Start with nothing said.

        Args:
            view: With the command that asked for it.

        Raises:
            UsageError: jinja2 is missing.
        """
        template.check()
        self._view = view
        self._parts: list[Report] = []
        self._sections: list[Section] = []

    def part(self, part: Part) -> str:
        """Nothing yet: the verdict comes first."""
        report = part.report
        found: dict[tuple[str, str], list[Finding]] = {}
        for finding in report.findings:
            found.setdefault((finding.model, finding.where), []).append(finding)
        for model in report.models:
            findings = found.get((model.target, model.where), [])
            section = section_of(model, findings, f"model-{len(self._sections) + 1}")
            healthy = section.kind in ("good", "open")
            if healthy and len(self._sections) >= MANY:
                # Beyond what somebody reads, figures and layers only of what is wrong.
                section = replace(section, figures=(), tables=(), infos=())
            self._sections.append(section)
        self._parts.append(replace(report, models=()))
        return ""

    def end(self, tally: Tally) -> Iterator[str]:
        """All of it."""
        report = joined(self._parts[-1], self._parts)
        yield scan_page(report, self._sections, tally, self._view)


def scan_page(report: Report, sections: list[Section], tally: Tally, view: View) -> str:
    """The page of a scan.

    Args:
        report: Its models aside.
        sections: One for each model.
        tally: Of all parts.
        view: See ``Page``.
    """
    ordered = sorted(
        sections, key=lambda s: (_ORDER.index(s.kind), -len(s.findings), len(s.anchor), s.anchor)
    )
    kind = ordered[0].kind if ordered else "open"
    if report.errors and kind in ("good", "open"):
        kind = "error"
    alone = len(sections) == 1
    counts = (
        f"{plural(tally.severities[Severity.ERROR], 'error')}, "
        f"{plural(tally.severities[Severity.WARNING], 'warning')}, "
        f"{tally.severities[Severity.INFO]} info"
    )
    lead = [f"{counts} · {tally.suppressed} suppressed · {tally.skipped} not judged"]
    overview = [] if alone or not sections else list(_overview(ordered, tally))
    many = len(sections) > MANY
    loud = ("error", "warning")
    shown = [s for s in ordered if not many or s.kind in loud]
    folded = [s for s in ordered if many and s.kind not in loud]
    return template.page(
        title=sections[0].title if alone else plural(len(sections), "model"),
        kind=kind,
        mark={"error": "✖", "warning": "▲", "good": "✓", "open": "?"}[kind],
        verdict=_verdict(ordered, report),
        lead=lead,
        overview=overview,
        sections=shown,
        folded=folded,
        lists=lists_of(report),
        repeat=page_again(view, "scan", [_file(s.title) for s in sections]),
    )


def _file(title: str) -> str:
    return title.rpartition(" (")[0] if title.endswith(")") else title


def _verdict(sections: list[Section], report: Report) -> str:
    if not sections:
        return "No model was judged"
    first = sections[0]
    if len(sections) == 1:
        return first.findings[0].title if first.findings else first.verdict
    sick = sum(bool(section.findings) for section in sections)
    failed = f", {plural(len(report.errors), 'target')} failed" if report.errors else ""
    if sick:
        return f"{sick} of {plural(len(sections), 'model')} with findings{failed}"
    return f"Nothing found in {plural(len(sections), 'model')}{failed}"


def _overview(ordered: list[Section], tally: Tally) -> Iterator[tuple[str, Table, tuple[str, ...]]]:
    rows = tuple(
        (
            section.title,
            section.kind if section.findings else section.verdict,
            str(sum(f.severity is Severity.ERROR for f in section.findings)),
            str(sum(f.severity is Severity.WARNING for f in section.findings)),
            ", ".join(dict.fromkeys(f.rule for f in section.findings)) or "–",
        )
        for section in ordered
    )
    yield (
        "Models, the worst first",
        Table(("model", "verdict", "errors", "warnings", "rules"), rows),
        tuple(section.anchor for section in ordered),
    )
    if tally.rules:
        rules = tuple(
            (f"{r.code} {r.name}", r.worst.value, f"{r.models:,}", f"{r.findings:,}")
            for r in tally.commonest_first()
        )
        yield "Rules", Table(("rule", "worst", "models", "findings"), rules), ()


def _diff(diff: Diff, view: View) -> str:
    from normcheck.report.page.other_pages import diff_page  # a scan does without

    return diff_page(diff, view)


def _fix(repair: Repair, view: View) -> str:
    from normcheck.report.page.other_pages import fix_page  # the same

    return fix_page(repair, view)


FORM = ReportForm(
    "html",
    ".html",
    scan=Page,
    diff=_diff,
    fix=_fix,
    needs=frozenset({Wish.PREDICTIONS}),
    check=template.check,
)
