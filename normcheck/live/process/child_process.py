"""The process in which the models of one file run: see ``isolated_run.py``, which starts it."""

import os
import pickle
import sys
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from normcheck.errors import NormcheckError
from normcheck.live.process.child_messages import Came, Failed, Finished, Progress
from normcheck.live.process.wire import send
from normcheck.platforms import limit_memory, linked


def main(link: str) -> None:
    """Read what to do from stdin, do it, and send what comes of it through the link."""
    way = linked(link)  # first: whoever started us may wait for it before telling us anything
    path, limits, how, most_memory = pickle.load(sys.stdin.buffer)  # noqa: S301  (our parent's)
    # Whatever the model prints is no report: stdout leads where stderr leads.
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
    if most_memory:
        # Behind the parent's watch, for what takes memory faster than that looks.
        limit_memory(most_memory + most_memory // 4)
    with way, way.makefile("wb") as pipe:
        how = replace(how, progress=lambda what, count: send(pipe, Progress(what, count)))
        try:
            _run(Path(path), limits, how, pipe)
        except NormcheckError as error:
            send(pipe, Failed(error.message, error.hint))
        except MemoryError:
            send(pipe, Failed("not enough memory to run it", _MORE))
        except (SystemExit, KeyboardInterrupt) as error:
            # What would end the process is the model's doing: ours is ended by a signal.
            why = f"the model's code raised {type(error).__name__}"
            send(pipe, Failed(why, "it ends the program that runs it; take that out"))
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
        failed = outcome.error
        error = (failed.message, failed.hint) if failed else None
        send(pipe, Came(anatomy, outcome.run, outcome.note, error, outcome.outputs))
    send(pipe, Finished())
