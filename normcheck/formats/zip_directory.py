"""The directory of a zip archive in columns, as torch writes it.

``zipfile`` makes an object of every member, and of a large checkpoint most are never looked at.
What is out of the ordinary (comments, several disks, something before the archive, two members of
one name, damage) is left to ``zipfile``: nothing is refused here.
"""

import os
import struct
import zipfile
from array import array
from typing import Protocol

from normcheck.sources.limits import Budget
from normcheck.sources.source import Source, whole_of

LOCAL_HEADER = struct.Struct("<4s2xHH16xHH")
"""Signature, flags, method, then the lengths of the name and of the extra field."""
ENCRYPTED = 0x1 | 0x40 | 0x2000
"""Flags: encrypted, strongly encrypted, its header masked."""
UTF8 = 0x800
_PER_DIRECTORY_BYTE = 8
"""Memory per byte of an archive's directory in columns, from above: 46 bytes and a name become a
name and its place by name, some 300 bytes while tables grow."""
_END = struct.Struct("<4s8xIIH")
"""Signature, size and place of the directory, length of a comment."""
_LOCATOR = struct.Struct("<4sIQI")
_END64 = struct.Struct("<4sQ4xIIQQQQ")
_ENTRY = struct.Struct("<4s2xBxHH4xIIIHHH8xI")
_ZIP64 = b"\x01\x00"
_NEWEST = 63
"""Versions of the format that ``zipfile`` knows."""
_ELSEWHERE = 0xFFFF_FFFF
"""What stands for a number that a field of its own has in 64 bits."""
_NEAR = 2 << 10
"""Bytes of a member up to which the header behind it is read along with its own."""
_WINDOW = 64 << 10


class Archive(Protocol):
    """The directory of a zip archive, by ``zipfile`` or in columns."""

    start_dir: int
    """Where in the file it begins."""

    def namelist(self) -> list[str]:
        """The names of all members, in order."""
        ...

    def infolist(self) -> list[zipfile.ZipInfo]:
        """All members, in order."""
        ...

    def getinfo(self, name: str) -> zipfile.ZipInfo:
        """The member of a name; a ``KeyError`` where there is none."""
        ...


class Directory:
    """A directory in columns."""

    def __init__(self, start_dir: int) -> None:
        """Empty; ``start_dir`` is where in the file it begins."""
        self.start_dir = start_dir
        self.names: list[str] = []
        self.places: dict[str, int] = {}
        """Of the members in the columns, by name."""
        self.flags, self.methods = array("H"), array("H")
        self.checksums = array("I")
        self.packed, self.sizes, self.headers = array("q"), array("q"), array("q")
        """Lengths as stored and unpacked, and places of the members' own headers, in bytes."""
        self._window = (0, b"")

    def namelist(self) -> list[str]:
        """The names of all members, in order."""
        return self.names

    def infolist(self) -> list[zipfile.ZipInfo]:
        """All members, in order."""
        return [self.member(place) for place in range(len(self.names))]

    def getinfo(self, name: str) -> zipfile.ZipInfo:
        """The member of a name; a ``KeyError`` where there is none."""
        return self.member(self.places[name])

    def member(self, place: int) -> zipfile.ZipInfo:
        """The member in a place of the columns."""
        member = zipfile.ZipInfo(self.names[place])
        member.flag_bits, member.compress_type = self.flags[place], self.methods[place]
        member.CRC = self.checksums[place]
        member.compress_size, member.file_size = self.packed[place], self.sizes[place]
        member.header_offset = self.headers[place]
        return member

    def data_offset(self, source: Source, place: int) -> int | None:
        """Where the bytes of a stored member begin, whose own header agrees with the directory.

        Headers near each other are read at once: nobody reads the directory of a distant file in
        columns.

        Returns:
            None where it does not agree, or anything else is to be looked at more closely.
        """
        name, size, header = self.names[place], self.sizes[place], self.headers[place]
        if (
            self.methods[place] != zipfile.ZIP_STORED
            or self.packed[place] != size
            or self.flags[place] & ENCRYPTED
            or not name.isascii()
        ):
            return None
        length = LOCAL_HEADER.size + len(name)
        begin, window = self._window
        at = header - begin
        if at < 0 or at + length > len(window):
            if header < 0 or header + length > source.size:
                return None
            begin, window = 0, whole_of(source)
            if not window:
                wanted = min(_WINDOW, source.size - header) if size <= _NEAR else length
                begin, window = header, source.read_at(header, max(wanted, length))
            at = header - begin
            self._window = begin, window
        signature, flags, method, named, extra = LOCAL_HEADER.unpack_from(window, at)
        if (
            signature != b"PK\x03\x04"
            or method != zipfile.ZIP_STORED
            or flags & ENCRYPTED
            or window[at + LOCAL_HEADER.size : at + LOCAL_HEADER.size + named] != name.encode()
        ):
            return None
        offset: int = header + LOCAL_HEADER.size + named + extra
        return offset if offset + size <= source.size else None


def read_directory(source: Source, budget: Budget) -> Directory | None:
    """The directory of an archive; None where ``zipfile`` is to read it.

    Args:
        source: The file.
        budget: Of the file.

    Raises:
        RefusedError: Past the limits.
    """
    found = _found(source)
    if found is None:
        return None
    begin, size = found
    budget.spend(size * _PER_DIRECTORY_BYTE)
    directory = Directory(begin)
    return directory if _fill(directory, source.read_at(begin, size)) else None


def _found(source: Source) -> tuple[int, int] | None:
    """Where the directory begins, and its length; right behind it the archive ends."""
    tail = source.read_at(max(0, source.size - _TAIL), min(_TAIL, source.size))
    if len(tail) < _TAIL:
        return None
    signature, size, begin, comment = _END.unpack_from(tail, _TAIL - _END.size)
    behind = source.size - _END.size
    if signature != b"PK\x05\x06" or comment:
        return None
    mark, disk, place, disks = _LOCATOR.unpack_from(tail, _END64.size)
    if mark == b"PK\x06\x07":
        behind -= _LOCATOR.size + _END64.size
        mark, length, this, first, here, entries, size, begin = _END64.unpack_from(tail)
        usual = mark == b"PK\x06\x06" and length == _END64.size - 12 and here == entries
        if not usual or place != behind or disk or disks > 1 or this or first:
            return None
    return (begin, size) if begin + size == behind else None


_TAIL = _END64.size + _LOCATOR.size + _END.size


def _fill(directory: Directory, raw: bytes) -> bool:
    """Read the entries; False where one of them is out of the ordinary."""
    entry, names = _ENTRY.unpack_from, directory.names
    flags, methods, checksums = directory.flags, directory.methods, directory.checksums
    packed, sizes, headers = directory.packed, directory.sizes, directory.headers
    at, end = 0, len(raw)
    try:
        while at < end:
            (
                signature, version, flag, method, checksum, stored, size, named, extra, comment,
                header,
            ) = entry(raw, at)  # fmt: skip
            at += _ENTRY.size
            text = raw[at : at + named]
            name = text.decode("utf-8" if flag & UTF8 or text.isascii() else "cp437")
            at += named
            if extra:
                whole = _in_64_bits(raw[at : at + extra], size, stored, header)
                if whole is None:
                    return False
                size, stored, header = whole
                at += extra
            if signature != b"PK\x01\x02" or version > _NEWEST or comment or "\0" in name:
                return False
            names.append(name)
            flags.append(flag)
            methods.append(method)
            checksums.append(checksum)
            packed.append(stored)
            sizes.append(size)
            headers.append(header)
    except (struct.error, ValueError, OverflowError):
        return False
    directory.places.update(zip(names, range(len(names)), strict=True))
    other = os.sep != "/" and any(os.sep in name for name in names)
    return at == end and len(directory.places) == len(names) and not other


def _in_64_bits(extra: bytes, size: int, stored: int, header: int) -> tuple[int, int, int] | None:
    """The numbers of an entry, those taken from its extra field that stand there."""
    if extra[:2] != _ZIP64 or int.from_bytes(extra[2:4], "little") != len(extra) - 4:
        return None
    numbers = [size, stored, header]
    at = 4
    for place, number in enumerate(numbers):
        if number == _ELSEWHERE:
            if at + 8 > len(extra):
                return None
            numbers[place] = int.from_bytes(extra[at : at + 8], "little")
            at += 8
    return numbers[0], numbers[1], numbers[2]
