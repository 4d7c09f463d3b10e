"""What bytes and text go into, with errors in the words of the command line."""

import os
import select
import sys
from io import FileIO
from typing import Protocol

from normcheck.errors import UsageError
from normcheck.writing.write_errors import cannot

_STDOUT = "stdout"


class Out(Protocol):
    """Takes what is written and hands it on at once, so that the reader of a pipe need not wait."""

    size: int
    """Bytes so far; of text to stdout, characters."""
    failure: UsageError | None
    """Why something could not be written: a library in between may have made its own of it."""

    def write(self, data: bytes | memoryview) -> int:
        """Write bytes, all of them.

        Raises:
            UsageError: They cannot be written.
        """
        ...

    def text(self, text: str) -> None:
        """Write text: UTF-8, or what the terminal speaks.

        Raises:
            UsageError: It cannot be written.
        """
        ...

    def flush(self) -> None:
        """Do nothing: nothing waits here. Libraries call it."""
        ...


class FileOut:
    """A file that is open, without a buffer: what is given up is not written after all."""

    def __init__(self, said: str, raw: FileIO) -> None:
        """See the class.

        Args:
            said: What it is, as the user named it.
            raw: The file.
        """
        self.size = 0
        self.failure: UsageError | None = None
        self._said = said
        self._raw = raw

    def write(self, data: bytes | memoryview) -> int:
        """See ``Out``."""
        left = memoryview(data).cast("B")
        total = len(left)
        try:
            while left:
                done = self._raw.write(left)
                if done is None:  # somebody made it non-blocking
                    select.select([], [self._raw], [])
                    continue
                left = left[done:]
        except OSError as error:
            self.failure = cannot(self._said, error)
            raise self.failure from error
        self.size += total
        return total

    def text(self, text: str) -> None:
        """See ``Out``."""
        self.write(text.encode("utf-8", errors="replace"))

    def flush(self) -> None:
        """See ``Out``."""


class StdOut:
    """Stdout, as Python has it when this is made: a redirection that comes later is for others."""

    def __init__(self) -> None:
        """Find it.

        Raises:
            UsageError: It is closed.
        """
        self.size = 0
        self.failure: UsageError | None = None
        if sys.stdout is None:  # as after >&-; the stubs do not know of it
            raise UsageError("stdout is closed", "name a file to write: -o FILE")
        self._stream = sys.stdout
        # Signs that the terminal's encoding lacks become question marks, not a crash.
        if hasattr(self._stream, "reconfigure"):
            self._stream.reconfigure(errors="replace")

    def write(self, data: bytes | memoryview) -> int:
        """See ``Out``."""
        try:
            self._stream.flush()
            self._stream.buffer.write(data)
            self._stream.buffer.flush()
        except OSError as error:
            self._fail(error)
        size = memoryview(data).nbytes
        self.size += size
        return size

    def text(self, text: str) -> None:
        """See ``Out``."""
        try:
            self._stream.write(text)
            self._stream.flush()
        except OSError as error:
            self._fail(error)
        self.size += len(text)

    def flush(self) -> None:
        """See ``Out``."""

    def _fail(self, error: OSError) -> None:
        if isinstance(error, BrokenPipeError):
            raise error  # the reader has enough: not a word, see cli.main
        discard_stdout()
        self.failure = cannot(_STDOUT, error)
        raise self.failure from error


def discard_stdout() -> None:
    """Let what stdout still holds go nowhere: Python may try it again when the process ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    finally:
        os.close(nowhere)
