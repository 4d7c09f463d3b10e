"""Where a report goes, in which form, and how wide and coloured its text is."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from normcheck.cli.screen.error_messages import report_note
from normcheck.errors import UsageError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.sources.place import local
from normcheck.writing.destination import STDOUT, destination_of
from normcheck.writing.writer import written

if TYPE_CHECKING:
    from normcheck.report.form import View

_PIPE_WIDTH = 80
"""Columns where the output is no terminal and COLUMNS says nothing."""


@lazy_dataclass()
class OutputPlace:
    """One form of the report and the file that it goes to; ``-`` is stdout."""

    form: str
    file: str


@lazy_dataclass()
class Look:
    """How text is to look; machine formats ignore it."""

    color: str = "auto"
    quiet: bool = False
    verbose: bool = False
    statistics: bool = False
    repeated: tuple[str, ...] = ()
    """What was asked, for who wants to ask it again."""


def pair(forms: Sequence[str], files: Sequence[str], flag: str = "-o") -> tuple[OutputPlace, ...]:
    """Each form with its file, in the order given; stdout for one form without a file.

    Args:
        forms: Of the report.
        files: As the user named them.
        flag: What they were named with.

    Raises:
        UsageError: More files than forms, or two outputs for one place.
    """
    if len(files) > len(forms):
        raise UsageError(
            f"{len(files)} output files for {len(forms)} formats",
            f"give each {flag} its own -f: "
            + ("-f github -f sarif -o - -o normcheck.sarif" if flag == "-o" else "-f text -f html"),
        )
    for file in files:
        if file != STDOUT:
            local(file, flag)
    places = [*files, *[STDOUT] * (len(forms) - len(files))]
    same = {place for place in places if places.count(place) > 1}
    if same:
        raise UsageError(
            f"two formats for {', '.join(sorted(same)).replace(STDOUT, 'stdout', 1)}",
            f"the first {flag} belongs to the first -f, the second to the second",
        )
    return tuple(OutputPlace(*both) for both in zip(forms, places, strict=True))


def utf8_for_programs(outputs: Sequence[OutputPlace]) -> None:
    """Make stdout UTF-8 with plain line feeds where a form for programs goes there.

    JSON is UTF-8 by its standard and XML says that it is, whatever the code page of the
    terminal: a question mark in the name of a layer would be the name of another one.
    """
    programs = any(output.file == STDOUT and output.form != "text" for output in outputs)
    if programs and hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")


def view(output: OutputPlace, look: Look) -> "View":
    """How a report is to look at the place where it goes."""
    from normcheck.report.form import View
    from normcheck.report.people.text_style import TextStyle

    style = TextStyle(
        width=_width(output.file),
        color=_colored(look.color, output.file),
        verbose=look.verbose,
        quiet=look.quiet,
        errors=output.file != STDOUT,
    )
    return View(style, Path.cwd(), look.statistics, look.repeated)


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
    with written(destination_of(file), announce=report_note) as out:
        out.text(text)
