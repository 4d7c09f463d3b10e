"""Files that are there whole or not at all, whenever the process ends.

What is written goes to a hidden file in the same folder first, is forced to the disk, and gets
its name in one step of the file system. A process that is killed leaves at most the hidden
file, which the next run removes.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

from normcheck.errors import UsageError

_MARK = "normcheck-part"


def write_whole(
    target: Path,
    pieces: Iterable[bytes],
    *,
    mode_of: Path,
    check: Callable[[Path], None],
    in_place: bool = False,
) -> None:
    """Write a file in one step.

    Args:
        target: What it is called in the end.
        pieces: Its bytes.
        mode_of: The file whose permissions it gets.
        check: Called with the hidden file before it gets its name; raises to forbid it.
        in_place: Whether to replace a file of that name, which stays as its ``.bak``.

    Raises:
        UsageError: It cannot be written there, or is there already.
    """
    remove_leftovers(target)
    part = target.with_name(f".{target.name}.{os.getpid()}.{_MARK}")
    try:
        with part.open("xb") as file:
            for piece in pieces:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        shutil.copymode(mode_of, part)
        check(part)
        if in_place:
            _keep_backup(target)
            part.replace(target)
        else:
            named(part, target)
        _sync_folder(target.parent)
    except OSError as error:
        raise UsageError(
            f"{target}: cannot be written ({error.strerror or error})",
            "name a new file in a folder that exists, is writable and has room",
        ) from error
    finally:
        part.unlink(missing_ok=True)


def named(source: Path, target: Path) -> None:
    """Give a file a further name, in one step, never that of a file which is there.

    Raises:
        UsageError: There is a file of that name.
        OSError: The folder does not take it.
    """
    try:
        os.link(source, target)
    except FileExistsError as error:
        raise UsageError(f"{target} exists already", "name another file, or move it") from error
    except OSError:
        # A file system without links. The name is taken first, so that no file is lost.
        try:
            os.close(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError as error:
            raise UsageError(f"{target} exists already", "name another file, or move it") from error
        copy = target.with_name(f".{target.name}.{os.getpid()}.{_MARK}-copy")
        try:
            shutil.copy2(source, copy)
            copy.replace(target)
        finally:
            copy.unlink(missing_ok=True)


def remove_leftovers(target: Path) -> None:
    """Remove what runs that were killed left of the same file."""
    for path in target.parent.glob(f".{glob_escape(target.name)}.*.{_MARK}*"):
        words = path.name.split(".")
        process = next((w for w in reversed(words) if w.isdecimal()), "")
        if process and not _alive(int(process)):
            with contextlib.suppress(OSError):
                path.unlink()


def glob_escape(name: str) -> str:
    """A name without meaning for patterns."""
    return "".join(f"[{c}]" if c in "*?[" else c for c in name)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Force a new name to the disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _keep_backup(path: Path) -> None:
    """A further name for a file that is about to be replaced."""
    backup = backup_of(path)
    # A run that was killed right here has left the same file under both names.
    if not (backup.exists() and backup.samefile(path)):
        named(path, backup)


def check_free(path: Path, *, in_place: bool) -> None:
    """Refuse names that are taken, before any work is done.

    Raises:
        UsageError: The output, or in place the backup, exists.
    """
    backup = backup_of(path)
    if not in_place:
        if path.exists() or path.is_symlink():
            raise UsageError(f"{path} exists already", "name another file with -o, or move it")
    elif backup.exists() and not backup.samefile(path):
        raise UsageError(
            f"{backup} exists already, and would have to hold the backup",
            "move it, or use -o to write the copy elsewhere",
        )


def backup_of(path: Path) -> Path:
    """Where the backup of a file goes."""
    return path.with_name(f"{path.name}.bak")
