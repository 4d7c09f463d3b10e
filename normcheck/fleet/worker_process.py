"""A process that examines files for another one: see ``local_processes.py``, which starts it."""

import contextlib
import os
import pickle
import signal
import sys
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from normcheck.live.process.wire import written


def main(descriptor: int) -> None:
    """Take files from the other end of a socket and send back what comes of each."""
    # Whoever started us decides when to stop, by closing the socket or by a signal. Then the
    # process that runs a model must end with us, so the signal becomes an exception.
    signal.signal(signal.SIGTERM, _stop)
    # Nothing but the report goes to stdout, whatever a library prints.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    link = Connection(descriptor)
    # When the other end is gone, nobody waits for anything any more.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(link)
    # Without the end of the interpreter: a thread that a model left could hold it up.
    os._exit(0)


def _serve(link: Connection) -> None:
    settings = pickle.loads(link.recv_bytes())  # noqa: S301  (our parent's)
    from normcheck.fleet.file_task import done
    from normcheck.pipeline.results import packed

    def tell(*message: Any) -> None:
        link.send_bytes(written(message))

    if settings.running is not None:
        running = replace(
            settings.running,
            progress=lambda what, count: tell("progress", what, count),
            announce=lambda text: tell("announce", text),
        )
        settings = replace(settings, running=running)
    tell("ready")
    while True:
        target = pickle.loads(link.recv_bytes())  # noqa: S301  (our parent's)
        tell("result", packed(done(target, settings)))


def _stop(_signal: int, _frame: object) -> None:
    raise SystemExit
