"""``normcheck scan``: read, judge, report. The flags themselves are in ``app.py``."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from normcheck.checkpoint.place import shown
from normcheck.cli.errors import report_error, report_note
from normcheck.cli.outputs import Look, pair, rendered, write
from normcheck.cli.running import RunWords, progress, requested
from normcheck.config.merge import Flags, Resolved, resolve, with_baseline
from normcheck.errors import UsageError
from normcheck.report.report import Report
from normcheck.rules.rule import Need
from normcheck.session import scan
from normcheck.settings import Settings
from normcheck.wording import plural

BASELINE = "normcheck-baseline.json"
"""Where a baseline is written that nobody named."""


@dataclass(frozen=True, slots=True)
class ScanWords:
    """The words of one ``normcheck scan``, as the flags give them."""

    targets: Sequence[str]
    flags: Flags = field(default_factory=Flags)
    exit_zero: bool = False
    color: str = "auto"
    quiet: bool = False
    verbose: int = 0
    statistics: bool = False
    show_settings: bool = False
    write_baseline: bool = False
    plot: str = ""
    run: RunWords | None = None
    """None where no flag asks for a run."""
    limits: Sequence[str] = ()
    """Of reading, as ``--limit`` gives them."""
    weights_budget: str = ""
    """Size, empty for the usual one."""


def run_scan(words: ScanWords) -> int:
    """Scan, write the report, and return the exit code."""
    resolved = resolve(words.flags, os.environ, Path.cwd())
    if words.show_settings:
        from normcheck.cli.show_settings import settings_text

        write(settings_text(resolved, words.targets), "-")
        return 0
    if not words.targets:
        raise UsageError("no target is named", "name a file or a folder: normcheck scan model.pt")
    outputs = pair(resolved.formats, resolved.outputs)
    _check_combination(words, resolved)
    if words.flags.select and all(rule.need is Need.PAIR for rule in resolved.settings.rules):
        raise UsageError(
            f"{', '.join(words.flags.select):.60}: these rules compare checkpoints, a scan has one",
            "run them with: normcheck diff OLD NEW",
        )
    known = resolved.settings if words.write_baseline else with_baseline(resolved)
    settings = limited(replace(known, keep_predictions=bool(words.plot)), words.limits)
    if words.weights_budget:
        from normcheck.cli.bounds import size_in_bytes

        most = size_in_bytes(words.weights_budget, "--weights-budget")
        settings = replace(settings, weights_budget=most)
    report = _scan(words, settings)
    if words.write_baseline:
        report = _write_baseline(report, words, resolved)
    look = Look(words.color, words.quiet, words.verbose > 0, words.statistics)
    for output in outputs:
        # On a terminal the error says it all; a file that was asked for is written.
        if report.models or output.form != "text" or output.file != "-":
            write(rendered(report, output, look), output.file)
    if words.plot:
        _plot(report, words.plot)
    _tell(report, words)
    return exit_code(report, settings, exit_zero=words.exit_zero)


def limited(settings: Settings, words: Sequence[str]) -> Settings:
    """The settings with the limits of ``--limit``."""
    if not words:
        return settings
    from normcheck.cli.bounds import read_limits

    return replace(settings, limits=read_limits(words, settings.limits))


def _scan(words: ScanWords, settings: Settings) -> Report:
    running = requested(words.run) if words.run else None
    if running is None:
        return scan(words.targets, settings)
    with progress(words.quiet) as (tick, announce):
        how = replace(running, progress=tick, announce=announce)
        return scan(words.targets, replace(settings, running=how))


def _check_combination(words: ScanWords, resolved: Resolved) -> None:
    if words.statistics and "text" not in resolved.formats:
        raise UsageError("--statistics is a form of text", "leave it out, or use --format text")


def _write_baseline(report: Report, words: ScanWords, resolved: Resolved) -> Report:
    """Write what was found as known, and the report as the next run will have it."""
    from normcheck.cli.baseline import write_baseline

    report, message = write_baseline(report, resolved.baseline or Path(BASELINE))
    if not words.quiet:
        report_note(message)
        if resolved.baseline is None:
            report_note(
                f'use it with --baseline {BASELINE}, or baseline = "{BASELINE}" in the file'
            )
    return report


def _tell(report: Report, words: ScanWords) -> None:
    """Errors, and what else belongs on stderr."""
    tell_errors(report, words.verbose)
    if not report.models and not report.errors:
        passed = f" ({plural(len(report.skipped), 'file')} without a model)"
        under = ", ".join(map(shown, words.targets))
        report_error(
            f"no checkpoint under {under}{passed if report.skipped else ''}",
            "name a file, or a folder with .pt, .pth, .ckpt, .bin or .safetensors files",
        )


def tell_errors(report: Report, verbose: int) -> None:
    """The errors of a report on stderr, with tracebacks where these are wanted."""
    for failure in report.errors:
        report_error(failure.message, failure.hint)
        if failure.trace and verbose > 1:
            sys.stderr.write(failure.trace)


def _plot(report: Report, file: str) -> None:
    from normcheck.report.figure import draw

    if len(report.models) != 1:
        raise UsageError(
            f"--plot draws one model, the targets hold {len(report.models)}",
            "name one file with one model",
        )
    draw(report.models[0], report.findings, Path(file))


def exit_code(report: Report, settings: Settings, *, exit_zero: bool) -> int:
    """The exit code of a finished run: 2 wins over 1, and 1 over 0."""
    missed = any(not entry.unasked for entry in report.skipped)
    if report.errors or (settings.strict and missed):
        return 2
    if not report.models:
        return 3
    failed = any(report.fails(finding) for finding in report.findings)
    return 1 if failed and not exit_zero else 0
