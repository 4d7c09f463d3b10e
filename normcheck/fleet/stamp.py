"""Whether a file is what it was, without reading it; and with, where it is small."""

import os
import stat
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

HASHED_BYTES = 8 << 20
"""Files up to that length are known by their content, too: about what is hashed in the time
that the scan of a small file takes."""
TICK_SECONDS = 2.0
"""The coarsest clock of a file system in use (FAT has 2 seconds, most have milliseconds)."""
_GAP = "\0"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What the file system says of a file."""

    file: str
    size: int
    changed: str
    """Device, inode, and both times in nanoseconds."""
    latest: int
    """The later of the times."""
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
    """The stamp of a regular file; None of anything else, a folder or an address say."""
    try:
        status = os.stat(file)  # noqa: PTH116  (a Path for each file takes longer than the call)
    except (OSError, ValueError):
        return None
    if not stat.S_ISREG(status.st_mode):
        return None
    changed = f"{status.st_dev}:{status.st_ino}:{status.st_mtime_ns}:{status.st_ctime_ns}"
    return Stamp(file, status.st_size, changed, max(status.st_mtime_ns, status.st_ctime_ns))


def digest_of(file: str, size: int) -> bytes | None:
    """A hash of a file's content; None where it is long or cannot be read."""
    if size > HASHED_BYTES:
        return None
    from hashlib import blake2b

    try:
        data = Path(file).read_bytes()
    except OSError:
        return None
    return blake2b(data, digest_size=20).digest() if len(data) == size else None
