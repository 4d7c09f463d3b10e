"""What stored statistics do to a model on the user's data, in one word."""

from enum import StrEnum


class Harm(StrEnum):
    """What the stored statistics do to the outputs on the user's data."""

    PROVEN = "proven"
    """Labels show that re-estimated statistics give more right answers."""
    SHOWN = "shown"
    """Labels show that the loss falls under re-estimated statistics."""
    HINTED = "hinted"
    """No labels; decisions are clearer under re-estimated statistics."""
    STORED_RIGHT = "stored are right"
    """Labels, or the clearness of decisions, speak for the stored ones."""
    NONE = "none"
    """Nothing changes that would matter."""
    OPEN = "open"
    """Labels show no harm, and are too few to exclude it."""
    UNKNOWN = "unknown"
    """Outputs change, and nothing tells which are right."""
