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
from normcheck.report.form import Wish

Work = Iterable[Target | FileResult]
"""Files to examine, and results that are there already and keep their place among them."""
_PATIENCE_SECONDS = 0.5
"""After that much work here, further files go to processes of their own. Starting these costs
about as much (0.5 s, side by side): whoever has less to do is done before they are."""
_WORTH_FILES = 4
"""Fewer files than that are finished here even so."""


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

        # Lines are kept for a run that wants them, whatever this one does.
        kept = replace(task, wishes=task.wishes | {Wish.LINES})

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
        yield from _in_processes(work, task, fleet.jobs)
    elif fleet.jobs == 1 or task.examination.running is not None or processors() == 1:
        # Where models run, each file has a process and torch all processors already.
        yield from (_result(item, task) for item in work)
    else:
        yield from _as_it_pays(work, task)


def _as_it_pays(
    work: Iterator[Target | FileResult], task: FileTask
) -> Generator[FileResult | None, None, None]:
    """Here at first; in several processes once that has proved to be worth their start."""
    start = time.monotonic()
    for item in work:
        yield _result(item, task)
        if time.monotonic() - start > _PATIENCE_SECONDS:
            break
    ahead = list(islice(work, _WORTH_FILES))
    if len(ahead) < _WORTH_FILES:
        yield from (_result(item, task) for item in ahead)
    else:
        # While the others start, there is work to do here.
        yield from _in_processes(chain(ahead, work), task, processors(), task.result_of)


def _in_processes(
    work: Iterator[Target | FileResult],
    task: FileTask,
    jobs: int,
    meanwhile: Callable[[Target], FileResult] | None = None,
) -> Generator[FileResult | None, None, None]:
    from normcheck.fleet.local_processes import examined_by_processes

    yield from examined_by_processes(work, task, jobs, meanwhile)


def _result(item: Target | FileResult, task: FileTask) -> FileResult:
    return item if isinstance(item, FileResult) else task.result_of(item)
