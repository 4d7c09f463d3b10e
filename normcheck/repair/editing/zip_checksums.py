"""The CRC-32 of zip members whose bytes are replaced, wherever the archive repeats it.

An archive names the checksum of a member up to three times: in the header before its bytes, in
the descriptor behind them (which torch uses), and in the directory at the end (PKWARE's
APPNOTE, 4.3.7 to 4.3.12).
"""

import struct
import zlib
from collections.abc import Iterator, Mapping

from normcheck.errors import UnreadableError
from normcheck.formats.zip_directory import Archive
from normcheck.formats.zip_members import open_archive
from normcheck.sources.source import Source

_LOCAL = struct.Struct("<4s10xI8xHH")
"""Signature, CRC, lengths of name and extra field."""
_LOCAL_CRC_AT = 14
_CENTRAL = struct.Struct("<4s24xHHH")
"""Signature, and after the CRC and the sizes the lengths of name, extra field and comment."""
_CENTRAL_SIZE = 46
_CENTRAL_CRC_AT = 16
_DESCRIPTOR = b"PK\x07\x08"
_HAS_DESCRIPTOR = 0x8
_PIECE = 1 << 20


def checksum_edits(source: Source, edits: Mapping[int, bytes]) -> Iterator[tuple[int, bytes]]:
    """What else has to change in a zip where the bytes of stored members change.

    A checksum that was wrong before (torch can leave them out) is left as it is.

    Args:
        source: The archive.
        edits: New bytes by their offset in the file.

    Raises:
        UnreadableError: The archive's directory is damaged.
    """
    archive = open_archive(source)
    places = list(_central_places(source, archive))
    for member, central in zip(archive.infolist(), places, strict=True):
        signature, local, name, extra = _LOCAL.unpack(
            source.read_at(member.header_offset, _LOCAL.size)
        )
        begin = member.header_offset + _LOCAL.size + name + extra
        if signature != b"PK\x03\x04":
            raise UnreadableError(f"{source.name}: the archive's directory is damaged")
        within = {
            offset - begin: data
            for offset, data in edits.items()
            if begin <= offset < begin + member.compress_size
        }
        if not within:
            continue
        old, new = _checksums(source, begin, member.compress_size, within)
        if old != member.CRC or old == new:
            continue
        packed = struct.pack("<I", new)
        yield central + _CENTRAL_CRC_AT, packed
        if local == old:
            yield member.header_offset + _LOCAL_CRC_AT, packed
        if member.flag_bits & _HAS_DESCRIPTOR:
            behind = begin + member.compress_size
            signed = source.read_at(behind, 4) == _DESCRIPTOR
            place = behind + 4 if signed else behind
            if source.read_at(place, 4) == struct.pack("<I", old):
                yield place, packed


def _central_places(source: Source, archive: Archive) -> Iterator[int]:
    """Where in the file each entry of the directory begins, in its order."""
    place = archive.start_dir
    for _ in archive.infolist():
        signature, name, extra, comment = _CENTRAL.unpack(source.read_at(place, _CENTRAL.size))
        if signature != b"PK\x01\x02":
            raise UnreadableError(f"{source.name}: the archive's directory is damaged")
        yield place
        place += _CENTRAL_SIZE + name + extra + comment


def _checksums(
    source: Source, begin: int, length: int, within: Mapping[int, bytes]
) -> tuple[int, int]:
    """CRC-32 of a run of bytes as it is, and as it will be."""
    old = new = 0
    for start in range(0, length, _PIECE):
        piece = source.read_at(begin + start, min(_PIECE, length - start))
        old = zlib.crc32(piece, old)
        new = zlib.crc32(overlaid(piece, start, within), new)
    return old, new


def overlaid(piece: bytes, start: int, edits: Mapping[int, bytes]) -> bytes:
    """A piece of a file with the edits that touch it.

    Args:
        piece: The bytes from ``start`` on.
        start: Where in the file it begins.
        edits: New bytes by their offset in the file.
    """
    changed: bytearray | None = None
    for offset, data in edits.items():
        first, last = max(offset, start), min(offset + len(data), start + len(piece))
        if first < last:
            changed = bytearray(piece) if changed is None else changed
            changed[first - start : last - start] = data[first - offset : last - offset]
    return piece if changed is None else bytes(changed)
