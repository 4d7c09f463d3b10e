"""What counts of finished results, and when a run fails: applied after all examining.

Nothing here decides what rules say of a file, so it may change without anything being read again.
"""

from __future__ import annotations

import fnmatch
from typing import TYPE_CHECKING

from normcheck.findings import Confidence, Severity
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.shown import Brief

if TYPE_CHECKING:
    from normcheck.config.baseline import Baseline


@lazy_dataclass()
class LayerIgnore:
    """Findings of some rules on some layers that are wanted as they are."""

    pattern: str
    """Of layer paths, as a shell has them: ``backbone.*``."""
    rules: tuple[str, ...]
    """Selectors."""
    reason: str = ""

    def means(self, path: str) -> bool:
        """Whether the pattern means the layer with this path."""
        return fnmatch.fnmatchcase(path, self.pattern)


@lazy_dataclass(repr=False)
class Policy(Brief):
    """Which findings count, and which of them fail the run."""

    fail_on: Severity = Severity.WARNING
    """Findings from this severity on fail the run; info never does."""
    strict: bool = False
    """Whether anything skipped makes the run fail as not done."""
    min_severity: Severity = Severity.INFO
    """Findings below it are listed as suppressed."""
    min_confidence: Confidence = Confidence.LOW
    """Findings below it are listed as suppressed."""
    layer_ignores: tuple[LayerIgnore, ...] = ()
    baseline: Baseline | None = None
    """Findings that are known already."""

    @property
    def suppresses(self) -> bool:
        """Whether it can leave a finding out, of whatever file."""
        mild = self.min_severity is not Severity.INFO or self.min_confidence is not Confidence.LOW
        return mild or bool(self.layer_ignores) or self.baseline is not None
