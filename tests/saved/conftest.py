"""Saving with torch and reading with normcheck, for what files hold too."""

from tests.formats.conftest import python, read, read_one, save

__all__ = ["python", "read", "read_one", "save"]
