"""A process that examines files for another one: see ``local_processes.py``, which starts it."""

import contextlib
import signal
from dataclasses import replace
from typing import Any

from normcheck.live.process.process_link import Parent, leave
from normcheck.live.process.wire import LONGEST, written_message

_TOO_LONG = "its result is too long for another process"
_ALONE = "scan it alone, with --jobs 1"


def main(word: str) -> None:
    """Take files from the process that started us, and tell it what comes of each."""
    # What we started in turn must end with us, so the signal becomes an exception.
    signal.signal(signal.SIGTERM, _stop)
    parent = Parent(word)
    # When it is gone, nobody waits for anything any more.
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        _serve(parent)
    leave()


def _serve(parent: Parent) -> None:
    task = parent.next()
    from normcheck.cycles import look_rarely
    from normcheck.fleet.worker_messages import Announcement, Ready, Result
    from normcheck.live.process.child_messages import Progress
    from normcheck.pipeline.results import lost, packed

    def tell(message: Any, text: str = "") -> None:
        data = written_message(message, text)
        if len(data) > LONGEST:
            data = written_message(Result(lost(message.result.target, _TOO_LONG, _ALONE)))
        parent.send(data)

    running = task.examination.running
    if running is not None:
        heard = replace(
            running,
            progress=lambda *step: tell(Progress(*step)),
            announce=lambda text: tell(Announcement(text)),
        )
        task = replace(task, examination=replace(task.examination, running=heard))
    else:
        look_rarely()  # models that run may hold memory in cycles
    tell(Ready())
    while True:
        target = parent.next()
        result = packed(task.result_of(target))
        tell(Result(replace(result, line="")), result.line)


def _stop(_signal: int, _frame: object) -> None:
    raise SystemExit
