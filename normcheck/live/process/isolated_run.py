"""Models of a file run in a process of their own, with a limit on time and on memory.

What a model does is then one entry of the report, whatever it is: a crash of a native library,
``os._exit``, a forward that never ends, memory that runs out. It is no sandbox: the code runs
with the user's rights. torch is imported there and not here.
"""

import contextlib
import json
import pickle
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from normcheck import platforms
from normcheck.errors import NormcheckError
from normcheck.live.process.child_messages import MESSAGES, Came, Failed, Finished, Progress
from normcheck.live.process.run_outcome import Outcome
from normcheck.live.process.wire import HEADER, LONGEST, DamagedError, read_message
from normcheck.live.run_request import Isolation, Running
from normcheck.norms.anatomy import Anatomy
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.limits import Limits

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from normcheck.live.process.child_process import main; main(sys.argv[2])"
)
"""With -P, so that a folder called normcheck where the user stands is not taken for us."""
_LOOK_SECONDS = 0.2
_CHUNK = 1 << 20


Message = Progress | Failed | Came | Finished


class _Ended(Exception):  # noqa: N818  (an outcome, not an error)
    """The process is gone, or had to be stopped; says why and what to do."""

    def __init__(self, why: str, hint: str) -> None:
        super().__init__(why)
        self.hint = hint


def run_isolated(
    checkpoint: Checkpoint,
    anatomies: Sequence[Anatomy],
    how: Running,
    isolation: Isolation,
    limits: Limits,
) -> list[Outcome]:
    """As ``run_saved``, in a process of its own.

    Args:
        checkpoint: The file; it is read again there.
        anatomies: Of its models, as the file tells them.
        how: As the user wants it; data are named, not handed over.
        isolation: How long and how large the process may become.
        limits: For reading the file.
    """
    outcomes: list[Outcome] = []
    failure: NormcheckError | None = None
    try:
        for message in _messages(checkpoint.name, how, isolation, limits):
            match message:
                case Progress():
                    how.progress(message.what, message.samples)
                case Came() if len(outcomes) < len(anatomies):
                    outcomes.append(_outcome(anatomies[len(outcomes)], message))
                case Failed():
                    failure = NormcheckError(message.message, message.hint)
    except _Ended as end:
        failure = NormcheckError(str(end), end.hint)
    except DamagedError as error:
        failure = NormcheckError(
            f"what came back from its process makes no sense: {error}",
            "code that the model runs writes where it should not",
        )
    missing = [Outcome(anatomy) for anatomy in anatomies[len(outcomes) :]]
    if missing:
        said = failure or NormcheckError("its process ended without a result", _REPORT)
        missing[0] = replace(missing[0], error=said)
    return outcomes + missing


_REPORT = "run again with --no-isolation to see what happens"


def _outcome(known: Anatomy, came: Came) -> Outcome:
    failed = NormcheckError(*came.error) if came.error else None
    return Outcome(came.anatomy or known, came.run, came.note, failed, came.outputs)


def _messages(name: str, how: Running, isolation: Isolation, limits: Limits) -> Iterator[Message]:
    process, link = platforms.started(
        [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path)],
        stdin=subprocess.PIPE,
        stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
    )
    if isolation.memory_bytes and not platforms.watches_memory():
        how.announce("this system does not tell what a process takes: --memory-limit is not held")
    try:
        plain = replace(how, progress=_nothing, announce=_nothing, isolation=None)
        _hand_over(process, pickle.dumps((name, limits, plain, isolation.memory_bytes)))
        yield from _received(link, process, isolation)
    finally:
        # Here, too, where the user interrupts: nothing of it goes on.
        _end(process)
        link.close()


def _nothing(*_args: object) -> None:
    pass


def _has_descriptor(stream: Any) -> bool:
    try:
        return bool(stream.fileno() >= 0)
    except (OSError, ValueError, AttributeError):
        return False


def _hand_over(process: "subprocess.Popen[bytes]", request: bytes) -> None:
    if process.stdin is None:  # it was asked for
        return
    with contextlib.suppress(OSError):  # it is gone already; the link's end says so
        process.stdin.write(request)
        process.stdin.close()


def _received(
    link: socket.socket, process: "subprocess.Popen[bytes]", isolation: Isolation
) -> Iterator[Message]:
    start, buffer = time.monotonic(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(link, selectors.EVENT_READ)
        while True:
            if selector.select(_LOOK_SECONDS):
                part = _part(link)
                if not part:
                    raise _Ended(*_how_it_ended(process))
                buffer += part
                for message in _whole(buffer):
                    yield message
                    if isinstance(message, Finished | Failed):
                        return
            _watch(process, start, isolation)


def _part(link: socket.socket) -> bytes:
    try:
        return link.recv(_CHUNK)
    except ConnectionError:  # ended in the middle of it
        return b""


def _whole(buffer: bytearray) -> Iterator[Message]:
    """Takes the messages that are complete from the buffer."""
    while len(buffer) >= HEADER.size:
        (length,) = HEADER.unpack_from(buffer)
        if length > LONGEST:
            raise DamagedError("a message of impossible length")
        if len(buffer) < HEADER.size + length:
            return
        data = bytes(buffer[HEADER.size : HEADER.size + length])
        del buffer[: HEADER.size + length]
        yield read_message(data, MESSAGES)


def _watch(process: "subprocess.Popen[bytes]", start: float, isolation: Isolation) -> None:
    if isolation.seconds and time.monotonic() - start > isolation.seconds:
        raise _Ended(
            f"the run was stopped after {isolation.seconds:,.0f} seconds",
            "a forward may never end; if it is only slow, raise --time-limit (0 for none), or "
            "lower --samples",
        )
    if isolation.memory_bytes and platforms.memory_of(process.pid) > isolation.memory_bytes:
        raise _Ended(
            f"the run was stopped when it took more than {isolation.memory_bytes / 1e9:.1f} GB of "
            "memory",
            "lower --batch-size, raise --memory-limit (0 for none), or run it where there is more",
        )


def _how_it_ended(process: "subprocess.Popen[bytes]") -> tuple[str, str]:
    try:
        code = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "its process closed the way back and went on", _REPORT
    name = platforms.ended_by(code)
    if not name:
        return f"the model's code ended its process with exit code {code}", _REPORT
    if name == "SIGKILL":
        return (
            "its process was killed (SIGKILL), which is what a system without memory does",
            "lower --batch-size, or run it where there is more memory",
        )
    return f"the model's code crashed its process ({name})", _REPORT


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop the process and whatever it started."""
    platforms.end(process)
    if process.stdin is not None:
        with contextlib.suppress(OSError):  # of what it did not read
            process.stdin.close()
