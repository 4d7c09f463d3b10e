"""How the command line says that something went wrong, or merely worth knowing."""

import sys

from normcheck.wording import printable


def report_error(message: str, hint: str) -> None:
    """An error and what to do about it, on stderr, a line each."""
    # Names of files and layers come from outside; they must not move the cursor.
    sys.stderr.write(f"error: {printable(message)}\n")
    if hint:
        sys.stderr.write(f"hint: {printable(hint)}\n")


def report_note(message: str) -> None:
    """Something that is not an error, on stderr: only the report goes to stdout."""
    sys.stderr.write(f"{printable(message)}\n")
