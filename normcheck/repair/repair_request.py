"""What a user asks of a repair. Plain values, without torch."""

from typing import Any

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.run_request import Running
from normcheck.sources.limits import DEFAULT_LIMITS, Limits
from normcheck.writing.special_files import Announce, to_nobody

SAMPLES = 10_000
"""Most samples that are used: the mean of a channel is then known to a hundredth of its
deviation, which is far below what changes an answer."""


@lazy_dataclass()
class Fixing:
    """Which repairs are wanted, where the result goes, and what may be risked."""

    output: str = ""
    """Where the repaired copy goes, ``-`` for stdout; empty with ``in_place``."""
    in_place: bool = False
    places: tuple[str, ...] = ()
    """Models of the file by their place, ``all`` for every one; empty where it holds one."""
    running: Running | None = None
    """How to run the model and on which data; None where statistics are not re-estimated."""
    holdout: Any = None
    """Data that judge; None to judge with the other half of the data."""
    without_data: bool = False
    """Whether to estimate lost statistics on random fields; ``running`` then has no data."""
    force: bool = False
    """Whether to write what would be refused."""
    modes: str = ""
    """``eval`` to set all training flags of a whole module to eval."""
    counts: bool = False
    """Whether to repair damaged batch counts."""
    unwarm: bool = False
    """Whether to take what is left of the initial value out of the statistics."""
    announce: Announce = to_nobody
    """Told where a FIFO waits for its reader."""
    momentum: float | None = None
    """Momentum of the layers, where the file does not hold it."""
    limits: Limits = DEFAULT_LIMITS
    """Of reading the file."""
    seconds: float = 0.0
    """After which the run of the model is stopped; 0 for never."""

    @property
    def asks_for(self) -> tuple[str, ...]:
        """The repairs, by the flags that ask for them."""
        wanted = (
            ("--without-data", self.without_data),
            ("--data", self.running is not None and not self.without_data),
            ("--modes", bool(self.modes)),
            ("--counts", self.counts),
            ("--unwarm", self.unwarm),
        )
        return tuple(flag for flag, given in wanted if given)
