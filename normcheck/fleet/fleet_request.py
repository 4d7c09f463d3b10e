"""What a user asks of a scan of many files: where the work is done, what is kept of it."""

from collections.abc import Callable
from dataclasses import field
from enum import StrEnum
from pathlib import Path

from normcheck.lazy_dataclass import lazy_dataclass

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


@lazy_dataclass()
class Cluster:
    """A Ray cluster, and what a file may take of it."""

    address: str = ""
    """Of a running cluster; empty to start one on this machine."""
    cpus: float = 1.0
    """Processors for each file."""
    gpus: float = 0.0
    """Accelerators for each file, for a run."""


@lazy_dataclass()
class Fleet:
    """How the files of one run are shared out; nothing of it changes what is reported."""

    jobs: int = 1
    """Processes; 1 for this one alone, 0 to start some where that is worth it."""
    copies: bool = False
    """Whether these may be copies of this process, where the system can make some: of a program
    that does nothing else."""
    engine: Engine = Engine.LOCAL
    cluster: Cluster = field(default_factory=Cluster)
    cache: Path | None = None
    """File in which results are kept for the next run."""
    progress: Progress = _silent
    announce: Callable[[str], None] = _unsaid
    """Told in a sentence what a user should know and no report holds."""
