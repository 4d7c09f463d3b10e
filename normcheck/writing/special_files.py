"""Devices, FIFOs, sockets and descriptors: written into as they stand, never replaced."""

import errno
import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO

from normcheck import platforms
from normcheck.errors import UsageError
from normcheck.writing.destination import Destination, Kind
from normcheck.writing.streams import FileOut, Out
from normcheck.writing.write_errors import cannot, told

_SILENT_SECONDS = 1.0
"""So long nothing is said of a FIFO that nobody reads yet: its reader may just be starting."""
READER_SECONDS = 60.0
"""So long a reader is waited for: a run that nobody watches must end."""
_LOOK_SECONDS = 0.05
Announce = Callable[[str], None]
"""Says what the user has to know whatever happens."""


def to_nobody(_text: str) -> None:
    """Say nothing."""


@contextmanager
def standing(place: Destination, announce: Announce) -> Iterator[Out]:
    """Write into what stands there; each piece arrives at once.

    Args:
        place: Nothing that is replaced, and not stdout.
        announce: Told where a reader is waited for.

    Raises:
        UsageError: It cannot be opened or written into, or nobody reads it.
    """
    with told(place.said):
        raw = FileIO(_opened(place, announce), "wb")
    try:
        yield FileOut(place.said, raw)
        with told(place.said):
            raw.close()
    finally:
        with suppress(OSError):  # of what is given up
            raw.close()


def _opened(place: Destination, announce: Announce) -> int:
    if place.kind is Kind.DESCRIPTOR:
        return os.dup(place.descriptor)
    if place.kind is Kind.SOCKET:
        return _connected(place)
    if place.kind is Kind.FIFO:
        opened = _with_reader(place, announce)
    else:
        # A terminal that is written into does not become that of this process.
        opened = os.open(place.path, os.O_WRONLY | platforms.NO_TERMINAL)
    now = os.fstat(opened)
    before = place.status
    # What was put there since, a regular file for one, was not looked at.
    if before is None or stat.S_IFMT(now.st_mode) != stat.S_IFMT(before.st_mode):
        os.close(opened)
        raise UsageError(f"{place.said} was replaced by something else meanwhile", "run it again")
    return opened


def _with_reader(place: Destination, announce: Announce) -> int:
    """A FIFO, once somebody reads it.

    To open it without more would wait for ever, and without a word, where nobody does.
    """
    start = time.monotonic()
    said = False
    while True:
        try:
            opened = os.open(place.path, os.O_WRONLY | platforms.NO_WAIT)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
        else:
            platforms.wait_from_now(opened)
            return opened
        waited = time.monotonic() - start
        if waited > READER_SECONDS:
            raise UsageError(
                f"{place.said}: nobody reads this FIFO (waited {READER_SECONDS:.0f} s)",
                f"start its reader first: cat {place.said} > FILE &",
            )
        if waited > _SILENT_SECONDS and not said:
            announce(f"waiting for a program that reads the FIFO {place.said}")
            said = True
        time.sleep(_LOOK_SECONDS)


def _connected(place: Destination) -> int:
    import socket  # no other output needs it

    family = getattr(socket, "AF_UNIX", None)
    if family is None:
        raise cannot(place.said, OSError(errno.ENXIO, "this system has no such sockets"))
    with socket.socket(family, socket.SOCK_STREAM) as link:
        link.settimeout(READER_SECONDS)
        link.connect(str(place.path))
        link.settimeout(None)
        return link.detach()
