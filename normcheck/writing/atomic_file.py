"""Regular files that are there whole or not at all, whenever the process ends.

What is written goes to a hidden file in the same folder first, is forced to the disk, and gets
its name in one step of the file system. A process that is killed leaves at most the hidden
file, which the next run that writes the same file removes.

The file that is replaced keeps its owner, group, permission bits, access control list and
extended attributes as far as the system lets this user set them. Its other hard links go on
naming the old content: one step of the file system gives one name to a file.
"""

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from normcheck.errors import UsageError
from normcheck.writing.destination import Destination, Kind
from normcheck.writing.file_attributes import as_before
from normcheck.writing.streams import FileOut, Out
from normcheck.writing.temporary_file import OPEN_MOVES, PartialFile, hidden
from normcheck.writing.write_errors import told

_NOT_ALWAYS = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP})
"""What fsync says where a file system has none."""
_PIECE = 1 << 22

Check = Callable[[Path], None]
"""Looks at the finished file before it gets its name; raises to forbid it."""


@contextmanager
def whole(
    place: Destination,
    *,
    new: bool = False,
    like: os.stat_result | None = None,
    check: Check | None = None,
    backup: Path | None = None,
) -> Iterator[Out]:
    """Write a regular file; it gets its name when the block ends without an error.

    Args:
        place: Where.
        new: Whether a file of that name is an error.
        like: Whose permission bits a new file gets, as far as the umask allows; else those of
            any new file. A file that is replaced keeps its own.
        check: See ``Check``.
        backup: A name under which the file that is replaced stays.

    Raises:
        UsageError: It cannot be written there, or is there already.
    """
    target = place.path
    if new and place.kind is Kind.FILE:
        raise _exists(place.said)
    with hidden(place, like) as part:
        yield FileOut(place.said, part.raw)
        with told(place.said):
            old = _what_is_there(place)
            if old is not None:
                as_before(part.raw.fileno(), target, old)
            _forced(part.raw.fileno())
        if check is not None:
            check(part.path)
        if not OPEN_MOVES:
            part.raw.close()
        with told(place.said):
            if new:
                _named(part, target, place.said)
            elif backup is not None:
                _exchanged(part, target, backup)
            else:
                part.move(target)
            _force_folder(target.parent)


def try_out(place: Destination) -> None:
    """See whether a regular file could be written, before any work is done. Nothing is left.

    Raises:
        UsageError: It could not.
    """
    with hidden(place):
        pass


def _what_is_there(place: Destination) -> os.stat_result | None:
    """What the file will replace, once more: much can happen in a long run.

    Raises:
        UsageError: Something that is no regular file has come there.
    """
    try:
        now = place.path.stat(follow_symlinks=False)
    except FileNotFoundError:
        return place.status
    if not stat.S_ISREG(now.st_mode):
        raise UsageError(f"{place.said} was replaced by something else meanwhile", "run it again")
    return now


def _forced(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_ALWAYS:
            raise


def _force_folder(folder: Path) -> None:
    """Force a new name to the disk, where the system can."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _exists(said: str) -> UsageError:
    return UsageError(f"{said} exists already", "name another file, or move it")


def _named(part: PartialFile, target: Path, said: str) -> None:
    """Give the finished file a name that nothing has.

    Raises:
        UsageError: Something has it.
        OSError: The folder does not take it.
    """
    try:
        target.hardlink_to(part.path)
    except FileExistsError as error:
        raise _exists(said) from error
    except OSError:
        # A file system without hard links. The name is taken first, so that no file is lost.
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError as error:
            raise _exists(said) from error
        try:
            part.move(target)
        finally:
            if not part.moved:
                target.unlink()


def _exchanged(part: PartialFile, target: Path, backup: Path) -> None:
    """Put a new file in the old one's place, which stays under another name."""
    # A run that was killed right here has left the same file under both names.
    kept = backup.exists() and backup.samefile(target)
    if not kept:
        _keep(target, backup)
    try:
        part.move(target)
    finally:
        if not part.moved and not kept:
            backup.unlink()


def _keep(target: Path, backup: Path) -> None:
    """A further name for a file, or a copy of it where the file system has no hard links."""
    try:
        backup.hardlink_to(target)
    except FileExistsError as error:
        raise _exists(str(backup)) from error
    except OSError:
        old = target.stat()

        def as_old(copy: Path) -> None:
            descriptor = os.open(copy, os.O_WRONLY)
            try:
                as_before(descriptor, target, old)
            finally:
                os.close(descriptor)
            os.utime(copy, ns=(old.st_atime_ns, old.st_mtime_ns))

        place = Destination(str(backup), Kind.NEW, backup)
        with target.open("rb") as file, whole(place, new=True, like=old, check=as_old) as out:
            while piece := file.read(_PIECE):
                out.write(piece)
