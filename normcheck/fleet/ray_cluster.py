"""Files examined by tasks of a Ray cluster: Ray places them, retries them and counts them.

Each task is one file, by the same function as here; what comes back goes into the same order.
So the report does not depend on who did the work.
"""

import contextlib
import os
import pickle
import socket
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

from normcheck.errors import DamagedError, NormcheckError, UsageError
from normcheck.fleet.file_task import FileTask
from normcheck.fleet.fleet_request import Cluster
from normcheck.fleet.result_order import InOrder
from normcheck.formats.targets import Target
from normcheck.live.process.wire import read, written
from normcheck.live.run_request import Running
from normcheck.pipeline.results import FileResult, lost
from normcheck.platforms import processors
from normcheck.version import VERSION

AHEAD = 1024
"""Files that may be done before an earlier one is."""
_TASKS_PER_SLOT = 2
"""Tasks handed over for each that can run at once: the cluster need not wait for us, and does
not hold more than that."""
_RETRIES = 1
"""Of a task whose process or machine died: a machine may go at any time, and a file that kills
its reader does so the second time, too."""
_LOOK_SECONDS = 0.5
_REACH_SECONDS = 5.0


def examined_by_ray(
    work: Iterator[Target | FileResult], task: FileTask, cluster: Cluster
) -> Generator[FileResult | None, None, None]:
    """As ``fleet.engine.examined``, by tasks of a Ray cluster.

    Every machine of the cluster needs this version of normcheck, and the files under the names
    that they have here.

    Args:
        work: Files, handed over as the cluster has room for them.
        task: What is done with each file.
        cluster: Which one, and what a file takes of it.

    Yields:
        Results in the order of the work, and None now and then while none is ready.

    Raises:
        UsageError: Ray is not installed, or the cluster cannot give what a file needs.
        NormcheckError: There is no cluster at the address.
    """
    ray = _ray()
    ours = not ray.is_initialized()
    if ours:
        _connect(ray, cluster)
    try:
        yield from _results(ray, work, task, cluster)
    finally:
        if ours:
            ray.shutdown()


def _ray() -> Any:
    # Set before Ray is imported, which reads them then: it reports how it is used to its
    # makers, warns of what it will do to accelerators that nobody asked for, and puts its own
    # print in the place of Python's.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_TQDM_PATCH_PRINT", "0")
    try:
        import ray
    except ImportError as error:
        raise UsageError(
            "--engine ray needs Ray, which is not installed", "pip install 'normcheck[ray]'"
        ) from error
    return ray


def _connect(ray: Any, cluster: Cluster) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if cluster.address:
            _reach(cluster.address)
            ray.init(address=cluster.address, **quiet)
        else:
            # "local" starts one even where the environment names another.
            ray.init(
                address="local",
                include_dashboard=False,
                num_cpus=max(processors(), int(-(-cluster.cpus // 1))),
                **quiet,
            )
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        where = f"at {cluster.address}" if cluster.address else "on this machine"
        raise NormcheckError(
            f"there is no Ray cluster {where}: {str(error).splitlines()[0]:.200}",
            "start one with: ray start --head; or leave --ray-address out",
        ) from error


def _reach(address: str) -> None:
    """See that something listens there: Ray itself would try for minutes.

    Raises:
        OSError: Nothing does.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()


def _slots(ray: Any, cluster: Cluster) -> int:
    """How many files the cluster can examine at once.

    Raises:
        UsageError: Not even one.
    """
    has = ray.cluster_resources()
    counts = []
    for flag, resource, each in (
        ("--cpus-per-task", "CPU", cluster.cpus),
        ("--gpus-per-task", "GPU", cluster.gpus),
    ):
        if each > has.get(resource, 0.0):
            # Ray itself would wait for a machine to join, for ever.
            raise UsageError(
                f"{flag} {each:g}: the cluster has {has.get(resource, 0.0):g} in all",
                "ask for less, or add a machine that has them",
            )
        if each:
            counts.append(int(has[resource] / each))
    return max(1, min(counts, default=processors()))


def _results(
    ray: Any, work: Iterator[Target | FileResult], task: FileTask, cluster: Cluster
) -> Generator[FileResult | None, None, None]:
    most = _TASKS_PER_SLOT * _slots(ray, cluster)
    remote = ray.remote(_examined).options(
        num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=_RETRIES
    )
    shared = ray.put(task.sent())
    here = (str(Path.cwd()), list(sys.path))
    order = InOrder[FileResult](AHEAD)
    running: dict[Any, tuple[int, Target]] = {}
    exhausted = False
    while True:
        while not exhausted and order.open and len(running) < most:
            item = next(work, None)
            if item is None:
                exhausted = True
                break
            place = order.enter()
            if isinstance(item, FileResult):
                order.put(place, item)
            else:
                running[remote.remote(item, shared, *here)] = (place, item)
        yield from order.due()
        if exhausted and not order.waiting:
            return
        yield None
        if not running:
            continue  # all that came was known already: nobody is to be waited for
        done, _ = ray.wait(list(running), num_returns=1, timeout=_LOOK_SECONDS)
        for reference in done:
            place, target = running.pop(reference)
            order.put(place, _fetched(ray, reference, target, task.examination.running))


def _fetched(ray: Any, reference: Any, target: Target, running: Running | None) -> FileResult:
    """What a task made of its file, or what became of the task.

    Raises:
        NormcheckError: It ran another version of normcheck.
    """
    name = str(target.path)
    try:
        version, told, data = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        cause = error.cause
        return lost(
            name,
            f"its task failed: {type(cause).__name__}: {cause}"[:500],
            "see that every machine of the cluster has this normcheck and what it needs",
        )
    except ray.exceptions.OutOfMemoryError:
        return lost(
            name,
            "its task was ended by Ray: its machine ran out of memory",
            "raise --cpus-per-task, so that fewer files share a machine",
        )
    except ray.exceptions.RayError as error:
        return lost(
            name,
            f"the process that scanned it died, each of {1 + _RETRIES} times "
            f"({type(error).__name__})",
            "scan the file alone, with --jobs 1, to see what happens",
        )
    if version != VERSION:
        raise NormcheckError(
            f"the cluster has normcheck {version}, this is {VERSION}",
            "install the same version on every machine",
        )
    if running is not None:
        for text in told:
            running.announce(text)
    try:
        result = read(data, FileResult)
    except DamagedError as error:
        return lost(name, f"what its task sent back makes no sense: {error}", "try again")
    if result.target != name:
        return lost(name, "what its task sent back is of another file", "try again")
    return result


def _examined(
    target: Target, asked: bytes, folder: str, path: list[str]
) -> tuple[str, list[str], bytes]:
    """The task: one file, in the caller's folder and with the caller's modules.

    Returns:
        The version of normcheck, what a user is to be told, and the result.
    """
    from dataclasses import replace

    from normcheck.pipeline.results import packed

    with contextlib.suppress(OSError):  # absolute names work all the same
        os.chdir(folder)
    sys.path += [entry for entry in path if entry not in sys.path]
    task: FileTask = pickle.loads(asked)  # noqa: S301  (who asked may run tasks here)
    told: list[str] = []
    running = task.examination.running
    if running is not None:
        heard = replace(running, announce=told.append)
        task = replace(task, examination=replace(task.examination, running=heard))
    return VERSION, told, written(packed(task.result_of(target)))
