"""Members of a zip archive, found in its directory and checked against what lies there.

The directory at the end of an archive and the header before each member say the same
twice, and programs differ in which of the two they believe. Where the two disagree, or two
members have one name, another program may read something else than we do: such an archive
is an error, and nothing of it is judged.
"""

import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from normcheck.errors import RefusedError, UnreadableError
from normcheck.formats.zip_directory import (
    ENCRYPTED,
    LOCAL_HEADER,
    UTF8,
    Archive,
    Directory,
    read_directory,
)
from normcheck.saved.tensors import InPlace, PlainRegion, Region
from normcheck.sources.limits import Budget
from normcheck.sources.source import Bytes, Source, counted_stream, is_distant, view_at

_PIECE = 1 << 20
"""Bytes read, or unpacked, at a time."""
_SMALL = 8 << 20
"""Bytes of a stored member up to which a look at a part of it costs a look at all of it, for its
checksum. Statistics are smaller; of weights that are larger, a sample is not checked."""
_PADDING = 128
"""Bytes of extra field before a member's data that are fetched with it; torch aligns to 64."""
_PAGE = 4096
"""Bytes of a packed member up to which its ratio says nothing."""
_PER_DIRECTORY_BYTE = 16
"""Memory per byte of an archive's directory, from above: 46 bytes and a name become an
object of about 500, its name and its place by name."""
_CUT_OFF = "it is probably a truncated download; fetch it again and compare sizes"
_AS_TEXT = (
    "something took it for text and replaced the bytes that are none; fetch it again as binary"
)
_SAMPLE = 64 << 10
_REPLACED = b"\xef\xbf\xbd"
"""U+FFFD in UTF-8, for bytes that were no text."""
_OFTEN = 16
_FETCH = "the file is damaged; fetch it again"
_REWRITTEN = "the archive was changed or made to harm; fetch it again, or save it again with torch"


def open_archive(source: Source, budget: Budget | None = None) -> Archive:
    """The directory of ``source``; members are read by what :func:`find` returns.

    Raises:
        UnreadableError: It begins like a zip and is none, most often cut off; or it has two
            members of one name.
        RefusedError: More members than the limits allow.
    """
    archive = _directory(source, budget or Budget())
    _check_case(source, archive.namelist())
    return archive


def _directory(source: Source, budget: Budget) -> Archive:
    # A distant file is read as zipfile does it, most of whose looks its cache answers.
    columns = None if is_distant(source) else read_directory(source, budget)
    if columns is not None:
        return columns
    raw = counted_stream(source, budget, _PER_DIRECTORY_BYTE)
    try:
        archive = zipfile.ZipFile(raw)
    except _DIRECTORY_ERRORS as error:
        raise UnreadableError(
            f"{source.name}: a zip archive whose directory cannot be read ({error})",
            _AS_TEXT if _was_text(source) else _CUT_OFF,
        ) from error
    raw.budget = None
    names = archive.namelist()
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise UnreadableError(
            f"{source.name}: the archive holds {twice[:80]} more than once", _REWRITTEN
        )
    return archive


def _was_text(source: Source) -> bool:
    """Whether bytes were replaced: every archive has zeros, in its first header already."""
    start = source.read_at(0, min(_SAMPLE, source.size))
    return b"\0" not in start or start.count(_REPLACED) >= _OFTEN


def _check_case(source: Source, names: list[str]) -> None:
    """Refuse names that differ in case alone: torch looks members up without regard to it.

    Code of TorchScript aside, whose files are named after classes; torch reads it by its list.

    Raises:
        UnreadableError: There are two.
    """
    joined = "\n".join(names)
    if joined == joined.lower():  # as torch's are, the folder perhaps aside
        return
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(name.lower(), name)
        if other != name and "/code/" not in name:
            raise UnreadableError(
                f"{source.name}: the archive holds {other[:80]} and {name[:80]}: which one a "
                "program reads is its choice",
                _REWRITTEN,
            )


_DIRECTORY_ERRORS = (
    zipfile.BadZipFile, EOFError, NotImplementedError, OSError, ValueError, struct.error,
    OverflowError,
)  # fmt: skip
"""What ``zipfile`` raises for a damaged directory."""


def find(source: Source, member: zipfile.ZipInfo, budget: Budget) -> Region:
    """Where the bytes of a member lie.

    Raises:
        UnreadableError: Encrypted, packed by an unusual method, outside the file, or another
            member than the directory says.
    """
    name = f"{source.name}: {member.filename[:80]}"
    if member.flag_bits & ENCRYPTED:
        raise UnreadableError(f"{name} is encrypted", "unpack it and scan the result")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise UnreadableError(
            f"{name} is compressed by an unusual method", "unpack it and scan the result"
        )
    if member.header_offset < 0:
        raise UnreadableError(f"{name} lies outside the file", _FETCH)
    packed = member.compress_type == zipfile.ZIP_DEFLATED
    # Each look is a journey to a distant file: members that are never read are not looked at.
    offset = None if is_distant(source) and not packed else _data_offset(source, member)
    if offset is not None and packed:
        return DeflatedRegion(source, offset, member, budget)
    if member.compress_size != member.file_size:
        raise UnreadableError(f"{name}: a stored member with two lengths", _REWRITTEN)
    _check_within(source, member, offset or member.header_offset + LOCAL_HEADER.size)
    return StoredRegion(source, member.file_size, member, _offset=offset)


def find_named(source: Source, archive: Archive, name: str, budget: Budget) -> Region:
    """The same for a member by its name, of which there may be very many.

    Raises:
        KeyError: There is no such member.
        UnreadableError: As for :func:`find`.
    """
    if isinstance(archive, Directory):
        place = archive.places[name]
        offset = archive.data_offset(source, place)
        if offset is not None:
            return StoredRegion(source, archive.sizes[place], None, archive, place, offset)
    return find(source, archive.getinfo(name), budget)


def packed_part(source: Source, member: zipfile.ZipInfo, budget: Budget) -> Region:
    """The packed bytes of a deflated member, as they lie in the file.

    Raises:
        UnreadableError: As for :func:`find`.
    """
    find(source, member, budget)
    return PlainRegion(source, _data_offset(source, member), member.compress_size)


def _check_within(source: Source, member: zipfile.ZipInfo, offset: int) -> None:
    if offset + member.compress_size > source.size:
        raise UnreadableError(
            f"{source.name}: {member.filename[:80]}: the archive member lies outside the file",
            _FETCH,
        )


def _data_offset(source: Source, member: zipfile.ZipInfo) -> int:
    """Where the bytes of a member begin, and whether its own header agrees with the directory."""
    # Name and extra field may differ in length from the directory's, which torch pads to
    # align the data: only the local header says where the bytes begin.
    name = f"{source.name}: {member.filename[:80]}"
    expected = LOCAL_HEADER.size + len(member.orig_filename)
    start = source.read_at(
        member.header_offset, min(expected, max(0, source.size - member.header_offset))
    )
    if len(start) < LOCAL_HEADER.size or start[:4] != b"PK\x03\x04":
        raise UnreadableError(f"{name}: the archive member lies outside the file", _FETCH)
    _, flags, method, name_length, extra_length = LOCAL_HEADER.unpack_from(start)
    offset: int = member.header_offset + LOCAL_HEADER.size + name_length + extra_length
    _check_within(source, member, offset)
    written = start[LOCAL_HEADER.size :][:name_length]
    if len(written) < name_length:
        # Letters that take several bytes each.
        written = source.read_at(member.header_offset + LOCAL_HEADER.size, name_length)
    if (
        written.decode("utf-8" if flags & UTF8 else "cp437", "replace") != member.orig_filename
        or method != member.compress_type
        or flags & ENCRYPTED
    ):
        raise UnreadableError(
            f"{name}: the archive's directory and the member's own header disagree", _REWRITTEN
        )
    return offset


def has_checksum(member: zipfile.ZipInfo) -> bool:
    """Whether a checksum was written; torch leaves it at 0 where it is told not to count one."""
    return member.CRC != 0


@dataclass(slots=True)
class StoredRegion(InPlace):
    """A member that lies in the file as it is; its checksum is held against it once."""

    source: Source
    nbytes: int
    """Length in bytes."""
    _member: zipfile.ZipInfo | None
    """None for one of many, until it is asked for; it is then made of the next two."""
    _directory: Directory | None = None
    _place: int = 0
    _offset: int | None = None
    """None until the member's own header, which tells it, is looked at."""
    _checked: bool = False
    _passed: int = 0
    """Bytes from the start that were read one behind the other, and their checksum so far."""
    _checksum: int = 0

    @property
    def member(self) -> zipfile.ZipInfo:
        """What the directory says of it."""
        if self._member is None:
            assert self._directory is not None  # noqa: S101  (one of the two is there)
            self._member = self._directory.member(self._place)
        return self._member

    @property
    def checksum(self) -> int:
        """As the directory has it; 0 where none was written."""
        if self._directory is not None:
            return self._directory.checksums[self._place]
        return self.member.CRC

    @property
    def offset(self) -> int:
        """Where in the file the bytes begin."""
        if self._offset is None:
            self._offset = _data_offset(self.source, self.member)
        return self._offset

    def spans(self, start: int, length: int) -> Iterator[tuple[Source, int, int]]:
        """The member's own header, and the whole of it where its checksum is looked at."""
        if self._offset is None:
            header = LOCAL_HEADER.size + len(self.member.orig_filename) + _PADDING
            if self.nbytes <= _SMALL:
                yield self.source, self.member.header_offset, header + self.nbytes
            else:
                yield self.source, self.member.header_offset, header
                yield (
                    self.source,
                    self.member.header_offset + header - _PADDING + start,
                    (length + _PADDING),
                )
        elif self.nbytes <= _SMALL and not self._checked:
            yield self.source, self._offset, self.nbytes
        else:
            yield self.source, self._offset + start, length

    def read(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``, after a look at the whole member where it is small."""
        return bytes(self.view(start, length))  # of bytes no copy

    def view(self, start: int, length: int) -> Bytes:
        """The same."""
        if start + length > self.nbytes:
            raise _cannot_unpack(self.source, self.member, "it ends early")
        offset = self.offset if self._offset is None else self._offset
        if self._checked or not self.checksum:
            return view_at(self.source, offset + start, length)
        if length == self.nbytes:
            data = view_at(self.source, offset + start, length)
            self._compare(zlib.crc32(data))
            self._checked = True
            return data
        if self.nbytes > _SMALL:
            return self._read_on(start, length)
        checksum = 0
        for piece in range(0, self.nbytes, _PIECE):
            part = view_at(self.source, offset + piece, min(_PIECE, self.nbytes - piece))
            checksum = zlib.crc32(part, checksum)
        self._compare(checksum)
        self._checked = True
        return view_at(self.source, offset + start, length)

    def _read_on(self, start: int, length: int) -> bytes:
        """A part of a large member; reading all of it in order reveals damage at its end."""
        data = self.source.read_at(self.offset + start, length)
        if start == 0:
            self._passed, self._checksum = 0, 0
        if start == self._passed:
            self._passed += length
            self._checksum = zlib.crc32(data, self._checksum)
            if self._passed == self.nbytes:
                self._compare(self._checksum)
                self._checked = True
        return data

    def _compare(self, checksum: int) -> None:
        if checksum != self.checksum:
            _compare(self.source, self.member, checksum)


@dataclass(slots=True)
class DeflatedRegion:
    """A member of a zip that somebody packed again with compression; torch never does."""

    source: Source
    offset: int
    member: zipfile.ZipInfo
    budget: Budget
    _kept: bytes = field(default=b"", repr=False)
    """A short member once unpacked: many tensors may lie in one."""

    @property
    def nbytes(self) -> int:
        """Length when unpacked, as the archive declares it."""
        return self.member.file_size

    def spans(self, _start: int, _length: int) -> Iterator[tuple[Source, int, int]]:
        """All of it, as it is packed."""
        yield self.source, self.offset, self.member.compress_size

    def read(self, start: int, length: int) -> bytes:
        """Unpack it all, for its checksum, and keep what is asked for."""
        if start + length > self.nbytes:
            raise _cannot_unpack(self.source, self.member, "it ends early")
        if self._kept:
            return self._kept[start : start + length]
        ratio = self.budget.limits.unpacked_ratio
        if self.nbytes <= _PIECE:
            self._kept = self._unpacked(0, self.nbytes)
            return self._kept[start : start + length]
        if length > ratio * max(self.member.compress_size, _PAGE):
            raise RefusedError(
                f"{self.member.filename[:80]}: {length:,} bytes are packed into "
                f"{self.member.compress_size:,}",
                limit="unpacked_ratio",
            )
        return self._unpacked(start, length)

    def _unpacked(self, start: int, length: int) -> bytes:
        self.budget.unpack(self.nbytes)
        machine = zlib.decompressobj(-zlib.MAX_WBITS)
        kept, position, checksum, taken = bytearray(), 0, 0, 0
        try:
            while not machine.eof:
                packed = machine.unconsumed_tail
                if not packed and taken < self.member.compress_size:
                    size = min(_PIECE, self.member.compress_size - taken)
                    packed = self.source.read_at(self.offset + taken, size)
                    taken += size
                part = machine.decompress(packed, _PIECE)
                if not part and not packed:
                    break
                if position + len(part) > self.nbytes:
                    raise _cannot_unpack(self.source, self.member, "it is longer than declared")
                checksum = zlib.crc32(part, checksum)
                kept += part[max(0, start - position) : max(0, start + length - position)]
                position += len(part)
        except zlib.error as error:
            raise _cannot_unpack(self.source, self.member, str(error)) from error
        if position != self.nbytes:
            raise _cannot_unpack(self.source, self.member, "it ends early")
        if has_checksum(self.member):
            _compare(self.source, self.member, checksum)
        return bytes(kept)


def _compare(source: Source, member: zipfile.ZipInfo, checksum: int) -> None:
    if checksum != member.CRC:
        raise UnreadableError(
            f"{source.name}: the checksum of {member.filename[:80]} is wrong: its bytes are not "
            "those that were saved",
            "the file is damaged; fetch it again and compare its hash with the original's",
        )


def _cannot_unpack(source: Source, member: zipfile.ZipInfo, why: str) -> UnreadableError:
    return UnreadableError(
        f"{source.name}: {member.filename[:80]} cannot be unpacked ({why})", _FETCH
    )
