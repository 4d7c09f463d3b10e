"""What came of one file: plain values, which any process or machine can send back."""

import zlib
from dataclasses import dataclass, replace

from normcheck.findings import Failure, Finding, Skipped
from normcheck.live.process.wire import read, written
from normcheck.report.report import ModelReport


@dataclass(frozen=True, slots=True)
class Verdicts:
    """All that rules say of one model of a file."""

    where: str
    """The model's place within the file."""
    findings: tuple[Finding, ...] = ()
    """In the order of the rules, nothing suppressed."""
    ran: tuple[str, ...] = ()
    """Codes of the rules that came to a verdict."""
    vouched: bool = False
    """Whether enough of the model is vouched for, as long as no finding accuses it."""


@dataclass(frozen=True, slots=True)
class FileResult:
    """One target, scanned.

    It depends on the file's bytes, the rules with their thresholds, the limits and how models
    are run. Baseline, ignores and severities that are wanted come later, in the process that
    has the whole run: so they can change without anything being read again.
    """

    target: str
    """As the user wrote it, or as it was found under what the user wrote."""
    verdicts: tuple[Verdicts, ...] = ()
    """One for each model."""
    skipped: tuple[Skipped, ...] = ()
    errors: tuple[Failure, ...] = ()
    files: tuple[str, ...] = ()
    """Names of all files that were opened for it: the shards of a sharded model."""
    models: tuple[ModelReport, ...] = ()
    """As a report shows them, their layers without verdicts: which findings count is decided
    by the whole run. Empty where they are packed."""
    packed: bytes = b""
    """The models, as they come from another process or from a cache."""
    line: str = ""
    """The file's line of JSON Lines as it is if nothing is suppressed; empty where not asked
    for."""


def packed(result: FileResult) -> FileResult:
    """The same with its models as bytes, which cost next to nothing to hand on."""
    if not result.models:
        return result
    return replace(result, models=(), packed=zlib.compress(written(result.models), 1))


def models_of(result: FileResult) -> tuple[ModelReport, ...]:
    """The models of a result, unpacked.

    Raises:
        zlib.error: The bytes are not those of ``packed``; or one of ``live.wire.DAMAGED``.
    """
    if not result.packed:
        return result.models
    models: tuple[ModelReport, ...] = read(zlib.decompress(result.packed))
    return models


def lost(target: str, why: str, hint: str) -> FileResult:
    """The result of a file whose process is gone: an error, and nothing else.

    Args:
        target: The file.
        why: What became of the process, in words that go after the file's name.
        hint: What to do.
    """
    return FileResult(target, errors=(Failure(target, f"{target}: {why}", hint),))
