"""Flags for scans of many files: who does the work, and what is kept of it."""

from enum import StrEnum
from typing import Annotated

import typer


class EngineName(StrEnum):
    """Who does the work."""

    LOCAL = "local"
    RAY = "ray"


Jobs = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        metavar="N",
        help="Files that are scanned at once, each in a process. Default: one for each "
        "processor, where that is worth it.",
        min=1,
    ),
]
CacheFile = Annotated[
    str,
    typer.Option(
        "--cache",
        metavar="FILE",
        help="Keep results there, and do not read again what did not change.",
    ),
]
EngineFlag = Annotated[
    EngineName, typer.Option("--engine", help="Who scans: this machine, or a Ray cluster.")
]
RayAddress = Annotated[
    str,
    typer.Option(
        "--ray-address",
        metavar="ADDRESS",
        help="Cluster to use, as auto or ray://host:10001. Default: one on this machine.",
    ),
]
CpusPerTask = Annotated[
    float | None,
    typer.Option("--cpus-per-task", metavar="N", help="Of the cluster, a file. Default: 1.", min=0),
]
GpusPerTask = Annotated[
    float | None,
    typer.Option(
        "--gpus-per-task", metavar="N", help="Of the cluster, a file: for runs. Default: 0.", min=0
    ),
]
