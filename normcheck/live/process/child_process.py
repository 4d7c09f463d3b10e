"""The process in which the models of one file run: see ``isolated_run.py``, which starts it."""

import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from normcheck.errors import NormcheckError
from normcheck.live.process.wire import send


def main(descriptor: int) -> None:
    """Read what to do from stdin, do it, and send what comes of it through ``descriptor``."""
    path, limits, how, most_memory = pickle.load(sys.stdin.buffer)  # noqa: S301  (our parent's)
    # Whatever the model prints is no report: stdout leads where stderr leads.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    _limit_memory(most_memory)
    with os.fdopen(descriptor, "wb") as pipe:
        how = replace(how, progress=lambda what, count: send(pipe, ("progress", what, count)))
        try:
            _run(Path(path), limits, how, pipe)
        except NormcheckError as error:
            send(pipe, ("failed", error.message, error.hint))
        except MemoryError:
            send(pipe, ("failed", "not enough memory to run it", _MORE))
        except (SystemExit, KeyboardInterrupt) as error:
            # What would end the process is the model's doing: ours is ended by a signal.
            why = f"the model's code raised {type(error).__name__}"
            send(pipe, ("failed", why, "it ends the program that runs it; take that out"))
    # Without the end of the interpreter: threads that the model left behind could hold it up.
    sys.stderr.flush()
    os._exit(0)


_MORE = "raise --memory-limit, or run it where there is more"


def _run(path: Path, limits: object, how: object, pipe: BinaryIO) -> None:
    from normcheck.formats.read_checkpoint import read_checkpoint
    from normcheck.live.process.run_saved import run_saved
    from normcheck.norms.find_norms import anatomy_of

    checkpoint = read_checkpoint(path, limits)  # type: ignore[arg-type]  # as the parent sent it
    anatomies = [anatomy_of(model, judge_links=False) for model in checkpoint.models]
    outcomes = run_saved(checkpoint, anatomies, how)  # type: ignore[arg-type]  # as above
    for outcome, known in zip(outcomes, anatomies, strict=True):
        # The parent has what the file says; only a live model's anatomy is news.
        anatomy = None if outcome.anatomy is known else outcome.anatomy
        error = outcome.error and (outcome.error.message, outcome.error.hint)
        send(pipe, ("outcome", anatomy, outcome.run, outcome.note, error, outcome.outputs))
    send(pipe, ("done",))


def _limit_memory(most: int) -> None:
    if not most:
        return
    import resource

    # Behind the parent's watch, for what takes memory faster than that looks.
    most += most // 4
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard == resource.RLIM_INFINITY or most < hard:
        resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
