"""What rules say: a finding, how severe and how sure it is, and the numbers it rests on."""

from enum import StrEnum

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer import Confidence
from normcheck.often_made import often_made
from normcheck.wording import fold

__all__ = [
    "Confidence",
    "Evidence",
    "Failure",
    "Finding",
    "Severity",
    "Skipped",
    "Suppressed",
    "SuppressedBy",
    "Unused",
]


class Severity(StrEnum):
    """How bad a finding is; ``info`` never fails a run."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"

    @property
    def rank(self) -> int:
        """0 for info to 2 for error, for sorting and thresholds."""
        return _RANKS[self]


_RANKS = {severity: rank for rank, severity in enumerate(Severity)}


@lazy_dataclass()
class Evidence:
    """One number that a finding rests on."""

    name: str
    """What was measured: ``residue of the initial value``."""
    value: float | str
    threshold: float | str | None = None
    """What it was held against; None where the comparison is not with a number."""
    sample: int | None = None
    """How many values it is taken over: channels, layers."""


@lazy_dataclass()
class Finding:
    """Something that a rule found, in one model of one file.

    One cause is one finding, however many layers it touches.
    """

    rule: str
    """Code of the rule: ``NC101``."""
    name: str
    """Its name: ``never-updated-stats``."""
    severity: Severity
    confidence: Confidence
    title: str
    """What is wrong, without the names of the layers."""
    detail: str
    """The numbers, and how they can be read."""
    consequence: str
    """What it does to predictions."""
    fix: str
    """What to do, or how to find out more."""
    layers: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    discriminator: str = ""
    """Tells findings of one rule on one set of layers apart; never a measured number."""
    model: str = ""
    """The target as the user wrote it."""
    where: str = ""
    """Where the model sits in the file."""

    @property
    def message(self) -> str:
        """One sentence that stands alone and names the layers."""
        return f"{self.title}: {fold(self.layers)}" if self.layers else self.title


@often_made()
class Skipped:
    """A rule that could not judge a model, or a file that was passed over, and why."""

    model: str
    where: str
    rule: str
    """Code; empty for a file that was passed over as a whole."""
    reason: str
    remedy: str = ""
    """What it needs, to go after "needs": ``a run (--run, --model)``."""
    unasked: bool = False
    """Whether it needs what only other flags give, a run or data: nobody asked for it, so that
    ``--strict`` does not mind."""


@lazy_dataclass()
class Failure:
    """Something that could not be done: a file that could not be read, a rule that broke."""

    model: str
    message: str
    hint: str = ""
    rule: str = ""
    where: str = ""
    """Where the model sits in the file, for a rule that broke."""
    trace: str = ""
    """The traceback of an error that nobody foresaw, shown to who asks for it."""


class SuppressedBy(StrEnum):
    """What keeps a finding out of the list that decides on the exit code."""

    LAYER_IGNORE = "per-layer-ignore"
    BASELINE = "baseline"
    MIN_SEVERITY = "min-severity"
    MIN_CONFIDENCE = "min-confidence"


@lazy_dataclass()
class Suppressed:
    """A finding that was made and is left out on purpose."""

    finding: Finding
    """With the layers to which the suppression applies."""
    by: SuppressedBy
    source: str
    """The pattern, the baseline's file, or the least that is wanted."""
    reason: str = ""
    """The reason that somebody gave; empty where none was."""

    @property
    def why(self) -> str:
        """One phrase for every output: ``ignored by 'backbone.*': frozen backbone``."""
        match self.by:
            case SuppressedBy.LAYER_IGNORE:
                return f"ignored by '{self.source}': {self.reason or 'no reason given'}"
            case SuppressedBy.BASELINE:
                return f"in the baseline {self.source}"
            case SuppressedBy.MIN_SEVERITY:
                return f"below --min-severity {self.source}"
            case SuppressedBy.MIN_CONFIDENCE:
                return f"below --min-confidence {self.source}"


@lazy_dataclass()
class Unused:
    """A suppression that suppressed nothing: it may be misspelt, or the fault is gone."""

    by: SuppressedBy
    source: str
    """The pattern, or the baseline's file."""
    message: str
    """One sentence that stands alone."""
