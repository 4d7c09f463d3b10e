"""Where a report goes, in which form, and how wide and coloured its text is."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from normcheck.cli.screen.error_messages import report_note
from normcheck.errors import UsageError
from normcheck.report.report import Report
from normcheck.writing.destination import STDOUT, place_of
from normcheck.writing.writer import written

if TYPE_CHECKING:
    from normcheck.report.people.text_style import TextStyle

_PIPE_WIDTH = 80
"""Columns where the output is no terminal and COLUMNS says nothing."""


@dataclass(frozen=True, slots=True)
class Output:
    """One form of the report and the file that it goes to; ``-`` is stdout."""

    form: str
    file: str


@dataclass(frozen=True, slots=True)
class Look:
    """How text is to look; machine formats never heed it."""

    color: str = "auto"
    quiet: bool = False
    verbose: bool = False
    statistics: bool = False


def pair(forms: Sequence[str], files: Sequence[str]) -> tuple[Output, ...]:
    """Each form with its file, in the order given; stdout for one form without a file.

    Raises:
        UsageError: More files than forms, or two outputs for one place.
    """
    if len(files) > len(forms):
        raise UsageError(
            f"{len(files)} output files for {len(forms)} formats",
            "give each -o its own -f: -f github -f sarif -o - -o normcheck.sarif",
        )
    places = [*files, *[STDOUT] * (len(forms) - len(files))]
    same = {place for place in places if places.count(place) > 1}
    if same:
        raise UsageError(
            f"two formats for {', '.join(sorted(same)).replace(STDOUT, 'stdout', 1)}",
            "the first -o belongs to the first -f, the second to the second",
        )
    return tuple(Output(*both) for both in zip(forms, places, strict=True))


def rendered(report: Report, output: Output) -> str:
    """The report in the form for machines that this output wants."""
    from normcheck.report.forms import render

    return render(report, output.form, Path.cwd())


def text_style(output: Output, look: Look) -> "TextStyle":
    """How text is to look at the place where it goes."""
    from normcheck.report.people.text_style import TextStyle

    return TextStyle(
        width=_width(output.file),
        color=_colored(look.color, output.file),
        verbose=look.verbose,
        quiet=look.quiet,
        errors=output.file != STDOUT,
    )


def _width(file: str) -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    if file == STDOUT and _on_terminal():
        return os.get_terminal_size(sys.stdout.fileno()).columns or _PIPE_WIDTH
    return _PIPE_WIDTH


def _colored(color: str, file: str) -> bool:
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return file == STDOUT and _on_terminal() and os.environ.get("TERM") != "dumb"


def _on_terminal() -> bool:
    # There is none after >&-, which is an error once something is written.
    return sys.stdout is not None and sys.stdout.isatty()


def write(text: str, file: str) -> None:
    """To stdout, or wherever else; a regular file is there whole or not at all.

    Raises:
        UsageError: It cannot be written.
    """
    with written(place_of(file), announce=report_note) as out:
        out.text(text)
