"""Models of a file run in a process of their own, with a limit on time and on memory.

What a model does is then one entry of the report, whatever it is: a crash of a native library,
``os._exit``, a forward that never ends, memory that runs out. It is no sandbox: the code runs
with the user's rights. torch is imported there and not here.
"""

import pickle
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

from normcheck import platforms
from normcheck.errors import DamagedError, NormcheckError
from normcheck.live.process.child_messages import MESSAGES, Came, Failed, Finished, Progress
from normcheck.live.process.process_link import Child, ClosedError
from normcheck.live.process.run_outcome import Outcome
from normcheck.live.run_request import Isolation, Running
from normcheck.norms.anatomy import Anatomy
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.limits import Limits

_LOOK_SECONDS = 0.2
_END_SECONDS = 5.0
"""That a process has to end by itself once it closed its link."""


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
                    how.progress(message.what, message.samples, message.coming)
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
    child = Child("normcheck.live.process.child_process", MESSAGES)
    if isolation.memory_bytes and not platforms.watches_memory():
        how.announce("this system does not tell what a process takes: --memory-limit is not held")
    try:
        plain = replace(how.unheard(), isolation=None)
        child.give(pickle.dumps((name, limits, plain, isolation.memory_bytes)))
        yield from _heard(child, isolation)
    finally:
        # Here, too, where the user interrupts: nothing of it goes on.
        child.end()


def _heard(child: Child, isolation: Isolation) -> Iterator[Message]:
    start = time.monotonic()
    while True:
        if child.has_spoken(_LOOK_SECONDS):
            try:
                for message in child.hear():
                    yield message
                    if isinstance(message, Finished | Failed):
                        return
            except ClosedError:
                raise _Ended(*_how_it_ended(child)) from None
        _watch(child, start, isolation)


def _watch(child: Child, start: float, isolation: Isolation) -> None:
    if isolation.seconds and time.monotonic() - start > isolation.seconds:
        raise _Ended(
            f"the run was stopped after {isolation.seconds:,.0f} seconds",
            "a forward may never end; if it is only slow, raise --time-limit (0 for none), or "
            "lower --samples",
        )
    if isolation.memory_bytes and child.memory > isolation.memory_bytes:
        raise _Ended(
            f"the run was stopped when it took more than {isolation.memory_bytes / 1e9:.1f} GB of "
            "memory",
            "lower --batch-size, raise --memory-limit (0 for none), or run it where there is more",
        )


def _how_it_ended(child: Child) -> tuple[str, str]:
    ending = child.ending(_END_SECONDS)
    if ending.code is None:
        return "its process closed the way back and went on", _REPORT
    if ending.killed:
        return (
            "its process was killed (SIGKILL), which is what a system without memory does",
            "lower --batch-size, or run it where there is more memory",
        )
    if ending.crash:
        return f"the model's code crashed its process ({ending.crash})", _REPORT
    return f"the model's code ended its process with exit code {ending.code}", _REPORT
