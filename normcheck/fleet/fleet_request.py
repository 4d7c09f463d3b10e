"""What a user asks of a scan of many files: where the work is done, what is kept of it."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

Progress = Callable[[int], None]
"""Called with the number of files that are done, also while that stands still."""


class Engine(StrEnum):
    """Who does the work."""

    LOCAL = "local"
    RAY = "ray"


def _silent(_done: int) -> None:
    pass


def _unsaid(_text: str) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Cluster:
    """A Ray cluster, and what a file may take of it."""

    address: str = ""
    """Of a running cluster; empty to start one on this machine."""
    cpus: float = 1.0
    """Processors for each file."""
    gpus: float = 0.0
    """Accelerators for each file, for a run."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """How the files of one run are shared out; nothing of it changes what is reported."""

    jobs: int = 1
    """Processes; 1 for this one alone, 0 to start some where that is worth it."""
    engine: Engine = Engine.LOCAL
    cluster: Cluster = field(default_factory=Cluster)
    cache: Path | None = None
    """File in which results are kept for the next run."""
    progress: Progress = _silent
    announce: Callable[[str], None] = _unsaid
    """Told in a sentence what a user should know and no report holds."""


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1
