"""The report for people, part by part: each model is told of as soon as it is done."""

import io
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console

from normcheck.findings import Finding, Severity
from normcheck.report.part import Part
from normcheck.report.people.console import console_for, finished
from normcheck.report.people.text_end import print_end
from normcheck.report.people.text_model import print_model
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import ModelReport, Report, joined
from normcheck.report.tally import MANY, Tally


class TextReport:
    """Text that grows with the parts of a report; the same however these are cut.

    Beyond ``MANY`` models those without an error or warning are only counted, unless the
    style is verbose, and a summary names the worst.
    """

    def __init__(self, style: TextStyle) -> None:
        """Start with nothing said."""
        self._style = style
        self._kept: list[Report] = []
        self._spaced = True
        self._held: _Model | None = None
        """The first model: whether it is the only one decides how it is shown."""
        self._told = 0
        self._unlisted = 0

    def part(self, part: Part) -> str:
        """What is to be said now that these models are done too."""
        if self._style.verbose:
            # Who asks for every entry has them all in memory.
            self._kept.append(replace(part.rest, findings=(), errors=()))
        if not part.heads:
            return ""
        out, console = self._console()
        for model in _models(part):
            if self._held is None and self._told == 0:
                self._held, self._told = model, 1
                continue
            self._release(console, alone=False)
            self._told += 1
            self._tell(console, model, alone=False)
        return self._said(out)

    def end(self, tally: Tally) -> Iterator[str]:
        """The rest: what was left out, the summary of many, the counts.

        Args:
            tally: Of all parts.
        """
        out, console = self._console()
        self._release(console, alone=True)
        said = self._said(out)
        out, console = self._console()
        if self._told > MANY and not self._style.quiet:
            from normcheck.report.people.many_models import print_summary

            if not self._spaced:
                console.print()
            print_summary(console, tally, self._unlisted)
        details = joined(self._kept[0], self._kept) if self._kept else None
        print_end(console, tally, self._style, details)
        yield said + finished(out)

    def _console(self) -> tuple[io.StringIO, Console]:
        out = io.StringIO()
        return out, console_for(out, self._style.width, color=self._style.color)

    def _said(self, out: io.StringIO) -> str:
        text = finished(out)
        if text:
            self._spaced = text.endswith("\n\n")
        return text

    def _release(self, console: Console, *, alone: bool) -> None:
        if self._held is not None:
            held, self._held = self._held, None
            self._tell(console, held, alone=alone)

    def _tell(self, console: Console, model: "_Model", *, alone: bool) -> None:
        style, findings = self._style, model.findings
        loud = [f for f in findings if f.severity is not Severity.INFO]
        if style.quiet:
            findings = loud
            if not loud:
                return
        elif self._told > MANY and not loud and not style.verbose:
            self._unlisted += 1
            return
        print_model(
            console, model.report, findings, style, model.known, table=alone or style.verbose
        )


class _Model:
    """One model with what is said of it."""

    __slots__ = ("_part", "_place", "findings", "known")

    def __init__(self, part: Part, place: int, findings: list[Finding], known: int) -> None:
        self._part = part
        self._place = place
        self.findings = findings
        self.known = known

    @property
    def report(self) -> ModelReport:
        return self._part.report.models[self._place]


def _models(part: Part) -> list[_Model]:
    report = part.rest
    hidden = Counter(
        (entry.finding.model, entry.finding.where)
        for entry in report.suppressed
        if entry.finding.severity is not Severity.INFO
    )
    findings: dict[tuple[str, str], list[Finding]] = {}
    for finding in report.findings:
        findings.setdefault((finding.model, finding.where), []).append(finding)
    return [
        _Model(part, place, findings.get(head, []), hidden[head])
        for place, head in enumerate(part.heads)
    ]
