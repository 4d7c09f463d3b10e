"""Whether a file is what it was, without reading it; and with, where it is small."""

import os
import stat
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.sources.place import HIDDEN, RemotePath, is_remote

HASHED_BYTES = 8 << 20
"""Files up to that length are known by their content, too: about what is hashed in the time
that the scan of a small file takes."""
TICK_SECONDS = 2.0
"""The coarsest clock of a file system in use (FAT has 2 seconds, most have milliseconds)."""
_MOST_FILES = 100_000
"""Files in a folder that is one checkpoint, beyond which it is read rather than looked through."""
_GAP = "\0"


@lazy_dataclass()
class Stamp:
    """What the file system says of a file."""

    file: str
    size: int
    changed: str
    """Of a file device, inode, and both times in nanoseconds; of a folder a hash of all of
    these; of an address what its server says."""
    latest: int
    """The latest of the times; 0 where it needs none."""
    settled: bool = True
    """Whether no change can hide within the same tick of the clock."""

    def same(self, other: "Stamp") -> bool:
        """Whether both are of one file that did not change between them."""
        return (self.file, self.size, self.changed) == (other.file, other.size, other.changed)

    def against(self, when: float) -> Self:
        """The same, settled where the last change lies well before ``when`` (seconds)."""
        return replace(self, settled=self.latest / 1e9 < when - TICK_SECONDS)

    @staticmethod
    def joined(stamps: list["Stamp"]) -> str:
        """Stamps as one text."""
        return _GAP.join(
            word
            for s in stamps
            for word in (s.file, str(s.size), s.changed, str(s.latest), str(int(s.settled)))
        )

    @staticmethod
    def parsed(text: str) -> list["Stamp"]:
        """The stamps of ``joined``; of a damaged text one that no file has."""
        words = text.split(_GAP)
        try:
            return [
                Stamp(words[i], int(words[i + 1]), words[i + 2], int(words[i + 3]),
                      words[i + 4] == "1")
                for i in range(0, len(words), 5)
            ]  # fmt: skip
        except (IndexError, ValueError):
            return [Stamp("", -1, "", 0, settled=False)]


def stamp_of(file: str) -> Stamp | None:
    """The stamp of a file, of a folder with all that is in it, or of a remote file.

    Args:
        file: A path; or an address, of which nothing is hidden.

    Returns:
        None of anything else, and where nobody can tell.
    """
    if is_remote(file):
        return _of_address(file)
    try:
        status = os.stat(file)  # noqa: PTH116  (a Path for each file takes longer than the call)
        if stat.S_ISDIR(status.st_mode):
            return _of_folder(file)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    return Stamp(file, status.st_size, _told(status), _latest(status))


def _told(status: os.stat_result) -> str:
    return f"{status.st_dev}:{status.st_ino}:{status.st_mtime_ns}:{status.st_ctime_ns}"


def _latest(status: os.stat_result) -> int:
    return max(status.st_mtime_ns, status.st_ctime_ns)


def _of_folder(folder: str) -> Stamp | None:
    from hashlib import blake2b

    size = latest = 0
    told: list[str] = []
    for name, status in _within(folder):
        if len(told) == _MOST_FILES:
            return None
        size += status.st_size
        latest = max(latest, _latest(status))
        told.append(f"{name}{_GAP}{status.st_size}:{_told(status)}")
    text = _GAP.join(sorted(told)).encode("utf-8", "surrogatepass")
    return Stamp(folder, size, blake2b(text, digest_size=20).hexdigest(), latest)


def _within(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    """The folder itself, all in it, and all in folders in it, also where links lead to them.

    A link that leads back makes no end of it: whoever asks stops at a number.
    """
    yield folder, os.stat(folder)  # noqa: PTH116
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                yield entry.path, entry.stat()
                if entry.is_dir():
                    waiting.append(entry.path)


def _of_address(address: str) -> Stamp | None:
    if HIDDEN in address:
        return None  # a secret that is not kept: nobody could ask again
    from normcheck.sources.remote.file_systems import version_of

    found = version_of(RemotePath(address))
    return Stamp(address, found[0], found[1], 0) if found else None


def digest_of(file: str, size: int) -> bytes | None:
    """A hash of a file's content; None where it is long or cannot be read."""
    if size > HASHED_BYTES or is_remote(file):
        return None
    from hashlib import blake2b

    try:
        data = Path(file).read_bytes()
    except OSError:
        return None
    return blake2b(data, digest_size=20).digest() if len(data) == size else None
