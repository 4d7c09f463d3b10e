"""From what a command was asked to do, to doing it."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normcheck.cli.flags.diff_flags import Diff
    from normcheck.cli.flags.fix_flags import Fix
    from normcheck.cli.flags.scan_flags import Scan


def perform(asked: "Scan | Diff | Fix") -> int:
    """Do what a command asks for, and return the exit code."""
    # Imported here, so that --help and the other commands do not wait for numpy; and known by
    # its name, so that the classes of the others need not be made.
    match type(asked).__name__:
        case "Scan":
            from normcheck.cli.commands.scan_command import run_scan

            return run_scan(asked)  # type: ignore[arg-type]
        case "Diff":
            from normcheck.cli.commands.diff_command import run_diff

            return run_diff(asked)  # type: ignore[arg-type]
        case _:
            from normcheck.cli.commands.fix_command import run_fix

            return run_fix(asked)  # type: ignore[arg-type]
