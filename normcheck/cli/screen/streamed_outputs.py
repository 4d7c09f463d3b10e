"""Where parts of a report go as they come: written at once where the form allows it."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TextIO

from normcheck.cli.screen.output_places import Look, Output, rendered, text_style
from normcheck.errors import UsageError
from normcheck.report.part import Part
from normcheck.report.report import Report, joined
from normcheck.report.tally import Tally

_STDOUT = "-"
Pause = Callable[[], AbstractContextManager[None]]
"""Takes what is drawn on the terminal away while something is written there."""


class _Form(Protocol):
    """A form of the report that grows with its parts."""

    def part(self, part: Part) -> str:
        """What is to be written now."""
        ...

    def end(self, tally: Tally) -> Iterator[str]:
        """The rest, with the counts of all parts, piece by piece."""
        ...


class _Whole:
    """A form that needs the whole report before its first byte."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._parts: list[Report] = []

    def part(self, part: Part) -> str:
        report = part.report
        # None of these shows layers: of a healthy model little else is left.
        models = tuple(replace(m, layers=(), agreement=None, run=None) for m in report.models)
        self._parts.append(replace(report, models=models))
        return ""

    def end(self, _tally: Tally) -> Iterator[str]:
        yield rendered(joined(self._parts[-1], self._parts), self._output)


class Sinks:
    """All outputs of a run."""

    def __init__(self, places: Sequence[tuple[_Form, Output, TextIO]], pause: Pause) -> None:
        """Start with nothing written."""
        self._places = places
        self._pause = pause

    def part(self, part: Part) -> None:
        """Write what can be written of this part."""
        for form, output, stream in self._places:
            self._write(form.part(part), output, stream)

    def end(self, tally: Tally) -> None:
        """Write the rest, with the counts of all parts."""
        for form, output, stream in self._places:
            # On a terminal the error says it all; a file that was asked for is written.
            if tally.models or output.form != "text" or output.file != _STDOUT:
                for text in form.end(tally):
                    self._write(text, output, stream)

    def _write(self, text: str, output: Output, stream: TextIO) -> None:
        if not text:
            return
        if output.file == _STDOUT:
            with self._pause():
                stream.write(text)
                stream.flush()
        else:
            with _writable(output.file):
                stream.write(text)


@contextmanager
def opened(outputs: Sequence[Output], look: Look, pause: Pause) -> Iterator[Sinks]:
    """The outputs, ready to be written; files are there whole at the end, or not at all.

    Raises:
        UsageError: A file cannot be written; nothing was done then.
    """
    with ExitStack() as stack:
        yield Sinks(
            [(_form(o, look), o, stack.enter_context(_place(o.file))) for o in outputs], pause
        )


def _form(output: Output, look: Look) -> _Form:
    # Each form is imported only where it is wanted: JSON needs no rich.
    if output.form == "json-lines":
        from normcheck.report.machines.as_json_lines import JsonLines

        return JsonLines()
    if output.form in ("json", "json-v1"):
        from normcheck.report.machines.as_json import Json

        return Json()
    if output.form != "text":
        return _Whole(output)
    if look.statistics:
        from normcheck.report.people.rule_counts import StatisticsText

        return StatisticsText()
    from normcheck.report.people.text_stream import TextReport

    return TextReport(text_style(output, look))


@contextmanager
def _place(file: str) -> Iterator[TextIO]:
    if file == _STDOUT:
        # Signs that the terminal's encoding lacks become question marks, not a crash.
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(errors="replace")
        yield sys.stdout
        return
    path = Path(file)
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    with _writable(file):
        stream = part.open("w", encoding="utf-8")
    try:
        yield stream
        with _writable(file):
            stream.close()
            part.replace(path)
    finally:
        with suppress(OSError):  # of what is thrown away
            stream.close()
        part.unlink(missing_ok=True)


@contextmanager
def _writable(file: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(
            f"{file}: cannot be written ({error.strerror or error})",
            "name a file in a folder that exists and is writable",
        ) from error
