"""A process that examines files for another one: see ``local_processes.py``, which starts it."""

import contextlib
import os
import pickle
import signal
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from normcheck.live.process.wire import LONGEST, written_message
from normcheck.platforms import linked

_TOO_LONG = "its result is too long for another process"
_ALONE = "scan it alone, with --jobs 1"


def main(link: str) -> None:
    """Take files from the other end of a socket and send back what comes of each."""
    # Whoever started us decides when to stop, by closing the socket or by a signal. Then the
    # process that runs a model must end with us, so the signal becomes an exception.
    signal.signal(signal.SIGTERM, _stop)
    # Nothing but the report goes to stdout, whatever a library prints.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    way = Connection(linked(link).detach())
    # When the other end is gone, nobody waits for anything any more.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(way)
    # Without the end of the interpreter: a thread that a model left could hold it up.
    os._exit(0)


def _serve(link: Connection) -> None:
    task = pickle.loads(link.recv_bytes())  # noqa: S301  (our parent's)
    from normcheck.fleet.worker_messages import Announcement, Progress, Ready, Result
    from normcheck.pipeline.results import lost, packed

    def tell(message: Any) -> None:
        data = written_message(message)
        if len(data) > LONGEST:
            data = written_message(Result(lost(message.result.target, _TOO_LONG, _ALONE)))
        link.send_bytes(data)

    running = task.examination.running
    if running is not None:
        heard = replace(
            running,
            progress=lambda what, count: tell(Progress(what, count)),
            announce=lambda text: tell(Announcement(text)),
        )
        task = replace(task, examination=replace(task.examination, running=heard))
    tell(Ready())
    while True:
        target = pickle.loads(link.recv_bytes())  # noqa: S301  (our parent's)
        tell(Result(packed(task.result_of(target))))


def _stop(_signal: int, _frame: object) -> None:
    raise SystemExit
