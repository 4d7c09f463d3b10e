"""What the end of a report needs of all its models, counted as they come.

Nothing here grows with the number of healthy models, so a run over many thousands needs no
more memory than one over ten.
"""

import heapq
from collections import Counter
from collections.abc import Iterable
from dataclasses import field

from normcheck.findings import Failure, Finding, Severity, Skipped, Suppressed, Unused
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.report.part import Part
from normcheck.report.report import Report
from normcheck.report.skipped_rules import together

WORST = 10
"""Models that are named as the worst of many."""


MANY = 20
"""Models from which on a reader wants a summary: more than one screen holds."""


@lazy_dataclass(frozen=False)
class RuleCount:
    """How often one rule fired."""

    code: str
    name: str
    findings: int = 0
    models: int = 0
    worst: Severity = Severity.INFO


@lazy_dataclass(order=True)
class ModelCount:
    """One model with errors or warnings; the greater the worse."""

    errors: int
    warnings: int
    order: int
    """Below zero, falling: of models as bad as each other the first is the worst."""
    target: str = field(compare=False)
    where: str = field(compare=False)
    rules: tuple[str, ...] = field(compare=False)
    """Codes of its errors and warnings."""


_FIRST = 100
"""Files without a model that are named where nothing else was found."""


@lazy_dataclass(frozen=False)
class Tally:
    """Counts over the parts of a report."""

    models: int = 0
    vouched: int = 0
    """Models of which enough is vouched for and nothing is accused, suppressed or not."""
    failing: int = 0
    """Findings that make the run fail."""
    severities: Counter[Severity] = field(default_factory=Counter)
    suppressed: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    """Suppressed findings by reason."""
    skipped: int = 0
    missed: int = 0
    """Skipped, though nobody left it out."""
    needs: dict[str, set[str]] = field(default_factory=dict)
    """Codes of rules that could not judge, by what they need."""
    passed_over: int = 0
    """Files without a model."""
    first_passed_over: list[str] = field(default_factory=list)
    """What the first of them are."""
    errors: list[Failure] = field(default_factory=list)
    unused: list[Unused] = field(default_factory=list)
    rules: dict[str, RuleCount] = field(default_factory=dict)
    sick: Counter[Severity] = field(default_factory=Counter)
    """Models by their worst finding."""
    worst: list[ModelCount] = field(default_factory=list)
    """A heap of the worst so far."""

    @classmethod
    def of(cls, report: Report) -> "Tally":
        """The counts of a whole report."""
        tally = cls()
        tally.add(Part.of(report))
        return tally

    def add(self, added: Part) -> None:
        """Count a part of the report."""
        part = added.rest
        self.failing += sum(part.is_failing(finding) for finding in part.findings)
        self._suppressed(part.suppressed)
        self._skipped(part.skipped)
        self.errors += part.errors
        self.unused += part.unused
        by_model: dict[tuple[str, str], list[Finding]] = {}
        for finding in part.findings:
            self.severities[finding.severity] += 1
            by_model.setdefault((finding.model, finding.where), []).append(finding)
        self.models += len(added.heads)
        accused = {
            (f.model, f.where)
            for f in (*part.findings, *(entry.finding for entry in part.suppressed))
            if f.severity is not Severity.INFO
        }
        self.vouched += sum(
            vouched and head not in accused
            for head, vouched in zip(added.heads, added.vouched, strict=True)
        )
        for order, head in enumerate(added.heads, self.models - len(added.heads) + 1):
            if head in by_model:
                self._sick(head, by_model[head], order)
        for findings in by_model.values():
            self._rules(findings)

    def worst_first(self) -> list[ModelCount]:
        """The worst models, the very worst first."""
        return sorted(self.worst, reverse=True)

    def commonest_first(self) -> list[RuleCount]:
        """The rules that fired: by the worst that each said, then by models."""
        return sorted(
            self.rules.values(), key=lambda r: (-r.worst.rank, -r.models, -r.findings, r.code)
        )

    def _suppressed(self, entries: Iterable[Suppressed]) -> None:
        for entry in entries:
            self.suppressed += 1
            self.reasons[entry.why] += 1

    def _skipped(self, entries: Iterable[Skipped]) -> None:
        for group in together(entries):
            count = len(group.rules)
            self.skipped += count
            self.missed += 0 if group.unasked else count
            if group.rules[0]:
                self.needs.setdefault(group.remedy, set()).update(group.rules)
            else:
                self.passed_over += count
                if self.passed_over <= _FIRST:
                    self.first_passed_over.append(group.reason)

    def _sick(self, head: tuple[str, str], findings: Iterable[Finding], order: int) -> None:
        loud = [f for f in findings if f.severity is not Severity.INFO]
        if not loud:
            return
        errors = sum(f.severity is Severity.ERROR for f in loud)
        self.sick[Severity.ERROR if errors else Severity.WARNING] += 1
        codes = tuple(dict.fromkeys(f.rule for f in loud))
        count = ModelCount(errors, len(loud) - errors, -order, *head, codes)
        heapq.heappush(self.worst, count)
        if len(self.worst) > WORST:
            heapq.heappop(self.worst)

    def _rules(self, findings: list[Finding]) -> None:
        for finding in findings:
            count = self.rules.setdefault(finding.rule, RuleCount(finding.rule, finding.name))
            count.findings += 1
            if finding.severity.rank > count.worst.rank:
                count.worst = finding.severity
        for code in {finding.rule for finding in findings}:
            self.rules[code].models += 1
