"""The hidden file that is written first, beside the one that it is to become."""

import os
import stat
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path

from normcheck import platforms
from normcheck.errors import UsageError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.writing.destination import Destination, Kind
from normcheck.writing.write_errors import cannot

_MARK = "normcheck-part"
_LONGEST_NAME = 200
"""Bytes of a name that a hidden name is made of; file systems take 255."""
_NUMBERED = 8
"""Hidden names that are tried in turn, by which leftovers are found again."""
OPEN_MOVES = os.name != "nt"
"""Whether the system renames and removes a file while it is open."""
_MAKE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | platforms.BINARY
_OPEN = os.O_WRONLY | platforms.NO_LINK | platforms.NO_WAIT


class _TakenError(Exception):
    """Another run is at it."""


@lazy_dataclass(frozen=False)
class PartialFile:
    """A hidden file, open."""

    path: Path
    raw: FileIO
    moved: bool = False

    def move(self, target: Path) -> None:
        """Give it its name, in place of what has it."""
        self.path.replace(target)
        self.moved = True


@contextmanager
def hidden(place: Destination, like: os.stat_result | None = None) -> Iterator[PartialFile]:
    """A new hidden file, which is gone in the end unless it was moved.

    Args:
        place: What it is to become.
        like: Whose permission bits it gets, as far as the umask allows, where that is new.

    Raises:
        UsageError: It cannot be made there.
    """
    # A file that is replaced may be nobody else's to read: its bits come when all is written.
    bits = 0o600 if place.kind is Kind.FILE else 0o666
    if like is not None and place.kind is Kind.NEW:
        bits = stat.S_IMODE(like.st_mode) & 0o777
    for path in _names(place.path):
        _remove_leftover(path)
        opened: list[FileIO] = []
        part = None
        try:
            _make(path, bits, opened)
            part = PartialFile(path, opened[0])
            yield part
            return
        except _TakenError:
            continue
        except OSError as error:
            if part is not None:  # of the block
                raise
            raise cannot(place.said, error) from error
        finally:
            moved = part is not None and part.moved
            try:
                _end(path, opened, moved=moved)
            except KeyboardInterrupt:
                # It came while the file was being removed, or just before.
                _end(path, opened, moved=moved)
                raise
    raise UsageError(
        f"{place.said}: cannot be written (hidden files of other runs stand in the way)",
        f"remove {place.path.parent}/.*.{_MARK}* where no run is writing it",
    )


def _names(target: Path) -> Iterator[Path]:
    name = target.name
    if len(os.fsencode(name)) > _LONGEST_NAME:
        name = f"{zlib.crc32(os.fsencode(name)):08x}"
    for number in range(_NUMBERED):
        yield target.with_name(f".{name}.{_MARK}{number or ''}")
    for _ in range(_NUMBERED):
        yield target.with_name(f".{name}.{_MARK}-{os.urandom(6).hex()}")


def _make(path: Path, bits: int, opened: list[FileIO]) -> None:
    """Make and lock it; it is in ``opened`` from the first moment, for Ctrl-C comes at any."""
    try:
        opened.append(FileIO(os.open(path, _MAKE, bits), "wb"))
    except FileExistsError as error:
        raise _TakenError from error
    if not _locked(opened[0].fileno()) or not _same(path, opened[0].fileno()):
        raise _TakenError  # for a leftover, in the moment before it was locked


def _end(path: Path, opened: list[FileIO], *, moved: bool) -> None:
    if not opened:
        # Made, and not in the list yet, where Ctrl-C came between.
        _remove_leftover(path)
        return
    raw = opened[0]
    if not OPEN_MOVES:
        raw.close()
    with suppress(OSError):
        # Once it is moved, another run may have a file of that name.
        if not moved and (raw.closed or _same(path, raw.fileno())):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        raw.close()


def _locked(descriptor: int) -> bool:
    """Show other runs that somebody writes the file; False where another has the lock.

    The system takes the lock back when the process ends, however it does. A number of a process
    in the name would say nothing in another container, or on another machine of the same folder.
    """
    try:
        return platforms.lock(descriptor)
    except OSError:
        return True  # a file system without such locks, where leftovers stay


def _same(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(follow_symlinks=False), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_leftover(path: Path) -> None:
    """Remove what a run that was killed left, where nobody writes it."""
    with suppress(OSError, ImportError):
        if not stat.S_ISREG(path.stat(follow_symlinks=False).st_mode):
            return
        if not OPEN_MOVES:
            path.unlink()  # which fails while it is open
            return
        descriptor = os.open(path, _OPEN)
        try:
            if platforms.lock(descriptor) and _same(path, descriptor):
                path.unlink()
        finally:
            os.close(descriptor)
