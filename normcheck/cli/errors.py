"""How the command line says that something went wrong."""

import sys


def report_error(message: str, hint: str) -> None:
    """An error and what to do about it, on stderr, a line each."""
    sys.stderr.write(f"error: {one_line(message)}\n")
    if hint:
        sys.stderr.write(f"hint: {one_line(hint)}\n")


def one_line(text: str) -> str:
    """Text that keeps to its line, whatever a file put into it."""
    # Names of files and layers come from outside; they must not move the cursor.
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
