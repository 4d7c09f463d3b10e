"""What a run was asked to do, merged once into a value that nothing changes afterwards."""

from dataclasses import dataclass, field

from normcheck.checkpoint.limits import DEFAULT_LIMITS, Limits
from normcheck.findings import Severity
from normcheck.live.request import Running
from normcheck.rules.catalogue import RULES
from normcheck.rules.rule import Rule


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of one scan."""

    rules: tuple[Rule, ...] = RULES
    fail_on: Severity = Severity.WARNING
    """Findings from this severity on fail the run; info never does."""
    strict: bool = False
    """Whether anything skipped makes the run fail as not done."""
    keep_predictions: bool = False
    """Keep predicted and stored means of every channel in the report, for a figure."""
    running: Running | None = None
    """How to run the models; None to read files only."""
    limits: Limits = field(default=DEFAULT_LIMITS)
