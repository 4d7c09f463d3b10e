"""Where parts of a report go as they come: written at once where the form allows it."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

from normcheck.cli.screen.output_places import Look, OutputPlace, utf8_for_programs, view
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.report.form import GrowingForm
from normcheck.report.forms import form_of
from normcheck.report.part import Part
from normcheck.report.tally import Tally
from normcheck.writing.destination import STDOUT, Destination, destination_of
from normcheck.writing.special_files import Announce
from normcheck.writing.streams import Out
from normcheck.writing.writer import written

Pause = Callable[[], AbstractContextManager[None]]
"""Takes what is drawn on the terminal away while something is written there."""


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


@lazy_dataclass()
class _Opened:
    """One output, ready to be written."""

    form: GrowingForm
    output: OutputPlace
    place: Destination
    out: Out


@contextmanager
def opened(
    outputs: Sequence[OutputPlace], look: Look, pause: Pause, announce: Announce
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
    utf8_for_programs(outputs)
    with ExitStack() as stack:
        places = []
        for output in outputs:
            form, place = form_of(output.form).scan(view(output, look)), destination_of(output.file)
            out = stack.enter_context(written(place, announce=announce))
            places.append(_Opened(form, output, place, out))
        yield Sinks(places, pause)
