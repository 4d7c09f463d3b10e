"""What is packed by zstd, xz, LZMA or bzip2: held unpacked in memory.

A decompressor of deflate can be copied, and a read then begins in the middle (``inflated``). These
cannot, so that the whole counts as memory, up to the limit of one file.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from normcheck.errors import RefusedError, UnreadableError
from normcheck.sources.limits import Budget
from normcheck.sources.source import MemorySource, Source

_PIECE = 1 << 18
"""Packed bytes read at a time."""
_STEP = 1 << 20
"""Unpacked bytes at a time, at most."""
_FREE = 16 << 20
"""Unpacked bytes up to which their ratio to the packed ones says nothing."""
_WINDOW = 1 << 27
"""Bytes that a decompressor may look back: what ``zstd`` and ``xz -9`` need at most."""
_OWN = 1 << 20
ZSTD, XZ, BZIP2 = b"\x28\xb5\x2f\xfd", b"\xfd7zXZ\0", b"BZh"
NAMES = {ZSTD: "zstd", XZ: "xz", BZIP2: "bzip2"}
LZMA = "LZMA"
"""The form before xz, which joblib calls lzma: it has no sign of its own, only a plausible head."""
_LZMA_HEAD = re.compile(
    rb"\x5d\0\0(?:[\x01\x02\x04\x08\x10\x20\x40\x80]\0|\0[\x01\x02\x04\x08])"
    rb"(?:\xff{8}|.{5}\0{3})\0",
    re.DOTALL,
)
"""The settings that every packer writes (lc=3, lp=0, pb=2), a window of 64 KiB to 128 MiB that is a
power of two, a length that is left open or below a terabyte, and the zero before the code."""
HEAD = 14
"""Bytes that tell how a file is packed."""
_LOST = "the file is damaged; fetch it again"


class _Decompressor(Protocol):
    """What the decompressors of the standard library have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def packing_of(start: bytes) -> str:
    """How a file that begins so is packed, as it is called; empty for any other."""
    named = next((name for sign, name in NAMES.items() if start.startswith(sign)), "")
    return named or (LZMA if _LZMA_HEAD.match(start) else "")


def unpacked(source: Source, budget: Budget) -> MemorySource:
    """The unpacked bytes of a file.

    Args:
        source: A file of which ``packing_of`` knows the packing.
        budget: Of the outermost file.

    Raises:
        UnreadableError: Damaged.
        RefusedError: Past the limits.
        ImportError: It takes a package that is missing (zstd before Python 3.14).
    """
    start = source.read_at(0, min(HEAD, source.size))
    fed = _Fed(source)
    data = bytearray()
    try:
        for piece in _pieces(start, fed):
            budget.unpack(len(piece))
            budget.spend(len(piece))
            data += piece
            if len(data) > max(_FREE, budget.limits.unpacked_ratio * fed.taken):
                raise RefusedError(
                    f"{source.name}: {len(data):,} bytes and more are packed into {fed.taken:,}",
                    limit="unpacked_ratio",
                )
    except fed.errors as error:
        raise UnreadableError(f"{source.name} cannot be unpacked ({error})", _LOST) from error
    return MemorySource(data, source.name)


class _Fed:
    """The packed bytes, as a stream that counts what was taken."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self.taken = 0
        self.errors: tuple[type[Exception], ...] = (OSError, EOFError, ValueError)
        """What says that it is damaged; of some packings an error of its own."""

    def read(self, length: int = _PIECE) -> bytes:
        """The next bytes, none at the end."""
        data = self._source.read_at(self.taken, min(length, self._source.size - self.taken))
        self.taken += len(data)
        return data


def _pieces(start: bytes, fed: _Fed) -> Iterator[bytes]:
    # Each is imported where a file of it is met.
    packing = packing_of(start)
    if packing in {NAMES[XZ], LZMA}:
        import lzma

        fed.errors += (lzma.LZMAError,)
        form = lzma.FORMAT_XZ if packing == NAMES[XZ] else lzma.FORMAT_ALONE
        # Beside the window a decompressor takes a little of its own.
        return _by(lambda: lzma.LZMADecompressor(form, memlimit=_WINDOW + _OWN), fed)
    if start.startswith(BZIP2):
        import bz2

        return _by(bz2.BZ2Decompressor, fed)
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        return _by_zstandard(fed)
    fed.errors += (zstd.ZstdError,)
    return _by(zstd.ZstdDecompressor, fed)


def _by(make: Callable[[], _Decompressor], fed: _Fed) -> Iterator[bytes]:
    """By decompressors of the standard library, one for each stream of several in a row."""
    machine, data = make(), fed.read()
    while True:
        piece = machine.decompress(data, _STEP)
        if piece:
            yield piece
        data = b""
        if machine.eof:
            data = machine.unused_data or fed.read()
            if not data.strip(b"\0"):
                return
            machine = make()
        elif machine.needs_input:
            data = fed.read()
            if not data:
                raise EOFError("it ends early")


def _by_zstandard(fed: _Fed) -> Iterator[bytes]:
    import zstandard

    fed.errors += (zstandard.ZstdError,)
    machine: Any = zstandard.ZstdDecompressor(max_window_size=_WINDOW)
    stream = machine.stream_reader(fed, read_size=_PIECE, read_across_frames=True)
    while piece := stream.read(_STEP):
        yield piece
