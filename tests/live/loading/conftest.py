"""Reading under guard, and Python in a process of its own, for the readers of exports too."""

from tests.formats.conftest import python
from tests.formats.watched import folder, marker, read_all

__all__ = ["folder", "marker", "python", "read_all"]
