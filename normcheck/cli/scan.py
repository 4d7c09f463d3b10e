"""``normcheck scan``: read, judge, report. The flags themselves are in ``app.py``."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from normcheck.cli.errors import report_error
from normcheck.errors import UsageError
from normcheck.findings import Severity
from normcheck.report.report import Report
from normcheck.rules.catalogue import select
from normcheck.rules.rule import Need
from normcheck.session import scan
from normcheck.settings import Settings

_PIPE_WIDTH = 80
"""Columns where the output is no terminal and COLUMNS says nothing."""


@dataclass(frozen=True, slots=True)
class ScanWords:
    """The words of one ``normcheck scan``, as the flags give them."""

    targets: Sequence[str]
    form: str = "text"
    output: str = "-"
    select: Sequence[str] = ()
    ignore: Sequence[str] = ()
    fail_on: str = "warning"
    exit_zero: bool = False
    strict: bool = False
    color: str = "auto"
    quiet: bool = False
    verbose: int = 0
    plot: str = ""


def run_scan(words: ScanWords) -> int:
    """Scan, write the report, and return the exit code."""
    rules = select(split_words(words.select) or ["ALL"], split_words(words.ignore))
    if words.select and rules and all(rule.need is Need.PAIR for rule in rules):
        raise UsageError(
            f"{', '.join(words.select):.60}: these rules compare checkpoints, a scan has only one",
            "run them with: normcheck diff OLD NEW",
        )
    settings = Settings(
        rules=rules,
        fail_on=Severity(words.fail_on),
        strict=words.strict,
        keep_predictions=bool(words.plot),
    )
    report = scan(words.targets, settings)
    if report.models or words.form != "text":
        write_out(rendered(report, words), words.output)
    if words.plot:
        _plot(report, words.plot)
    for failure in report.errors:
        report_error(failure.message, failure.hint)
    if not report.models and not report.errors:
        passed = f" ({len(report.skipped)} files without a model)" if report.skipped else ""
        report_error(
            f"no checkpoint under {', '.join(words.targets)}{passed}",
            "name a file, or a folder with .pt, .pth, .ckpt, .bin or .safetensors files",
        )
    return exit_code(report, settings, exit_zero=words.exit_zero)


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
    if report.errors or (settings.strict and report.skipped):
        return 2
    if not report.models:
        return 3
    worst = report.worst()
    failed = worst is not None and worst.rank >= settings.fail_on.rank
    return 1 if failed and not exit_zero else 0


def split_words(options: Sequence[str]) -> list[str]:
    """The words of a flag that takes lists with commas and can be repeated."""
    return [word.strip() for option in options for word in option.split(",") if word.strip()]


def rendered(report: Report, words: ScanWords) -> str:
    """The report in the form that the words ask for."""
    # Each output is imported only where it is wanted: JSON needs no rich.
    if words.form == "json":
        from normcheck.report.as_json import render_json

        return render_json(report)
    from normcheck.report.text import TextStyle, render_text

    return render_text(
        report,
        TextStyle(
            width=text_width(words.output),
            color=use_color(words.color, words.output),
            verbose=words.verbose > 0,
            quiet=words.quiet,
        ),
    )


def text_width(output: str) -> int:
    """Columns of the terminal, or what stands in for one."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    if output == "-" and sys.stdout.isatty():
        return os.get_terminal_size(sys.stdout.fileno()).columns or _PIPE_WIDTH
    return _PIPE_WIDTH


def use_color(color: str, output: str) -> bool:
    """Whether to colour: as the flag says, else as the environment and the terminal do."""
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return output == "-" and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def write_out(text: str, output: str) -> None:
    """To stdout, or to a file that is there whole or not at all."""
    if output == "-":
        # Signs that the terminal's encoding lacks become question marks, not a crash.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    path = Path(output)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(
            f"{output}: cannot be written ({error.strerror or error})",
            "name a file in a folder that exists and is writable",
        ) from error
