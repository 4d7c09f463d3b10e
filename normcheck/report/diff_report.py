"""A comparison with its report: plain values, from which every output is a pure function."""

from dataclasses import dataclass

from normcheck.compare.movement import Comparison
from normcheck.findings import Finding
from normcheck.report.report import Report


@dataclass(frozen=True, slots=True)
class Diff:
    """What moved, and what rules find in it."""

    comparisons: tuple[Comparison, ...]
    """One for each model that the files have in common."""
    report: Report
    """With the last checkpoint's models, so that every output of a scan can show it."""
    files: tuple[str, ...] = ()
    """All that was read for it."""

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What rules found."""
        return self.report.findings
