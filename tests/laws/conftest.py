"""Python in a process of its own, for the laws too."""

from tests.formats.conftest import python

__all__ = ["python"]
