"""A comparison with its report: plain values, from which every output is a pure function."""

from typing import Any

from normcheck.compare.movement import Comparison
from normcheck.findings import Finding
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.report.report import Report
from normcheck.shown import Shown


@lazy_dataclass(repr=False)
class Diff(Shown):
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

    @property
    def ok(self) -> bool:
        """Whether everything was read, and no finding is at or above ``fail_on``."""
        return self.report.ok

    def fails(self) -> tuple[Finding, ...]:
        """The findings that make the run fail, the worst first."""
        return self.report.fails()

    def to_dataframe(self) -> Any:
        """A ``pandas.DataFrame`` with a row for each finding.

        Raises:
            NormcheckError: pandas is not installed.
        """
        return self.report.to_dataframe()
