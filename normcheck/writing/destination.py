"""What stands where something is to be written: links are followed, nothing is touched."""

import errno
import os
import stat
from collections.abc import Iterable
from enum import Enum, auto
from pathlib import Path

from normcheck import platforms
from normcheck.errors import UsageError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.writing.write_errors import cannot, told

STDOUT = "-"
"""How a user names it."""
_MOST_LINKS = 40
"""As many as Linux follows."""


class Kind(Enum):
    """Of what is written to, after all links."""

    NEW = auto()
    """Nothing yet, in a folder that is there."""
    FILE = auto()
    """A regular file with a name, which is replaced."""
    STDOUT = auto()
    DESCRIPTOR = auto()
    """Of this process, as ``/dev/stderr`` and ``/dev/fd/63`` name it: shared, never reopened."""
    DEVICE = auto()
    FIFO = auto()
    SOCKET = auto()
    NAMELESS = auto()
    """A regular file that its path does not lead to any more (another process has it open)."""


@lazy_dataclass()
class Destination:
    """Where something is to be written."""

    said: str
    """As the user named it, for messages."""
    kind: Kind
    path: Path = Path()
    """Where the links lead, for what has a name."""
    status: os.stat_result | None = None
    """Of what is there."""
    descriptor: int = -1

    @property
    def replaced(self) -> bool:
        """Whether a regular file comes to be there, whole or not at all."""
        return self.kind in {Kind.NEW, Kind.FILE}

    def is_also(self, name: str | Path) -> bool:
        """Whether a file is the very one that would be replaced, by whatever link or name."""
        if self.kind is not Kind.FILE or self.status is None:
            return False
        try:
            return os.path.samestat(self.status, Path(name).stat())
        except (OSError, ValueError):
            return False

    def refuse(self, names: Iterable[str | Path], what: str) -> None:
        """Let no input be replaced by an output.

        Args:
            names: Files that are read.
            what: What they are, as in ``is WHAT``.

        Raises:
            UsageError: One of them is this very file.
        """
        if self.kind is not Kind.FILE:
            return
        for name in names:
            if self.is_also(name):
                itself = "" if str(name) == self.said else f" ({name})"
                raise UsageError(
                    f"{self.said} is {what}{itself}, which would be lost; it was left as it is",
                    "name another file to write",
                )


def destination_of(name: str | Path) -> Destination:
    """What stands there; ``-`` is stdout.

    Raises:
        UsageError: Nothing can be written there: a folder, a missing one above it, links that
            lead nowhere, a file that is write-protected, a block device (what it holds would be
            overwritten).
    """
    said = str(name)
    if said == STDOUT:
        return Destination(said, Kind.STDOUT)
    if not said or said.endswith((os.sep, os.altsep or os.sep)):
        raise UsageError(
            f"{said or repr(said)} is the name of a folder, not of a file", "name a file in it"
        )
    if "\0" in said:
        raise UsageError(f"{said}: a name cannot hold a null character", "give it another name")
    path = Path(said)
    with told(said):
        descriptor = _own_descriptor(path)
        if descriptor == 1:
            return Destination(said, Kind.STDOUT)
        if descriptor >= 0:
            return Destination(said, Kind.DESCRIPTOR, path, os.fstat(descriptor), descriptor)
        try:
            status = path.stat()
        except FileNotFoundError:
            return _new(said, path)
    return _standing(said, path, status)


def _new(said: str, path: Path) -> Destination:
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise UsageError(
            f"{said}: cannot be written (no such folder: {target.parent})",
            f"make it first: mkdir -p {target.parent}",
        )
    return Destination(said, Kind.NEW, target)


def _standing(said: str, path: Path, status: os.stat_result) -> Destination:
    mode = status.st_mode
    if stat.S_ISREG(mode):
        return _regular(said, path, status)
    if stat.S_ISDIR(mode):
        raise UsageError(f"{said} is a folder", f"name a file in it: {Path(said) / 'FILE'}")
    if stat.S_ISBLK(mode):
        raise UsageError(
            f"{said} is a block device: what it holds would be overwritten",
            "name a file; or write to stdout (-) and let another program do that",
        )
    for kind, holds in (
        (Kind.DEVICE, stat.S_ISCHR),
        (Kind.FIFO, stat.S_ISFIFO),
        (Kind.SOCKET, stat.S_ISSOCK),
    ):
        if holds(mode):
            return Destination(said, kind, path, status)
    raise UsageError(f"{said} cannot be written to", "name a file")


def _regular(said: str, path: Path, status: os.stat_result) -> Destination:
    # A file that its owner protected stays: its folder alone would let it be replaced.
    if not os.access(path, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        raise cannot(said, PermissionError(errno.EACCES, "the file is write-protected"))
    target = Path(os.path.realpath(path))
    try:
        named = os.path.samestat(status, target.stat())
    except OSError:
        named = False
    return (
        Destination(said, Kind.FILE, target, status)
        if named
        else Destination(said, Kind.NAMELESS, path, status)
    )


def _own_descriptor(path: Path) -> int:
    """The descriptor of this process that a path means, -1 for none.

    What is behind such a path may be a pipe, a socket, or a file that the shell appends to: only
    the descriptor itself writes there as the shell meant it.
    """
    for _ in range(_MOST_LINKS):
        folder = os.path.realpath(path.parent)
        numbered = path.name.isascii() and path.name.isdecimal()
        if numbered and platforms.is_descriptor_folder(folder):
            return int(path.name)
        if not path.is_symlink():
            break
        path = Path(folder) / path.readlink()
    return -1
