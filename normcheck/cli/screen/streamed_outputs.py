"""Where parts of a report go as they come: written at once where the form allows it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Protocol

from normcheck.cli.screen.output_places import Look, Output, rendered, text_style
from normcheck.report.part import Part
from normcheck.report.report import Report, joined
from normcheck.report.tally import Tally
from normcheck.writing.destination import STDOUT, Place, place_of
from normcheck.writing.special_files import Announce
from normcheck.writing.streams import Out
from normcheck.writing.writer import written

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

    def __init__(self, places: Sequence["_Opened"], pause: Pause) -> None:
        """Start with nothing written."""
        self._places = places
        self._pause = pause

    def part(self, part: Part) -> None:
        """Write what can be written of this part."""
        for opened in self._places:
            self._write(opened.form.part(part), opened)

    def end(self, tally: Tally) -> None:
        """Write the rest, with the counts of all parts."""
        for opened in self._places:
            # On a terminal the error says it all; a file that was asked for is written.
            if tally.models or opened.output.form != "text" or opened.output.file != STDOUT:
                for text in opened.form.end(tally):
                    self._write(text, opened)

    def _write(self, text: str, opened: "_Opened") -> None:
        if not text:
            return
        # Whatever is not a file may be the terminal, by one name or another.
        with nullcontext() if opened.place.replaced else self._pause():
            opened.out.text(text)


@dataclass(frozen=True, slots=True)
class _Opened:
    """One output, ready to be written."""

    form: _Form
    output: Output
    place: Place
    out: Out


@contextmanager
def opened(
    outputs: Sequence[Output], look: Look, pause: Pause, announce: Announce
) -> Iterator[Sinks]:
    """The outputs, ready to be written; files are there whole at the end, or not at all.

    Args:
        outputs: Forms, and where they go.
        look: Of text.
        pause: See ``Pause``.
        announce: Told where a FIFO waits for its reader.

    Raises:
        UsageError: A file cannot be written; nothing was done then.
    """
    with ExitStack() as stack:
        places = []
        for output in outputs:
            form, place = _form(output, look), place_of(output.file)
            out = stack.enter_context(written(place, announce=announce))
            places.append(_Opened(form, output, place, out))
        yield Sinks(places, pause)


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
