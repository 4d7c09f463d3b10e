"""From what a command was asked to do, to doing it."""

from normcheck.cli.flags.command_flags import Diff, Fix, Scan


def perform(asked: Scan | Diff | Fix) -> int:
    """Do what a command asks for, and return the exit code."""
    # Imported here, so that --help and the other commands do not wait for numpy.
    match asked:
        case Scan():
            from normcheck.cli.commands.scan_command import run_scan

            return run_scan(asked)
        case Diff():
            from normcheck.cli.commands.diff_command import run_diff

            return run_diff(asked)
        case Fix():
            from normcheck.cli.commands.fix_command import run_fix

            return run_fix(asked)
