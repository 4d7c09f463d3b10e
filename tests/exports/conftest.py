"""Reading under guard, and Python in a process of its own, for the readers of exports too."""

from tests.checkpoint.conftest import python
from tests.checkpoint.watched import folder, marker, read_all

__all__ = ["folder", "marker", "python", "read_all"]
