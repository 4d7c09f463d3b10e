"""The command, in this process and in one of its own."""

import os

from tests.cli.conftest import normcheck

__all__ = ["normcheck"]

# Devices, FIFOs, sockets, permissions and limits as POSIX has them.
collect_ignore = (
    ["test_command.py", "test_large.py", "test_places.py", "test_whole.py"]
    if os.name == "nt"
    else []
)
