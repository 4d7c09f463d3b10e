"""Files examined side by side in processes of this machine, which may die one by one.

``concurrent.futures`` gives up a whole pool when one of its processes dies. Here that costs
the file that the process was at: it becomes an error of the report, whatever else waited for
the process is given to another, and a new one takes its place.
"""

import os
import pickle
import selectors
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import field

from normcheck.errors import DamagedError, NormcheckError
from normcheck.fleet import worker_process
from normcheck.fleet.file_task import FileTask
from normcheck.fleet.result_order import InOrder
from normcheck.fleet.worker_messages import MESSAGES, Announcement, Ready, Result
from normcheck.formats.targets import Target
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.process.child_messages import Progress
from normcheck.live.process.process_link import Child, ClosedError, Ending
from normcheck.pipeline.results import FileResult, lost

AHEAD = 256
"""Files that may be done before an earlier one is: beyond it one slow file holds up the rest,
and memory stays bounded."""
_QUEUE = 2
"""Files that a process has at most: one at work, and one so that it need not wait for us."""
_STARTS = 3
"""Processes that may die one after the other before any of them could begin."""
_LOOK_SECONDS = 0.2
_STOP_SECONDS = 2.0


def examined_by_processes(
    work: Iterator[Target | FileResult],
    task: FileTask,
    jobs: int,
    meanwhile: Callable[[Target], FileResult] | None = None,
    *,
    copies: bool = False,
) -> Generator[FileResult | None, None, None]:
    """As ``fleet.engine.examined``, in ``jobs`` processes.

    Args:
        work: Files, and results that are there already.
        task: What is done with each file.
        jobs: Number of processes.
        meanwhile: Examines files in this process until the first of the others is ready.
        copies: Whether they may be copies of this one.

    Yields:
        Results in the order of the work, and None now and then while none is ready.

    Raises:
        NormcheckError: No process can be started.
    """
    pool = _Pool(work, task, jobs, meanwhile, copies=copies)
    try:
        yield from pool.results()
    finally:
        # Here, too, where the user interrupts: nothing of it goes on.
        pool.stop()


@lazy_dataclass(frozen=False, eq=False)
class _Worker:
    """One process and the files that it was given, in the order in which it takes them."""

    process: Child
    files: deque[tuple[int, Target]] = field(default_factory=deque)
    ready: bool = False


class _Pool:
    def __init__(
        self,
        work: Iterator[Target | FileResult],
        task: FileTask,
        jobs: int,
        meanwhile: Callable[[Target], FileResult] | None,
        *,
        copies: bool,
    ) -> None:
        self._work = work
        self._meanwhile = meanwhile
        self._running = task.examination.running
        # What runs models takes the variables that are given to it, and starts threads.
        self._copies = copies and self._running is None
        self._request = task.sent()
        self._environment = _environment(task)
        self._jobs = jobs
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._again: deque[tuple[int, Target]] = deque()
        self._order = InOrder[FileResult](AHEAD)
        self._exhausted = False
        self._failed_starts = 0

    def results(self) -> Generator[FileResult | None, None, None]:
        while True:
            self._hand_out()
            yield from self._order.due()
            if self._exhausted and not self._order.waiting:
                return
            yield None
            if not any(worker.files for worker in self._workers):
                continue  # all that came was known already: nobody is to be waited for
            for key, _ in self._selector.select(0 if self._did_one() else _LOOK_SECONDS):
                self._listen(key.data)

    def _did_one(self) -> bool:
        """Do a file here, as long as nobody else can."""
        if self._meanwhile is None or any(worker.ready for worker in self._workers):
            self._meanwhile = None
            return False
        place = self._next()
        if place is None:
            return False
        self._order.put(place[0], self._meanwhile(place[1]))
        return True

    def _hand_out(self) -> None:
        """Give every process its share of what is next, and start processes for it."""
        while self._room():
            place = self._next()
            if place is None:
                return
            worker = self._freest()
            worker.files.append(place)
            worker.process.give(pickle.dumps(place[1]))

    def _room(self) -> bool:
        fewer = len(self._workers) < self._jobs
        return fewer or any(len(worker.files) < _QUEUE for worker in self._workers)

    def _freest(self) -> _Worker:
        """The process with the least to do, or a new one while all are busy."""
        least = min(self._workers, key=lambda worker: len(worker.files), default=None)
        if least is None or (least.files and len(self._workers) < self._jobs):
            least = self._started()
            self._workers.append(least)
        return least

    def _next(self) -> tuple[int, Target] | None:
        if self._again:
            return self._again.popleft()
        while self._order.open:
            item = next(self._work, None)
            if item is None:
                self._exhausted = True
                return None
            number = self._order.enter()
            if not isinstance(item, FileResult):
                return number, item
            self._order.put(number, item)
        return None

    def _started(self) -> _Worker:
        work = worker_process.main if self._copies else None
        worker = _Worker(Child(worker_process.__name__, MESSAGES, self._environment, work))
        self._selector.register(worker.process.link, selectors.EVENT_READ, worker)
        worker.process.give(self._request)
        return worker

    def _listen(self, worker: _Worker) -> None:
        try:
            for message in worker.process.hear():
                if not self._takes(worker, message):
                    self._bury(worker)
                    return
        except (ClosedError, OSError, DamagedError):
            # The end of the process, or bytes of its own that make no sense.
            self._bury(worker)

    def _takes(self, worker: _Worker, message: object) -> bool:
        """Do what a message asks; False where it makes no sense."""
        match message:
            case Ready():
                worker.ready, self._failed_starts = True, 0
            case Result(result) if worker.files and result.target == str(worker.files[0][1].path):
                number, _ = worker.files.popleft()
                self._order.put(number, result)
            case Progress() if self._running:
                self._running.progress(message.what, message.samples, message.coming)
            case Announcement() if self._running:
                self._running.announce(message.text)
            case _:
                return False
        return True

    def _bury(self, worker: _Worker) -> None:
        """Take a dead process out: its first file is lost with it, the others wait again."""
        self._workers.remove(worker)
        self._selector.unregister(worker.process.link)
        ending = worker.process.ending()
        worker.process.end()
        if not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= _STARTS:
                raise NormcheckError(
                    f"processes for --jobs cannot be started: they {_how(ending)}",
                    "use --jobs 1 to read everything in this process",
                )
        elif worker.files:
            number, target = worker.files.popleft()
            why = f"the process that scanned it {_how(ending)}"
            self._order.put(number, lost(str(target.path), why, _hint(ending)))
        self._again.extendleft(reversed(worker.files))

    def stop(self) -> None:
        """End all processes, those that they started included."""
        self._selector.close()
        for worker in self._workers:
            worker.process.ask_to_end()
        until = time.monotonic() + _STOP_SECONDS
        for worker in self._workers:
            worker.process.end(until)
        self._workers.clear()


def _environment(task: FileTask) -> dict[str, str]:
    environment = {**os.environ}
    # The products of a scan are small; threads for them would only be in each other's way.
    environment.setdefault("OPENBLAS_NUM_THREADS", "1")
    if task.examination.running is not None:
        # Models that run side by side share the processors: waiting threads must not spin.
        environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return environment


def _how(ending: Ending) -> str:
    if ending.code is None:
        return "had to be stopped"
    return f"was ended by {ending.crash}" if ending.crash else f"ended with exit code {ending.code}"


def _hint(ending: Ending) -> str:
    if ending.killed:
        return (
            "a system without memory does that: scan the file alone, with fewer --jobs, or "
            "where there is more memory"
        )
    return "scan the file alone, with --jobs 1, to see what happens"
