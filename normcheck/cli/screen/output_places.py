"""Where a report goes, in which form, and how wide and coloured its text is."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from normcheck.errors import UsageError
from normcheck.report.report import Report

if TYPE_CHECKING:
    from normcheck.report.people.text_report import TextStyle

_PIPE_WIDTH = 80
"""Columns where the output is no terminal and COLUMNS says nothing."""
_STDOUT = "-"


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
    places = [*files, *[_STDOUT] * (len(forms) - len(files))]
    same = {place for place in places if places.count(place) > 1}
    if same:
        raise UsageError(
            f"two formats for {', '.join(sorted(same)).replace(_STDOUT, 'stdout', 1)}",
            "the first -o belongs to the first -f, the second to the second",
        )
    return tuple(Output(*both) for both in zip(forms, places, strict=True))


def rendered(report: Report, output: Output) -> str:
    """The report in the form for machines that this output wants."""
    from normcheck.report.forms import render

    return render(report, output.form, Path.cwd())


def text_style(output: Output, look: Look) -> "TextStyle":
    """How text is to look at the place where it goes."""
    from normcheck.report.people.text_report import TextStyle

    return TextStyle(
        width=_width(output.file),
        color=_colored(look.color, output.file),
        verbose=look.verbose,
        quiet=look.quiet,
        errors=output.file != _STDOUT,
    )


def _width(file: str) -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    if file == _STDOUT and sys.stdout.isatty():
        return os.get_terminal_size(sys.stdout.fileno()).columns or _PIPE_WIDTH
    return _PIPE_WIDTH


def _colored(color: str, file: str) -> bool:
    if color != "auto":
        return color == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return file == _STDOUT and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def write(text: str, file: str) -> None:
    """To stdout, or to a file that is there whole or not at all.

    Raises:
        UsageError: The file cannot be written.
    """
    if file == _STDOUT:
        # Signs that the terminal's encoding lacks become question marks, not a crash.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        sys.stdout.write(text)
        sys.stdout.flush()
        return
    path = Path(file)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise UsageError(
            f"{file}: cannot be written ({error.strerror or error})",
            "name a file in a folder that exists and is writable",
        ) from error
