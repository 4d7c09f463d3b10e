"""Models of a file run in a process of their own, with a limit on time and on memory.

What a model does is then one entry of the report, whatever it is: a crash of a native library,
``os._exit``, a forward that never ends, memory that runs out. It is no sandbox: the code runs
with the user's rights. torch is imported there and not here.
"""

import contextlib
import json
import os
import pickle
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from normcheck.errors import NormcheckError
from normcheck.live.process.run_outcome import Outcome
from normcheck.live.process.wire import HEADER, read
from normcheck.live.run_request import Isolation, Running
from normcheck.norms.anatomy import Anatomy
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.limits import Limits

_BOOT = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from normcheck.live.process.child_process import main; main(int(sys.argv[2]))"
)
"""With -P, so that a folder called normcheck where the user stands is not taken for us."""
_LOOK_SECONDS = 0.2
_LONGEST_MESSAGE = 1 << 31
_CHUNK = 1 << 20


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
        for kind, *rest in _messages(checkpoint.name, how, isolation, limits):
            if kind == "progress":
                how.progress(*rest)
            elif kind == "outcome" and len(outcomes) < len(anatomies):
                outcomes.append(_outcome(anatomies[len(outcomes)], *rest))
            elif kind == "failed":
                failure = NormcheckError(*rest)
    except _Ended as end:
        failure = NormcheckError(str(end), end.hint)
    except (pickle.UnpicklingError, TypeError, ValueError, KeyError, EOFError) as error:
        failure = NormcheckError(
            f"what came back from its process makes no sense: {type(error).__name__}",
            "code that the model runs writes where it should not",
        )
    missing = [Outcome(anatomy) for anatomy in anatomies[len(outcomes) :]]
    if missing:
        said = failure or NormcheckError("its process ended without a result", _REPORT)
        missing[0] = replace(missing[0], error=said)
    return outcomes + missing


_REPORT = "run again with --no-isolation to see what happens"


def _outcome(
    known: Anatomy,
    anatomy: Any,
    run: Any,
    note: str,
    error: tuple[str, str] | None,
    outputs: Any,
) -> Outcome:
    failed = NormcheckError(*error) if error else None
    return Outcome(anatomy or known, run, note, failed, outputs)


def _messages(
    name: str, how: Running, isolation: Isolation, limits: Limits
) -> Iterator[tuple[Any, ...]]:
    reader, writer = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603  (ourselves)
            [sys.executable, "-P", "-c", _BOOT, json.dumps(sys.path), str(writer)],
            stdin=subprocess.PIPE,
            stdout=sys.stderr.fileno() if _has_descriptor(sys.stderr) else subprocess.DEVNULL,
            pass_fds=(writer,),
            start_new_session=True,
        )
    finally:
        os.close(writer)
    try:
        plain = replace(how, progress=_nothing, announce=_nothing, isolation=None)
        _hand_over(process, pickle.dumps((name, limits, plain, isolation.memory_bytes)))
        yield from _received(reader, process, isolation)
    finally:
        # Here, too, where the user interrupts: nothing of it goes on.
        _end(process)
        os.close(reader)


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
    with contextlib.suppress(BrokenPipeError):  # it is gone already; the pipe's end says so
        process.stdin.write(request)
        process.stdin.close()


def _received(
    reader: int, process: "subprocess.Popen[bytes]", isolation: Isolation
) -> Iterator[tuple[Any, ...]]:
    start, buffer = time.monotonic(), bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(reader, selectors.EVENT_READ)
        while True:
            if selector.select(_LOOK_SECONDS):
                part = os.read(reader, _CHUNK)
                if not part:
                    raise _Ended(*_how_it_ended(process))
                buffer += part
                for message in _whole(buffer):
                    if message[0] == "done":
                        return
                    yield message
                    if message[0] == "failed":
                        return
            _watch(process, start, isolation)


def _whole(buffer: bytearray) -> Iterator[tuple[Any, ...]]:
    """Takes the messages that are complete from the buffer."""
    while len(buffer) >= HEADER.size:
        (length,) = HEADER.unpack_from(buffer)
        if length > _LONGEST_MESSAGE:
            raise ValueError("a message of impossible length")
        if len(buffer) < HEADER.size + length:
            return
        data = bytes(buffer[HEADER.size : HEADER.size + length])
        del buffer[: HEADER.size + length]
        message = read(data)
        if not isinstance(message, tuple) or not message:
            raise ValueError("a message that is none")
        yield message


def _watch(process: "subprocess.Popen[bytes]", start: float, isolation: Isolation) -> None:
    if isolation.seconds and time.monotonic() - start > isolation.seconds:
        raise _Ended(
            f"the run was stopped after {isolation.seconds:,.0f} seconds",
            "a forward may never end; if it is only slow, raise --time-limit (0 for none), or "
            "lower --samples",
        )
    used = _memory_of(process.pid)
    if isolation.memory_bytes and used > isolation.memory_bytes:
        raise _Ended(
            f"the run was stopped when it took more than {isolation.memory_bytes / 1e9:.1f} GB of "
            "memory",
            "lower --batch-size, raise --memory-limit (0 for none), or run it where there is more",
        )


def _memory_of(pid: int) -> int:
    """Resident bytes of a process; 0 where the system does not tell."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _how_it_ended(process: "subprocess.Popen[bytes]") -> tuple[str, str]:
    try:
        code = process.wait(timeout=5)
    except subprocess.TimeoutExpired:
        return "its process closed the way back and went on", _REPORT
    if code >= 0:
        return f"the model's code ended its process with exit code {code}", _REPORT
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGKILL":
        return (
            "its process was killed (SIGKILL), which is what a system without memory does",
            "lower --batch-size, or run it where there is more memory",
        )
    return f"the model's code crashed its process ({name})", _REPORT


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Stop the process and whatever it started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
