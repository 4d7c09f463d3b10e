"""The bytes of a pickle, taken from a stream piece by piece and never on the file's word."""

import io
import struct
from typing import Any

from normcheck.errors import RefusedError, UnreadableError
from normcheck.sources.limits import Budget, Limits

_PIECE = 1 << 12
"""Bytes that may be asked for without looking at the file's length first."""
_FIRST_WINDOW = 1 << 9
_WINDOW = 1 << 16
"""Bytes that are taken from the stream at once. The first windows are short: the pickles that
begin a file of torch's legacy format are."""
_PADDING = b"\0" * 16
"""Behind the last byte, longer than an instruction with its number: so these are read without
a look at the end, and what was read past it is noticed before the next one."""

BROKEN_OFF = "it ends without a stop: the save, or the copy, broke off in mid-pickle"


def damaged(what: str) -> UnreadableError:
    """What to say of a pickle that does not hold together."""
    return UnreadableError(
        f"damaged pickle: {what}", "the file is truncated or was changed; fetch or save it again"
    )


class PickleWindow:
    """A window of a stream, moved on as what reads it gets to its end.

    A base and no part of the machine: its loop reads the window's bytes itself, and asks here
    only at the edge.
    """

    def __init__(
        self, stream: io.BufferedIOBase, size: int, limits: Limits, budget: Budget | None
    ) -> None:
        """See :class:`~normcheck.pickles.machine.InertUnpickler`."""
        self.budget = budget or Budget(limits)
        self._stream = stream
        start = stream.tell()
        self._end = min(size, start + limits.pickle_bytes)
        self._bounded = self._end < size
        self.limits = limits
        # A window of the stream: its bytes, where they begin, how many are the file's, where in
        # it the next instruction lies, and up to where one can be read without a look.
        self._window = b""
        self._base = start
        self._filled = self._at = self._safe = 0
        self._next_window = _FIRST_WINDOW

    def _refill(self) -> None:
        """Move the window on, so that the next instruction can be read without a look.

        Raises:
            UnreadableError: The file ends here.
            RefusedError: The pickle is longer than the limits allow.
        """
        if self._at > self._filled:
            raise self._ends()
        window = self._window[self._at : self._filled]
        self._base += self._at
        self._at = 0
        while len(window) <= len(_PADDING):
            more = self._stream.read(min(self._next_window, self._end - self._base - len(window)))
            self._next_window = min(4 * self._next_window, _WINDOW)
            if not more:
                break
            window += more
        self._filled = len(window)
        if len(window) > len(_PADDING):
            self._window, self._safe = window, self._filled - len(_PADDING)
        else:
            self._window, self._safe = window + _PADDING, self._filled
        if not window:
            raise self._ends() if self._bounded else damaged(BROKEN_OFF)

    def _ends(self) -> UnreadableError:
        """What to say where the file, or what may be read of it, ends too early."""
        if self._bounded:
            return RefusedError(
                f"the pickle is longer than {self.limits.pickle_bytes:,} bytes",
                limit="pickle_bytes",
            )
        return damaged("the file ends within it")

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        begin = self._at
        self._at += length
        if self._at <= self._filled:
            if length > _PIECE:
                self.budget.spend(length)
            return self._window[begin : self._at]
        # A long piece is not allocated on the file's word.
        if length > self._end - self._base - begin:
            raise self._ends()
        if length > _PIECE:
            self.budget.spend(length)  # before it is allocated
        data = self._window[begin : self._filled]
        data += self._stream.read(length - len(data))
        if len(data) != length:
            raise damaged("the file ends within it")
        self._base += begin + length
        self._window, self._filled, self._at, self._safe = b"", 0, 0, 0
        return data

    def skip(self, length: int) -> None:
        """Go on behind the next ``length`` bytes, which are not read where they are many."""
        if length > self._end - self._base - self._at:
            raise self._ends()
        if self._at + length <= self._filled:
            self._at += length
        else:
            self.move_to(self.position + length)

    def move_to(self, position: int) -> None:
        """Go on at another place of the stream, wherever something else has read it to."""
        self._stream.seek(position)
        self._base = position
        self._window, self._filled, self._at, self._safe = b"", 0, 0, 0

    @property
    def position(self) -> int:
        """Where in the stream the next byte lies."""
        return self._base + self._at

    def byte(self) -> int:
        """The next byte; apart from ``number`` because many instructions carry one."""
        return self.take(1)[0]

    def number(self, layout: str) -> Any:
        """The next number, in ``struct``'s notation."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> bytes:
        """Up to the next newline, which is taken but not returned."""
        most = self.limits.name_bytes
        while True:
            end = self._window.find(b"\n", self._at, min(self._filled, self._at + most))
            if end >= 0:
                break
            known = self._filled - self._at
            if known >= most or not self._grow():
                raise damaged("a line without an end")
        line = self._window[self._at : end]
        self._at = end + 1
        # As text a byte may take four, and a name is kept in parts and as a whole.
        self.budget.spend(8 * (len(line) + 1))
        return line

    def _grow(self) -> bool:
        """Read more behind the window; False where there is no more."""
        window = self._window[self._at : self._filled]
        more = self._stream.read(min(_WINDOW, self._end - self._base - self._filled))
        self._base += self._at
        self._at, self._filled = 0, len(window) + len(more)
        self._window = window + more + _PADDING
        self._safe = self._filled if not more else max(0, self._filled - len(_PADDING))
        return bool(more)
