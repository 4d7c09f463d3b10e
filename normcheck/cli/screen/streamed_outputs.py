"""Where parts of a report go as they come: written at once where the form allows it."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TextIO

from normcheck.cli.screen.output_places import Look, Output, view
from normcheck.errors import UsageError
from normcheck.report.form import Stream
from normcheck.report.forms import form_of
from normcheck.report.part import Part
from normcheck.report.tally import Tally

_STDOUT = "-"
Pause = Callable[[], AbstractContextManager[None]]
"""Takes what is drawn on the terminal away while something is written there."""


class Sinks:
    """All outputs of a run."""

    def __init__(self, places: Sequence[tuple[Stream, Output, TextIO]], pause: Pause) -> None:
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
        forms = [form_of(o.form).scan(view(o, look)) for o in outputs]
        files = [stack.enter_context(_place(o.file)) for o in outputs]
        yield Sinks(list(zip(forms, outputs, files, strict=True)), pause)


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
