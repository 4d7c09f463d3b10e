"""Who examines the files: this process, several of them, or a cluster. One order for all."""

import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice

from normcheck.config.settings import Settings
from normcheck.fleet.file_task import done
from normcheck.fleet.fleet_request import Engine, Fleet, processors
from normcheck.pipeline.results import FileResult
from normcheck.sources.targets import Target

Work = Iterable[Target | FileResult]
"""Files to examine, and results that are there already and keep their place among them."""
_PATIENCE_SECONDS = 0.5
"""After that much work here, further files go to processes of their own. Starting these costs
about as much (0.5 s, side by side): whoever has less to do is done before they are."""
_WORTH_FILES = 4
"""Fewer files than that are finished here even so."""


def examined(work: Work, settings: Settings, fleet: Fleet) -> Generator[FileResult, None, None]:
    """The result of every file, in the order of the work and as early as that allows.

    Args:
        work: Taken up as there is somebody to do it, never far ahead.
        settings: What to check.
        fleet: Who does it, and where results are kept.

    Raises:
        NormcheckError: The processes, the cluster or the cache cannot be had.
    """
    if fleet.cache is not None:
        from normcheck.fleet.result_cache import remembered

        def cached(work: Work) -> Generator[FileResult, None, None]:
            # Lines are kept for a run that wants them, whatever this one does.
            return examined(work, replace(settings, lines=True), replace(fleet, cache=None))

        yield from remembered(work, settings, fleet, cached)
        return
    count = 0
    with closing(_by_engine(iter(work), settings, fleet)) as results:
        for result in results:
            count += result is not None
            fleet.progress(count)
            if result is not None:
                yield result


def _by_engine(
    work: Iterator[Target | FileResult], settings: Settings, fleet: Fleet
) -> Generator[FileResult | None, None, None]:
    """None stands for a moment in which nothing was ready."""
    if fleet.engine is Engine.RAY:
        from normcheck.fleet.ray_cluster import examined_by_ray

        yield from examined_by_ray(work, settings, fleet.cluster)
    elif fleet.jobs > 1:
        yield from _in_processes(work, settings, fleet.jobs)
    elif fleet.jobs == 1 or settings.running is not None or processors() == 1:
        # Where models run, each file has a process and torch all processors already.
        yield from (_done(item, settings) for item in work)
    else:
        yield from _as_it_pays(work, settings)


def _as_it_pays(
    work: Iterator[Target | FileResult], settings: Settings
) -> Generator[FileResult | None, None, None]:
    """Here at first; in several processes once that has proved to be worth their start."""
    start = time.monotonic()
    for item in work:
        yield _done(item, settings)
        if time.monotonic() - start > _PATIENCE_SECONDS:
            break
    ahead = list(islice(work, _WORTH_FILES))
    if len(ahead) < _WORTH_FILES:
        yield from (_done(item, settings) for item in ahead)
    else:
        # While the others start, there is work to do here.
        yield from _in_processes(
            chain(ahead, work), settings, processors(), lambda target: done(target, settings)
        )


def _in_processes(
    work: Iterator[Target | FileResult],
    settings: Settings,
    jobs: int,
    meanwhile: Callable[[Target], FileResult] | None = None,
) -> Generator[FileResult | None, None, None]:
    from normcheck.fleet.local_processes import examined_by_processes

    yield from examined_by_processes(work, settings, jobs, meanwhile)


def _done(item: Target | FileResult, settings: Settings) -> FileResult:
    return item if isinstance(item, FileResult) else done(item, settings)
