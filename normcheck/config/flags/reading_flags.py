"""What reading a file may take, and what shares the reading of many."""

from typing import Annotated

from normcheck.config.flags.flag import Flag
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class ReadingFlags:
    """Bounds of reading one file."""

    limit: Annotated[
        tuple[str, ...],
        Flag(
            "Raise a limit on reading one file, by the name in the error: memory-bytes=8G.",
            metavar="NAME=N",
        ),
    ] = ()


@lazy_dataclass()
class Remote:
    """Files at addresses."""

    allow_redirects_to: Annotated[
        tuple[str, ...],
        Flag(
            "Host that web addresses may redirect to; *.example.com for all subdomains.",
            metavar="HOST",
        ),
    ] = ()


@lazy_dataclass()
class Sharing:
    """Who does the work of a scan of many files, and what is kept of it."""

    jobs: Annotated[
        int | None,
        Flag(
            "Files to scan at a time, each in its own process. Default: one per processor if "
            "that is worthwhile.",
            short="-j",
            metavar="N",
            minimum=1,
        ),
    ] = None
    cache: Annotated[
        str,
        Flag("Keep results in this file, and do not read unchanged files again.", metavar="FILE"),
    ] = ""
    engine: Annotated[
        str, Flag("Where to scan: on this machine or on a Ray cluster.", choices=("local", "ray"))
    ] = "local"
    ray_address: Annotated[
        str,
        Flag(
            "Ray cluster to use: auto, or ray://host:10001. Default: start one on this machine.",
            metavar="ADDRESS",
        ),
    ] = ""
    cpus_per_task: Annotated[
        float | None,
        Flag("CPUs that each file takes of the cluster. Default: 1.", metavar="N", minimum=0),
    ] = None
    gpus_per_task: Annotated[
        float | None,
        Flag(
            "GPUs that each file takes of the cluster, for runs. Default: 0.",
            metavar="N",
            minimum=0,
        ),
    ] = None
