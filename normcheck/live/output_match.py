"""How the outputs of two models hold against each other: plain values, without torch."""

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.decided_on_fields import Exchanged


@lazy_dataclass()
class OutputMatch:
    """Outputs of both on the same data."""

    samples: int
    source: str
    """What was fed."""
    difference: float
    """Relative L2 difference of the main output."""
    largest: float
    """Largest absolute difference."""
    flips: float | None
    """Share of decisions that differ; None where the output decides nothing."""
    tolerance: float
    """Relative difference that the element types and other kernels explain."""
    first_apart: str = ""
    """The first layer whose outputs differ, of those that both have by name; empty where none is
    known."""
    exchanged: Exchanged | None = None
    """Decisions that differ by the statistics alone; None where that could not be tried."""

    @property
    def differ(self) -> bool:
        """Whether they differ by more than is explained."""
        return self.difference > self.tolerance
