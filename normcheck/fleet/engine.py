"""Who examines the files: this process, several of them, or a cluster. One order for all."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice

from normcheck.fleet.file_task import FileTask
from normcheck.fleet.fleet_request import Engine, Fleet
from normcheck.formats.targets import Target
from normcheck.pipeline.results import FileResult
from normcheck.platforms import processors
from normcheck.process_copy import can_copy
from normcheck.report.form import Wish

Work = Iterable[Target | FileResult]
"""Files to examine, and results that are there already and keep their place among them."""
_PATIENCE_SECONDS = 0.5
"""After that much work here, further files go to processes of their own. Starting these costs
about as much (0.5 s, side by side): whoever has less to do is done before they are."""
_WORTH_SECONDS = 1.5
"""Less work than that is finished here even so: what two processes would save of it, half of what
is left when they are ready, is less than the processor time that their start takes."""
_COPIED_SECONDS = (0.25, 0.3)
"""Both for processes that are copies of this one, whose start takes some 30 ms, with the memory
that has to be copied. In a quarter of a second all is imported, and the speed of files shows."""
_WORTH_FILES = (4, 512)
"""Files ahead that decide about it, at least and at most."""


def examined(work: Work, task: FileTask, fleet: Fleet) -> Generator[FileResult, None, None]:
    """The result of every file, in the order of the work and as early as that allows.

    Args:
        work: Taken up as there is somebody to do it, never far ahead.
        task: What is done with each file.
        fleet: Who does it, and where results are kept.

    Raises:
        NormcheckError: The processes, the cluster or the cache cannot be had.
    """
    if fleet.cache is not None:
        from normcheck.fleet.result_cache import remembered

        # Lines and models are kept for a run that wants them, whatever this one does.
        kept = replace(task, wishes=task.wishes - {Wish.LINES_ALONE} | {Wish.LINES})

        def uncached(work: Work) -> Generator[FileResult, None, None]:
            return examined(work, kept, replace(fleet, cache=None))

        yield from remembered(work, kept, fleet, uncached)
        return
    count = 0
    with closing(_by_engine(iter(work), task, fleet)) as results:
        for result in results:
            count += result is not None
            fleet.progress(count)
            if result is not None:
                yield result


def _by_engine(
    work: Iterator[Target | FileResult], task: FileTask, fleet: Fleet
) -> Generator[FileResult | None, None, None]:
    """None stands for a moment in which nothing was ready."""
    if fleet.engine is Engine.RAY:
        from normcheck.fleet.ray_cluster import examined_by_ray

        yield from examined_by_ray(work, task, fleet.cluster)
    elif fleet.jobs > 1:
        yield from _in_processes(work, task, fleet.jobs, fleet.copies)
    elif fleet.jobs == 1 or task.examination.running is not None or processors() == 1:
        # Where models run, each file has a process and torch all processors already.
        yield from (_result(item, task) for item in work)
    else:
        yield from _as_it_pays(work, task, fleet.copies)


def _as_it_pays(
    work: Iterator[Target | FileResult], task: FileTask, copies: bool
) -> Generator[FileResult | None, None, None]:
    """Here at first; in several processes once that has proved to be worth their start."""
    quick = copies and can_copy()
    patience, least = _COPIED_SECONDS if quick else (_PATIENCE_SECONDS, _WORTH_SECONDS)
    start, done, taken = time.monotonic(), 0, 0.0
    for item in work:
        yield _result(item, task)
        done, taken = done + 1, time.monotonic() - start
        if taken > patience:
            break
    worth = worth_processes(done, taken, least)
    ahead = list(islice(work, worth))
    if len(ahead) < worth:
        yield from (_result(item, task) for item in ahead)
    else:
        # While others start, there is work to do here; copies are there before one file is done.
        meanwhile = None if quick else task.result_of
        yield from _in_processes(chain(ahead, work), task, processors(), copies, meanwhile)


def worth_processes(done: int, taken: float, least: float) -> int:
    """How many more files are worth processes of their own.

    Args:
        done: Files so far.
        taken: Seconds for these.
        least: Seconds of work that are worth it.
    """
    fewest, most = _WORTH_FILES
    return min(max(fewest, int(least * done / taken)), most) if taken > 0 else fewest


def _in_processes(
    work: Iterator[Target | FileResult],
    task: FileTask,
    jobs: int,
    copies: bool,
    meanwhile: Callable[[Target], FileResult] | None = None,
) -> Generator[FileResult | None, None, None]:
    from normcheck.fleet.local_processes import examined_by_processes

    yield from examined_by_processes(work, task, jobs, meanwhile, copies=copies)


def _result(item: Target | FileResult, task: FileTask) -> FileResult:
    return item if isinstance(item, FileResult) else task.result_of(item)
