"""Reading under guard, for the readers of exports too."""

from tests.checkpoint.watched import folder, marker, read_all

__all__ = ["folder", "marker", "read_all"]
