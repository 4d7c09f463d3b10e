"""Severity and confidence in the words of other tools: one table for all outputs."""

from normcheck.findings import Confidence, Severity
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Level:
    """One severity in the words of others."""

    sarif: str
    """``level`` of a SARIF result."""
    problem: str
    """``problem.severity`` of a SARIF rule, by which GitHub sorts alerts."""
    github: str
    """Workflow command that makes an annotation."""


LEVELS = {
    Severity.ERROR: Level(sarif="error", problem="error", github="error"),
    Severity.WARNING: Level(sarif="warning", problem="warning", github="warning"),
    Severity.INFO: Level(sarif="note", problem="recommendation", github="notice"),
}

PRECISION = {Confidence.HIGH: "high", Confidence.MEDIUM: "medium", Confidence.LOW: "low"}
"""Confidence as SARIF's ``precision`` of a rule or a result."""
