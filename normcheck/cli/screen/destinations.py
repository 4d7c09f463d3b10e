"""What a run writes, looked at before any work is done: no output may destroy an input."""

from collections.abc import Iterable, Iterator, Sequence

from normcheck.errors import UsageError
from normcheck.report.part import Part
from normcheck.writing.destination import Destination, Kind, destination_of

_INPUT = "an input of this run"


class Destinations:
    """All places that a run writes to."""

    def __init__(self, names: Sequence[str]) -> None:
        """Look at each of them; nothing is left there.

        Args:
            names: As the user gave them; empty ones do not count.

        Raises:
            UsageError: Nothing can be written at one of them, or two are the same.
        """
        self._places = [destination_of(name) for name in names if name]
        taken: dict[str, Destination] = {}
        for place in self._places:
            if not place.replaced and place.kind is not Kind.STDOUT:
                continue  # others take what several outputs write
            before = taken.setdefault(str(place.path), place)
            if before is not place:
                raise UsageError(
                    f"{before.said} and {place.said} are two outputs for one place",
                    "name another file for one of them",
                )
            if place.replaced:
                from normcheck.writing.atomic_file import try_out

                try_out(place)

    def spare(self, names: Iterable[str], what: str = _INPUT) -> None:
        """Refuse to replace a file that is read.

        Args:
            names: Files, as far as they are any.
            what: What they are.

        Raises:
            UsageError: One of them is one of the places.
        """
        for name in names:
            for place in self._places:
                place.refuse([name] if name else (), what)

    def sparing(self, parts: Iterable[Part]) -> Iterator[Part]:
        """The same parts; the run ends where a file of one is about to be replaced."""
        watched = [place for place in self._places if place.kind is Kind.FILE]
        for part in parts:
            for place in watched:
                place.refuse(part.files, _INPUT)
            yield part
