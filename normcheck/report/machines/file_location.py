"""Where a model is, for programs that show findings beside files."""

import os
from pathlib import Path
from urllib.parse import quote

from normcheck import platforms


def relative(target: str, root: Path) -> str:
    """A target as a path with slashes, relative to ``root`` where it lies below it.

    Args:
        target: As the user wrote it: a path, absolute or relative to ``root``, or a URI.
        root: An absolute folder.
    """
    if "://" in target:
        return target
    path = Path(os.path.normpath(root / target))
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()


def uri(target: str, root: Path) -> str:
    """The same as a URI reference: percent-encoded, ``file:`` where it lies elsewhere."""
    if "://" in target:
        return quote(target, safe="/:@?&=+%-._~")
    path = relative(target, root)
    # A file's name need not be valid Unicode; its bytes are what counts.
    try:
        encoded = quote(os.fsencode(path))
    except UnicodeEncodeError:
        encoded = quote(path.encode("utf-8", "backslashreplace"))
    if path.startswith("/"):
        return f"file://{encoded}"
    if platforms.WINDOWS and path[1:2] == ":":
        return f"file:///{path[:2]}{encoded.removeprefix(quote(path[:2]))}"
    return encoded
