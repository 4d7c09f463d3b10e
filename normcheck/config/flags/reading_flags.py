"""What reading a file may take, and who reads many of them."""

from dataclasses import dataclass
from typing import Annotated

from normcheck.config.flags.flag import Flag


@dataclass(frozen=True, slots=True)
class Reading:
    """Bounds of reading one file."""

    limit: Annotated[
        tuple[str, ...],
        Flag(
            "Raise what reading one file may take, as an error names it: memory-bytes=8G.",
            metavar="NAME=N",
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class Remote:
    """Files at addresses."""

    allow_redirects_to: Annotated[
        tuple[str, ...],
        Flag(
            "A host that the server of an address may redirect to, as *.example.com for all "
            "below it.",
            metavar="HOST",
        ),
    ] = ()


@dataclass(frozen=True, slots=True)
class Sharing:
    """Who does the work of a scan of many files, and what is kept of it."""

    jobs: Annotated[
        int | None,
        Flag(
            "Files that are scanned at once, each in a process. Default: one for each "
            "processor, where that is worth it.",
            short="-j",
            metavar="N",
            minimum=1,
        ),
    ] = None
    cache: Annotated[
        str,
        Flag("Keep results there, and do not read again what did not change.", metavar="FILE"),
    ] = ""
    engine: Annotated[
        str, Flag("Who scans: this machine, or a Ray cluster.", choices=("local", "ray"))
    ] = "local"
    ray_address: Annotated[
        str,
        Flag(
            "Cluster to use, as auto or ray://host:10001. Default: one on this machine.",
            metavar="ADDRESS",
        ),
    ] = ""
    cpus_per_task: Annotated[
        float | None, Flag("Of the cluster, a file. Default: 1.", metavar="N", minimum=0)
    ] = None
    gpus_per_task: Annotated[
        float | None, Flag("Of the cluster, a file: for runs. Default: 0.", metavar="N", minimum=0)
    ] = None
