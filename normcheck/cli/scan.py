"""``normcheck scan``: read, judge, report."""

import os
import shutil
import sys
import tempfile
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from normcheck.report.report import Report
    from normcheck.settings import Settings


class OutputFormat(StrEnum):
    """Forms of the report."""

    TEXT = "text"
    JSON = "json"


class FailOn(StrEnum):
    """Severities that can fail a run."""

    ERROR = "error"
    WARNING = "warning"


class Color(StrEnum):
    """When to colour."""

    AUTO = "auto"
    ALWAYS = "always"
    NEVER = "never"


_PIPE_WIDTH = 80
"""Columns where the output is no terminal and COLUMNS says nothing."""


def scan(  # noqa: PLR0917  (typer: an option is a parameter)
    targets: Annotated[
        list[str],
        typer.Argument(
            metavar="TARGET...",
            help="Checkpoint files, folders (searched for checkpoints) or quoted patterns.",
            show_default=False,
        ),
    ],
    form: Annotated[
        OutputFormat,
        typer.Option("--format", "-f", "--output-format", help="Form of the report."),
    ] = OutputFormat.TEXT,
    output: Annotated[
        str,
        typer.Option(
            "--output-file",
            "-o",
            metavar="FILE",
            help="Write the report there instead of stdout (-), whole or not at all.",
        ),
    ] = "-",
    select: Annotated[
        list[str] | None,
        typer.Option(
            metavar="RULES",
            help="Run only these rules: codes, names or prefixes, with commas. Default: ALL.",
        ),
    ] = None,
    ignore: Annotated[
        list[str] | None,
        typer.Option(metavar="RULES", help="Leave these rules out; the more specific word wins."),
    ] = None,
    fail_on: Annotated[
        FailOn, typer.Option(help="Exit with 1 for findings of this severity or worse.")
    ] = FailOn.WARNING,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", "-e", help="Exit with 0 even where there are findings.")
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 where a rule or file was skipped.")
    ] = False,
    color: Annotated[
        Color, typer.Option(help="Colour; auto looks at the terminal, NO_COLOR, FORCE_COLOR.")
    ] = Color.AUTO,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Only warnings and errors; silent without.")
    ] = False,
    verbose: Annotated[
        int,
        typer.Option(
            "--verbose", "-v", count=True, help="Every layer and skipped rule; -vv for tracebacks."
        ),
    ] = 0,
) -> int:
    """Scan saved models and say what is wrong with their normalization layers.

    Exit codes: 0 nothing found, 1 findings, 2 something could not be read or done,
    3 no checkpoint under the targets.
    """
    # Imported here, so that --help and the other commands do not wait for numpy.
    from normcheck.cli.app import report_error
    from normcheck.session import scan as run

    settings = _settings(select, ignore, fail_on, strict)
    report = run(targets, settings)
    if report.models or form is not OutputFormat.TEXT:
        _write(_rendered(report, form, output, color, verbose=verbose, quiet=quiet), output)
    for failure in report.errors:
        report_error(failure.message, failure.hint)
    if not report.models and not report.errors:
        passed = f" ({len(report.skipped)} files without a model)" if report.skipped else ""
        report_error(
            f"no checkpoint under {', '.join(targets)}{passed}",
            "name a file, or a folder with .pt, .pth, .ckpt, .bin or .safetensors files",
        )
    return exit_code(report, settings, exit_zero=exit_zero)


def exit_code(report: "Report", settings: "Settings", *, exit_zero: bool) -> int:
    """The exit code of a finished run: 2 wins over 1, and 1 over 0."""
    if report.errors or (settings.strict and report.skipped):
        return 2
    if not report.models:
        return 3
    worst = report.worst()
    failed = worst is not None and worst.rank >= settings.fail_on.rank
    return 1 if failed and not exit_zero else 0


def _settings(
    select: list[str] | None, ignore: list[str] | None, fail_on: FailOn, strict: bool
) -> "Settings":
    from normcheck.findings import Severity
    from normcheck.rules.catalogue import select as chosen
    from normcheck.settings import Settings

    rules = chosen(_words(select) or ["ALL"], _words(ignore))
    return Settings(rules=rules, fail_on=Severity(fail_on.value), strict=strict)


def _words(options: list[str] | None) -> list[str]:
    return [word.strip() for option in options or [] for word in option.split(",") if word.strip()]


def _rendered(
    report: "Report", form: OutputFormat, output: str, color: Color, *, verbose: int, quiet: bool
) -> str:
    if form is OutputFormat.JSON:
        from normcheck.report.as_json import render_json

        return render_json(report)
    from normcheck.report.text import TextStyle, render_text

    style = TextStyle(
        width=_width(output),
        color=_colored(color, output),
        verbose=verbose > 0,
        quiet=quiet,
    )
    return render_text(report, style)


def _width(output: str) -> int:
    terminal = output == "-" and sys.stdout.isatty()
    # get_terminal_size honours COLUMNS, in a terminal and out of it.
    return (
        shutil.get_terminal_size((_PIPE_WIDTH, 24)).columns
        if (terminal or "COLUMNS" in os.environ)
        else _PIPE_WIDTH
    )


def _colored(color: Color, output: str) -> bool:
    if color is not Color.AUTO:
        return color is Color.ALWAYS
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return output == "-" and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def _write(text: str, output: str) -> None:
    """To stdout, or to a file that is there whole or not at all."""
    if output == "-":
        # Signs that the terminal's encoding lacks become question marks, not a crash.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    from normcheck.errors import UsageError

    path = Path(output)
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=path.parent, prefix=f".{path.name}.", delete=False, encoding="utf-8"
        ) as file:
            file.write(text)
        Path(file.name).chmod(0o666 & ~_umask())
        Path(file.name).replace(path)
    except OSError as error:
        raise UsageError(
            f"{output}: cannot be written ({error.strerror or error})",
            "name a file in a folder that exists and is writable",
        ) from error


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
