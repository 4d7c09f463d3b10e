"""Another process of ours and the link to it: how one is started, fed, heard and ended.

It inherits the environment, the search path and stderr; of open files only its end of the link.
What goes in is pickled, as it is ours. What comes out are values only, for a process that runs a
model may have run code of the file's: see ``wire.py``.
"""

import contextlib
import json
import os
import pickle
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from normcheck import platforms, process_copy
from normcheck.errors import DamagedError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.process.wire import HEADER, LONGEST, read_message, written_message

BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from {module} import main; main(sys.argv[2])"
)
"""With -P, so that a folder called normcheck where the user stands is not taken for us. The
main module of whoever called us is not imported there, as multiprocessing would: a script
without a guard would start itself again."""
_CHUNK = 1 << 16
_GONE_SECONDS = 0.2
"""That a process whose link is closed has to end by itself."""


class ClosedError(Exception):
    """No more comes through the link."""


@lazy_dataclass()
class Ending:
    """How a process ended."""

    code: int | None
    """As ``Popen.returncode`` has it; None where it had to be stopped."""

    @property
    def crash(self) -> str:
        """What ended it from without or made it crash; empty where it ended by itself."""
        return platforms.ended_by(self.code) if self.code is not None else ""

    @property
    def killed(self) -> bool:
        """Whether it was killed, which is what a system without memory does."""
        return self.crash == "SIGKILL"


class Child:
    """A process that was started, as the one that started it sees it."""

    def __init__(
        self,
        module: str,
        messages: Mapping[str, type],
        environment: Mapping[str, str] | None = None,
        work: Callable[[str], object] | None = None,
    ) -> None:
        """Start one.

        Args:
            module: Whose ``main`` is called there with the word for :class:`Parent`.
            messages: What may come back, by the names of the classes.
            environment: Its variables; None for ours.
            work: That ``main``, where the process may be a copy of this one: it starts in a moment
                instead of importing all anew. Where none can be made it is started as without.

        Raises:
            OSError: There can be no further process.
        """
        self._messages = messages
        self._buffer = bytearray()
        self._process: platforms.Process
        if work is not None and process_copy.can_copy():
            self._process, self.link = process_copy.copied(work)
            return
        self._process, self.link = platforms.started(
            [sys.executable, "-P", "-c", BOOT.format(module=module), json.dumps(sys.path)],
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
            env=environment,
        )

    def give(self, value: bytes) -> None:
        """Hand over a pickled value; where the process is gone, hearing it says so."""
        with contextlib.suppress(OSError):
            self.link.sendall(HEADER.pack(len(value)) + value)

    def hear(self) -> Iterator[Any]:
        """The messages that are complete, where the link is readable.

        Raises:
            ClosedError: No more comes.
            DamagedError: What came is none of the messages.
        """
        try:
            part = self.link.recv(_CHUNK)
        except ConnectionError:  # ended in the middle of it
            part = b""
        if not part:
            raise ClosedError
        self._buffer += part
        while len(self._buffer) >= HEADER.size:
            (length,) = HEADER.unpack_from(self._buffer)
            if length > LONGEST:
                raise DamagedError("a message of impossible length")
            end = HEADER.size + length
            if len(self._buffer) < end:
                return
            data = bytes(self._buffer[HEADER.size : end])
            del self._buffer[:end]
            yield read_message(data, self._messages)

    def has_spoken(self, seconds: float) -> bool:
        """Whether the link is readable, or becomes so within this time."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.link, selectors.EVENT_READ)
            return bool(selector.select(seconds))

    @property
    def memory(self) -> int:
        """Bytes that it takes; 0 where the system does not tell."""
        return platforms.memory_of(self._process.pid)

    def ending(self, seconds: float = _GONE_SECONDS) -> Ending:
        """How it ended, where no more is to be heard; it is stopped if it goes on for so long."""
        self.link.close()
        try:
            return Ending(self._process.wait(seconds))
        except subprocess.TimeoutExpired:
            self.end()
            return Ending(None)

    def ask_to_end(self) -> None:
        """Let it end in its own way, and with it what it started."""
        self.link.close()
        platforms.ask_to_end(self._process)

    def end(self, until: float = 0.0) -> None:
        """End it and whatever it started.

        Args:
            until: Time of ``time.monotonic`` until which it may do so by itself.
        """
        self.link.close()
        if until:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(max(0.0, until - time.monotonic()))
        platforms.end(self._process)


def _has_descriptor(stream: Any) -> bool:
    try:
        return bool(stream.fileno() >= 0)
    except (OSError, ValueError, AttributeError):
        return False


class Parent:
    """The process that started this one, as this one sees it."""

    def __init__(self, word: str) -> None:
        """Open the link.

        Args:
            word: The last of the command line.
        """
        # First: whoever started us may wait for it before telling us anything.
        self._link = platforms.linked(word)
        self._bytes = self._link.makefile("rb")
        # Nothing but the report goes to stdout, whatever a library or a model prints.
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        # Line by line: what ends this process, a crash or its parent, flushes nothing.
        sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]

    def next(self) -> Any:
        """The next value that it hands over.

        Raises:
            EOFError: It is gone, or wants no more.
        """
        header = self._bytes.read(HEADER.size)
        if len(header) < HEADER.size:
            raise EOFError
        (length,) = HEADER.unpack(header)
        return pickle.loads(self._bytes.read(length))  # noqa: S301  (our parent's)

    def tell(self, message: Any) -> None:
        """Send a message of ours."""
        self.send(written_message(message))

    def send(self, data: bytes) -> None:
        """The same for one that is written down already."""
        self._link.sendall(HEADER.pack(len(data)) + data)


def leave() -> None:
    """End this process without the end of the interpreter: a thread could hold that up."""
    sys.stderr.flush()
    os._exit(0)
