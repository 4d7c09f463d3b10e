"""The process in which the models of one file run: see ``isolated_run.py``, which starts it."""

from dataclasses import replace
from pathlib import Path

from normcheck.errors import NormcheckError
from normcheck.live.process.child_messages import Came, Failed, Finished, Progress
from normcheck.live.process.process_link import Parent, leave
from normcheck.platforms import limit_memory


def main(word: str) -> None:
    """Take one request from the process that started us, and tell it what comes of it."""
    parent = Parent(word)
    try:
        path, limits, how, most_memory = parent.next()
        if most_memory:
            # Behind the parent's watch, for what takes memory faster than that looks.
            limit_memory(most_memory + most_memory // 4)
        how = replace(how, progress=lambda *step: parent.tell(Progress(*step)))
        _run(Path(path), limits, how, parent)
    except NormcheckError as error:
        parent.tell(Failed(error.message, error.hint))
    except MemoryError:
        parent.tell(Failed("not enough memory to run it", _MORE))
    except (SystemExit, KeyboardInterrupt) as error:
        # What would end the process is the model's doing: ours is ended by a signal.
        why = f"the model's code raised {type(error).__name__}"
        parent.tell(Failed(why, "it ends the program that runs it; take that out"))
    leave()


_MORE = "raise --memory-limit, or run it where there is more"


def _run(path: Path, limits: object, how: object, parent: Parent) -> None:
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
        parent.tell(Came(anatomy, outcome.run, outcome.note, error, outcome.outputs))
    parent.tell(Finished())
