"""Zip archives put together byte by byte, as no library would write them."""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace


@dataclass(frozen=True)
class Member:
    """One member, as its own header and as the directory have it."""

    name: bytes
    data: bytes
    method: int = 0
    flags: int = 0
    checksum: int | None = None
    listed_name: bytes | None = None
    listed_method: int | None = None
    listed_flags: int | None = None
    listed_size: int | None = None
    descriptor: bool = False
    attributes: int = 0
    listed: bool = True
    extra: bytes = field(default=b"")

    @property
    def packed(self) -> bytes:
        if self.method != 8:
            return self.data
        machine = zlib.compressobj(9, zlib.DEFLATED, -15)
        return machine.compress(self.data) + machine.flush()


def archive(
    members: Sequence[Member], *, order: Sequence[int] | None = None, before: bytes = b""
) -> bytes:
    """The bytes of an archive; ``order`` is that of the directory."""
    body, entries = bytearray(before), []
    for member in members:
        packed, offset = member.packed, len(body)
        checksum = zlib.crc32(member.data) if member.checksum is None else member.checksum
        flags = member.flags | (8 if member.descriptor else 0)
        sizes = (0, 0, 0) if member.descriptor else (checksum, len(packed), len(member.data))
        body += struct.pack(
            "<4s5H3I2H", b"PK\3\4", 20, flags, member.method, 0, 0x21, *sizes,
            len(member.name), len(member.extra),
        ) + member.name + member.extra + packed  # fmt: skip
        if member.descriptor:
            body += struct.pack("<4s3I", b"PK\7\10", checksum, len(packed), len(member.data))
        name = member.name if member.listed_name is None else member.listed_name
        size = len(member.data) if member.listed_size is None else member.listed_size
        entry = struct.pack(
            "<4s6H3I5H2I", b"PK\1\2", 20, 20,
            flags if member.listed_flags is None else member.listed_flags,
            member.method if member.listed_method is None else member.listed_method,
            0, 0x21, checksum, len(packed) if member.listed_size is None else size, size,
            len(name), 0, 0, 0, 0, member.attributes, offset,
        ) + name  # fmt: skip
        if member.listed:
            entries.append(entry)
    begin = len(body)
    for index in order or range(len(entries)):
        body += entries[index]
    count = len(order or entries)
    body += struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, count, count, len(body) - begin, begin, 0)
    return bytes(body)


def changed(members: Sequence[Member], index: int, **how: object) -> list[Member]:
    """The members with one of them otherwise."""
    copy = list(members)
    copy[index] = replace(copy[index], **how)  # type: ignore[arg-type]
    return copy
