"""Members of a tar archive, found header by header; only regular files are looked into.

Read by hand rather than with ``tarfile``, which reads an extended header of any length into memory.
POSIX (ustar, pax) and GNU long names are known. Nothing is unpacked, so that a link or a name that
leads elsewhere can harm nobody here; an archive with such a name is refused all the same, for
whoever unpacks it.
"""

from collections.abc import Iterator

from normcheck.errors import RefusedError, UnreadableError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source

_BLOCK = 512
_LONGEST_EXTENDED = 1 << 20
"""Bytes of an extended header; real ones hold a name and some numbers."""
_MEMBER_BYTES = 1_024
_REGULAR = (b"0", b"\0", b"7")
_DIRECTORY, _GNU_NAME, _GNU_LINK, _PAX, _PAX_GLOBAL = b"5", b"L", b"K", b"x", b"g"
_LINKS = (b"1", b"2")
_DAMAGED = "the file is damaged; fetch it again"


@lazy_dataclass()
class TarMember:
    """A regular file in the archive."""

    name: str
    offset: int
    length: int


def is_tar(start: bytes) -> bool:
    """Whether the first bytes are a tar header, by its checksum."""
    if len(start) < _BLOCK or not start[:1].strip(b"\0"):
        return False
    try:
        return _number(start[148:156]) == _checksum(start[:_BLOCK])
    except ValueError:
        return False


def tar_members(source: Source, budget: Budget) -> Iterator[TarMember]:
    """The regular files, in order.

    Raises:
        UnreadableError: Damaged, or a member's header makes no sense.
        RefusedError: Past the limits.
    """
    position, longer = 0, dict[str, str]()
    while position + _BLOCK <= source.size:
        header = source.read_at(position, _BLOCK)
        if not header.strip(b"\0"):
            return
        budget.copy(1)
        budget.spend(_MEMBER_BYTES)
        try:
            if _number(header[148:156]) != _checksum(header):
                raise ValueError
            length = int(longer["size"]) if "size" in longer else _number(header[124:136])
        except ValueError:
            raise UnreadableError(
                f"{source.name}: the tar header at byte {position:,} is not valid", _DAMAGED
            ) from None
        kind, begin = header[156:157], position + _BLOCK
        if length < 0 or begin + length > source.size:
            raise UnreadableError(
                f"{source.name}: a member reaches past the end of the archive",
                "it is probably a truncated download; fetch it again and compare sizes",
            )
        position = begin + -(-length // _BLOCK) * _BLOCK
        if kind in (_GNU_NAME, _PAX, _GNU_LINK, _PAX_GLOBAL):
            if kind in (_GNU_NAME, _PAX):
                longer |= _extended(source, kind, begin, length, budget)
            continue
        name = longer.get("path") or _name(header)
        longer = {}
        if kind in _REGULAR and not name.endswith("/"):
            yield TarMember(name, begin, length)


def _extended(
    source: Source, kind: bytes, begin: int, length: int, budget: Budget
) -> dict[str, str]:
    """What an extended header says of the member behind it: its name, its length."""
    if length > _LONGEST_EXTENDED:
        raise RefusedError(f"{source.name}: a member's name of {length:,} bytes")
    budget.spend(8 * length)
    raw = source.read_at(begin, length)
    if kind == _GNU_NAME:
        return {"path": raw.rstrip(b"\0").decode("utf-8", "replace")}
    found: dict[str, str] = {}
    at = 0
    while at < len(raw):
        digits, space, _ = raw[at : at + 24].partition(b" ")
        if not space or not digits.isdigit() or int(digits) <= len(digits) + 1:
            break
        record = raw[at + len(digits) + 1 : at + int(digits)].rstrip(b"\n")
        key, _, value = record.decode("utf-8", "replace").partition("=")
        if key in ("path", "size"):
            found[key] = value
        at += int(digits)
    return found


def _name(header: bytes) -> str:
    name, prefix = (part.partition(b"\0")[0] for part in (header[:100], header[345:500]))
    posix = header[257:263] == b"ustar\0"
    return (prefix + b"/" + name if prefix and posix else name).decode("utf-8", "replace")


def _number(field: bytes) -> int:
    """Octal digits, or 256-based where they did not suffice."""
    if field[0] & 0x80:
        return int.from_bytes(bytes((field[0] & 0x7F,)) + field[1:], "big")
    digits = field.strip(b" \0")
    return int(digits, 8) if digits else 0


def _checksum(header: bytes) -> int:
    return sum(header[:148]) + 8 * 0x20 + sum(header[156:_BLOCK])
