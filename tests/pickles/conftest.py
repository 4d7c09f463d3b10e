"""Reading under guard, for what pickles hold too."""

from tests.formats.conftest import python, read, read_one, save, vanished
from tests.formats.watched import folder, marker, read_all

__all__ = ["folder", "marker", "python", "read", "read_all", "read_one", "save", "vanished"]
