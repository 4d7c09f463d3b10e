"""What came of one file: plain values, which any process or machine can send back."""

from collections.abc import Sequence

from normcheck.errors import DamagedError
from normcheck.findings import Failure, Finding, Skipped
from normcheck.lazy_dataclass import lazy_dataclass, replace
from normcheck.report.report import ModelReport
from normcheck.report.skipped_rules import SkippedEntries, SkippedRules, together


@lazy_dataclass()
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


@lazy_dataclass()
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
    skipped: tuple[SkippedRules, ...] = ()
    """What rules could not judge; see :func:`skipped_of`."""
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
    """The same with its models as bytes, which are cheap to pass on."""
    if not result.models:
        return result
    from normcheck.live.process.wire import shrunk, written

    return replace(result, models=(), packed=shrunk(written(result.models)))


def skipped_of(result: FileResult) -> Sequence[Skipped]:
    """What rules of a result could not judge, entry by entry.

    Raises:
        DamagedError: They came from elsewhere, and are nothing of ours.
    """
    if any(len(g.rules) != len(g.places) or not g.rules for g in result.skipped):
        raise DamagedError("skipped rules without their places")
    return SkippedEntries(result.skipped)


def models_of(result: FileResult) -> tuple[ModelReport, ...]:
    """The models of a result, unpacked.

    Raises:
        DamagedError: The bytes are not those of ``packed``.
    """
    if not result.packed:
        return result.models
    from normcheck.live.process.wire import LONGEST, read, unfolded  # not needed for one file

    models = read(unfolded(result.packed, LONGEST), tuple[ModelReport, ...])
    if len(models) != len(result.verdicts):
        raise DamagedError("other models than those that were judged")
    return models


def renamed(result: FileResult, name: str) -> FileResult:
    """The same under another name. For what is scanned here, whose models are not packed.

    Args:
        result: Of a live object.
        name: How the report calls it.
    """
    return replace(
        result,
        target=name,
        verdicts=tuple(
            replace(v, findings=tuple(replace(f, model=name) for f in v.findings))
            for v in result.verdicts
        ),
        skipped=tuple(replace(group, model=name) for group in result.skipped),
        errors=tuple(replace(entry, model=name) for entry in result.errors),
        models=tuple(replace(model, target=name) for model in result.models),
    )


def passed_over(target: str, why: str, *, unasked: bool) -> FileResult:
    """The result of a file in which there is nothing to judge.

    Args:
        target: The file.
        why: Nothing is in it.
        unasked: Whether nobody named it, so that ``--strict`` does not mind.
    """
    return FileResult(target, skipped=together([Skipped(target, "", "", why, unasked=unasked)]))


def lost(target: str, why: str, hint: str) -> FileResult:
    """The result of a file whose process is gone: an error, and nothing else.

    Args:
        target: The file.
        why: What became of the process, in words that go after the file's name.
        hint: What to do.
    """
    return FileResult(target, errors=(Failure(target, f"{target}: {why}", hint),))
