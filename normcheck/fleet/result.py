"""What came of one file: plain values, which any process or machine can send back."""

from dataclasses import dataclass

from normcheck.findings import Failure, Finding, Skipped
from normcheck.report.report import ModelReport


@dataclass(frozen=True, slots=True)
class Judged:
    """One model of a file and all that rules say of it."""

    model: ModelReport
    """Its layers without verdicts: which findings count is decided by the whole run."""
    findings: tuple[Finding, ...] = ()
    """In the order of the rules, nothing suppressed."""
    ran: tuple[str, ...] = ()
    """Codes of the rules that came to a verdict."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """One target, scanned.

    It depends on the file's bytes, the rules with their thresholds, the limits and how models
    are run. Baseline, ignores and severities that are wanted come later, in the process that
    has the whole run: so they can change without anything being read again.
    """

    target: str
    """As the user wrote it, or as it was found under what the user wrote."""
    models: tuple[Judged, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    errors: tuple[Failure, ...] = ()
    files: tuple[str, ...] = ()
    """Names of all files that were opened for it: the shards of a sharded model."""


def lost(target: str, why: str, hint: str) -> FileResult:
    """The result of a file whose process is gone: an error, and nothing else.

    Args:
        target: The file.
        why: What became of the process, in words that go after the file's name.
        hint: What to do.
    """
    return FileResult(target, errors=(Failure(target, f"{target}: {why}", hint),))
