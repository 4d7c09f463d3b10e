"""The command, in this process and in one of its own."""

from tests.cli.conftest import normcheck

__all__ = ["normcheck"]
