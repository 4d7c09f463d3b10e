"""Where bytes come from: a file on disk, or bytes in memory, read at an offset."""

import io
import os
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeGuard

from normcheck.errors import UnreadableError
from normcheck.platforms import OpenFile

if TYPE_CHECKING:
    from normcheck.sources.limits import Budget


class Source(Protocol):
    """Random access to the bytes of one file."""

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    @property
    def size(self) -> int:
        """Length in bytes."""
        ...

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``; ``UnreadableError`` where they end early."""
        ...

    def close(self) -> None:
        """Give back what is held open; reading after it is an error."""
        ...


Bytes = bytes | memoryview
"""Bytes to make numbers of, perhaps without a copy."""


class DistantSource(Source, Protocol):
    """A source of which every read takes a journey: what is known to be needed is named before."""

    @property
    def distant(self) -> bool:
        """Whether that is so."""
        ...

    def fetch_ahead(self, spans: Sequence[tuple[int, int]]) -> None:
        """Fetch spans (offset and length in bytes) together, so that reading them costs nothing.

        Spans that reach past the end are cut; what does not fit the memory set aside for this
        is left to be read when it is asked for.
        """
        ...


_WHOLE_BYTES = 512 << 10
"""Length up to which a file is read at once: its hundred pieces would take longer one by one,
and the system reads as much ahead in any case."""

_ALIGNED = 16
"""Bytes to whose multiples an allocator aligns what it returns. With numbers that lie elsewhere
numpy may calculate in another order, so that their last bits differ."""


def is_distant(source: Source) -> TypeGuard[DistantSource]:
    """Whether reads of ``source`` should be few."""
    return getattr(source, "distant", False)


def view_at(source: Source, offset: int, length: int) -> Bytes:
    """What ``read_at`` returns, not copied where the source has all of its bytes at hand."""
    if type(source) is FileSource:
        return source.view_at(offset, length)
    return source.read_at(offset, length)


def whole_of(source: Source) -> bytes:
    """All bytes of a source that has them at hand; none of any other."""
    return source.whole if type(source) is FileSource else b""


def ends_early(name: str, offset: int, length: int, size: int) -> UnreadableError:
    """The error for bytes that a file does not have."""
    return UnreadableError(
        f"{name}: the file ends early: {length:,} bytes wanted at {offset:,}, it has {size:,}",
        "the download or copy may be incomplete; fetch it again and compare sizes",
    )


def check_range(name: str, offset: int, length: int, size: int) -> None:
    """Whether ``length`` bytes from ``offset`` lie within ``size`` bytes.

    Raises:
        UnreadableError: They do not.
    """
    if offset < 0 or length < 0 or offset + length > size:
        raise ends_early(name, offset, length, size)


class FileSource:
    """A regular file, read at offsets.

    Not a memory map: a file that another process truncates while it is read would then
    end this process with a bus error instead of a message.
    """

    def __init__(self, path: Path) -> None:
        """Open ``path``; an ``UnreadableError`` says why where that is not possible."""
        self._name = str(path)
        try:
            self._file = OpenFile(path)
        except FileNotFoundError as error:
            raise UnreadableError(
                f"{path}: no such file", "check the path; a folder or a pattern works too"
            ) from error
        except PermissionError as error:
            raise UnreadableError(
                f"{path}: permission denied", "give this user read access to the file"
            ) from error
        except (OSError, ValueError) as error:
            # ValueError: a name with a NUL in it.
            reason = error.strerror if isinstance(error, OSError) else None
            raise UnreadableError(f"{path}: {reason or error}", "check the path") from error
        status = self._file.status()
        if not stat.S_ISREG(status.st_mode):
            self._file.close()
            raise UnreadableError(
                f"{path}: not a regular file", "copy its content into a file and scan that"
            )
        self._size = status.st_size
        self._whole = b""
        self._view = memoryview(b"")
        self._closed = False

    @property
    def name(self) -> str:
        """The path as it was given."""
        return self._name

    @property
    def size(self) -> int:
        """Length in bytes when the file was opened."""
        return self._size

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``."""
        check_range(self._name, offset, length, self._size)
        if self._size <= _WHOLE_BYTES and not self._closed:
            return (self._whole or self._read_whole())[offset : offset + length]
        return self._pieces(offset, length)

    def view_at(self, offset: int, length: int) -> Bytes:
        """The same, not copied where the file is read whole and the bytes are aligned there."""
        if offset % _ALIGNED or not self._whole:
            return self.read_at(offset, length)
        check_range(self._name, offset, length, self._size)
        return self._view[offset : offset + length]

    @property
    def whole(self) -> bytes:
        """All bytes of a short file, once one was asked for; none of a longer one."""
        return self._whole

    def _read_whole(self) -> bytes:
        self._whole = self._pieces(0, self._size)
        self._view = memoryview(self._whole)
        return self._whole

    def _pieces(self, offset: int, length: int) -> bytes:
        parts: list[bytes] = []
        missing = length
        while missing:
            part = self._file.read_at(offset + length - missing, missing)
            if not part:
                raise ends_early(self._name, offset, length, self._file.status().st_size)
            parts.append(part)
            missing -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        self._closed = True
        self._whole, self._view = b"", memoryview(b"")


class MemorySource:
    """Bytes that are already here: a numpy array inside a pickle, an embedded file."""

    def __init__(self, data: bytes | bytearray, name: str) -> None:
        """Wrap ``data``; ``name`` is what messages call it."""
        self._data = data
        self._name = name

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._name

    @property
    def size(self) -> int:
        """Length in bytes."""
        return len(self._data)

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``."""
        check_range(self._name, offset, length, len(self._data))
        return bytes(self._data[offset : offset + length])

    def close(self) -> None:
        """Nothing is held open."""


_BUFFER = 1 << 16


class _RawStream(io.RawIOBase):
    """A ``Source`` as the raw stream that ``zipfile`` and ``BufferedReader`` expect."""

    def __init__(self, source: Source, offset: int) -> None:
        self._source = source
        self._position = offset

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._source.size}
        position = base[whence] + offset
        if position < 0:
            raise OSError("seek before the start of the file")
        self._position = position
        return position

    def readinto(self, buffer: "bytearray | memoryview") -> int:  # type: ignore[override]
        # The stub's parameter is any writable buffer; BufferedReader passes a memoryview.
        length = min(len(buffer), self._source.size - self._position)
        if length <= 0:
            return 0
        buffer[:length] = self._source.read_at(self._position, length)
        self._position += length
        return length


class SourceStream(io.BufferedReader):
    """A ``Source`` as a stream; while it has a budget, what is read counts against that."""

    budget: "Budget | None" = None
    factor: int = 1
    """Memory that a byte becomes in the hands of who reads it."""

    def read(self, size: "int | None" = -1, /) -> bytes:
        """As of any stream."""
        if self.budget is not None and size is not None:
            self.budget.spend(max(size, 0) * self.factor)
        return super().read(size)


def stream(source: Source, offset: int = 0) -> io.BufferedReader:
    """``source`` as a buffered, seekable stream that starts at ``offset`` (bytes)."""
    return io.BufferedReader(_RawStream(source, offset), buffer_size=_BUFFER)


def counted_stream(source: Source, budget: "Budget", factor: int) -> SourceStream:
    """The same from its beginning, with what is read counted against a budget, so many times."""
    counted = SourceStream(_RawStream(source, 0), buffer_size=_BUFFER)
    counted.budget, counted.factor = budget, factor
    return counted
