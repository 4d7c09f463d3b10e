"""Where a repaired copy goes, and the backup of what it replaces."""

import os
from dataclasses import replace
from pathlib import Path

from normcheck.errors import UsageError
from normcheck.repair.repair_request import Fixing
from normcheck.sources.place import local
from normcheck.writing.atomic_file import try_out
from normcheck.writing.destination import Destination, Kind, destination_of


def place_of_copy(target: str | Path, path: Path, how: Fixing) -> Destination:
    """Where the result goes; names that are taken are refused before any work is done.

    Args:
        target: The file as the user named it.
        path: The same, links followed.
        how: What was asked for.

    Raises:
        UsageError: There is no such place, or it is taken.
    """
    if how.in_place and how.output:
        raise UsageError("--in-place and -o are two places", "give one of them")
    if not how.in_place and not how.output:
        raise UsageError("no place for the repaired copy", "name it: -o fixed.pt, or --in-place")
    if how.output:
        local(how.output, "-o")
    if how.in_place:
        if not path.is_file():
            return Destination(str(path), Kind.NEW, path)  # the reader says what is wrong with it
        backup = backup_of(path)
        if os.path.lexists(backup) and not (backup.exists() and backup.samefile(path)):
            raise UsageError(
                f"{backup} exists already, and would have to hold the backup",
                "move it, or use -o to write the copy elsewhere",
            )
    output = (
        replace(destination_of(path), said=str(target))
        if how.in_place
        else destination_of(how.output)
    )
    if not how.in_place and output.kind is Kind.FILE:
        if output.is_also(path):
            raise UsageError(
                f"{output.said} is the input itself",
                "name another file, or add --in-place, with a backup",
            )
        raise UsageError(f"{output.said} exists already", "name another file with -o, or move it")
    if output.replaced:
        try_out(output)
    return output


def backup_of(path: Path) -> Path:
    """Where the backup of a file goes."""
    return path.with_name(f"{path.name}.bak")
