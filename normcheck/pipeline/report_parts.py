"""From what came of one file to its part of the report: what is suppressed leaves its findings."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from normcheck.config.examination import Examination
from normcheck.config.policy import Policy
from normcheck.errors import DamagedError, NormcheckError
from normcheck.findings import Finding, Suppressed
from normcheck.lazy_dataclass import replace
from normcheck.pipeline.results import FileResult, Verdicts, models_of, skipped_of
from normcheck.pipeline.suppress import Sieve
from normcheck.report.certificate import with_layers
from normcheck.report.part import Part
from normcheck.report.report import ModelReport, Report, with_verdict
from normcheck.version import VERSION

_Made = TypeVar("_Made")
_Sifted = tuple[list[Finding], tuple[Suppressed, ...]]
"""Findings that count, the worst first, and those that do not."""


def empty_report(examination: Examination, policy: Policy) -> Report:
    """What of a report does not depend on any file."""
    return Report(VERSION, (), (), (), (), (), (), examination.rules, policy.fail_on)


def part_of(result: FileResult, sieve: Sieve, empty: Report) -> Part:
    """One file's part of the report.

    Args:
        result: Of the file.
        sieve: Sorts the findings of the run.
        empty: What does not depend on any file.
    """
    sifted = [_sifted(result.target, verdicts, sieve) for verdicts in result.verdicts]
    gone = tuple(entry for _, entries in sifted for entry in entries)
    rest = replace(
        empty,
        findings=tuple(finding for findings, _ in sifted for finding in findings),
        suppressed=gone,
        skipped=_made_of(result, skipped_of),
        errors=result.errors,
    )
    heads = tuple((result.target, verdicts.where) for verdicts in result.verdicts)
    # The line was made of all findings, so it is right where all of them count.
    line = "" if gone else result.line
    files = (result.target, *result.files)
    vouched = tuple(verdicts.vouched for verdicts in result.verdicts)
    return Part(rest, heads, lambda: _models(result, sifted), line, files, vouched)


def with_line(result: FileResult) -> FileResult:
    """The same with its line of JSON Lines, made where the result is, not where all meet."""
    from normcheck.report.machines.as_json_lines import file_line

    everything: list[_Sifted] = [
        (_worst_first(verdicts.findings), ()) for verdicts in result.verdicts
    ]
    report = Report(
        version=VERSION,
        models=_models(result, everything),
        findings=tuple(finding for findings, _ in everything for finding in findings),
        suppressed=(),
        skipped=skipped_of(result),
        errors=result.errors,
    )
    return replace(result, line=file_line(report))


def _sifted(target: str, verdicts: Verdicts, sieve: Sieve) -> _Sifted:
    counted = _worst_first(sieve.kept(verdicts.findings))
    sieve.ran(target, verdicts.ran)
    return counted, sieve.taken()


def _worst_first(findings: "tuple[Finding, ...] | list[Finding]") -> list[Finding]:
    return sorted(findings, key=lambda f: (-f.severity.rank, f.rule, f.discriminator))


def _models(result: FileResult, sifted: Sequence[_Sifted]) -> tuple[ModelReport, ...]:
    """The models with the verdicts of their layers.

    Raises:
        NormcheckError: They came from another process or a cache, and are nothing of ours.
    """
    models = _made_of(result, models_of)
    return tuple(_with_verdicts(model, *both) for model, both in zip(models, sifted, strict=True))


def _made_of(result: FileResult, make: Callable[[FileResult], _Made]) -> _Made:
    try:
        return make(result)
    except DamagedError as error:
        raise NormcheckError(
            f"{result.target}: its cached result makes no sense ({error})",
            "if there is a cache, delete it: it can be made again",
        ) from error


def _with_verdicts(
    model: ModelReport, counted: list[Finding], gone: tuple[Suppressed, ...]
) -> ModelReport:
    if not counted and not gone:
        return model
    layers = tuple([with_verdict(layer, counted, gone) for layer in model.layers])
    return with_layers(model, layers)
