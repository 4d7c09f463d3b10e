"""How the outputs of an export hold against those of its source: plain values, without torch."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
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
