"""Where the database of a cache lies: SQLite changes it in place, so it is a regular file."""

from contextlib import suppress
from pathlib import Path

from normcheck.errors import UsageError
from normcheck.writing.destination import Destination, Kind, destination_of


def place_of_database(path: Path) -> Destination:
    """Where the database is or comes to be, all links followed.

    Raises:
        UsageError: SQLite cannot keep anything there; a FIFO would be waited for in vain.
    """
    place = destination_of(path)
    if not place.replaced:
        raise UsageError(f"--cache {path}: the cache has to be a regular file", "name another file")
    return place


def remove_empty(place: Destination) -> None:
    """Remove a new database that nothing could be written into."""
    if place.kind is Kind.NEW:
        with suppress(OSError):
            if not place.path.stat().st_size:
                place.path.unlink()
