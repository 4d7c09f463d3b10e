"""What is packed by deflate, as a source that is read at any offset.

A first pass through the packed bytes finds the length, holds it against the checksum, and keeps
the state of the decompressor every so many bytes; a read then begins at the state before it.
Nothing goes to disk, and memory holds a few segments at a time.
"""

import zlib
from collections import OrderedDict

from normcheck.errors import RefusedError, UnreadableError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source, check_range

RAW, GZIP, ZLIB = -zlib.MAX_WBITS, zlib.MAX_WBITS | 16, zlib.MAX_WBITS
"""How the packed bytes are framed: not at all (in a zip), as a gzip file, or as joblib does."""
FRAMINGS = {RAW: "deflate", GZIP: "gzip", ZLIB: "zlib"}
_GZIP = b"\x1f\x8b\x08"
_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")
"""Deflate with a window of 32 KiB, of each level."""
_TRIED = 64
_PIECE = 1 << 18
"""Packed bytes read at a time."""
_SEGMENT = 1 << 20
"""Unpacked bytes between two kept states, at least; a state takes some 50 KB."""
_STATES = 2_048
_KEPT = 8
"""Unpacked segments that are held."""
_FREE = 16 << 20
"""Unpacked bytes up to which their ratio to the packed ones says nothing."""
_LOST = "the file is damaged; fetch it again"


@lazy_dataclass()
class _State:
    """Where a decompressor stood."""

    unpacked: int
    packed: int
    """Bytes that it had taken."""
    machine: "zlib._Decompress"


def framing_of(start: bytes) -> int | None:
    """How a file is packed by deflate that begins so; None where it is not.

    A text may begin like zlib (``x^2``), so a piece of that is unpacked.
    """
    if start.startswith(_GZIP):
        return GZIP
    if not start.startswith(_ZLIB):
        return None
    try:
        return ZLIB if zlib.decompressobj(ZLIB).decompress(start, _TRIED) else None
    except zlib.error:
        return None


class Inflated:
    """The unpacked bytes of a member or file, read at offsets; see the module."""

    def __init__(
        self,
        packed: Source,
        name: str,
        budget: Budget,
        framing: int = GZIP,
        *,
        length: int | None = None,
        checksum: int | None = None,
    ) -> None:
        """Nothing is unpacked yet.

        Args:
            packed: Exactly the packed bytes.
            name: How messages call it.
            budget: Of the outermost file: what is unpacked counts there.
            framing: ``RAW``, ``GZIP`` or ``ZLIB``.
            length: As an archive's directory declares it.
            checksum: CRC-32, likewise; None or 0 where there is none.
        """
        self._packed, self._name, self._budget, self._framing = packed, name, budget, framing
        self._declared, self._checksum = length, checksum
        self._states: list[_State] = []
        self._size = -1
        self._spacing = max(_SEGMENT, (length or packed.size * 4) // _STATES)
        self._kept: OrderedDict[int, bytes] = OrderedDict()

    @property
    def name(self) -> str:
        """What messages call it."""
        return self._name

    @property
    def packing(self) -> str:
        """How it is packed, as it is called."""
        return FRAMINGS[self._framing]

    @property
    def size(self) -> int:
        """Length in bytes when unpacked; all of it is unpacked once to know."""
        if self._size < 0:
            self._pass()
        return self._size

    def head(self, length: int) -> bytes:
        """Up to ``length`` first bytes, without a look at the rest."""
        if self._size >= 0:
            return self.read_at(0, min(length, self._size))
        machine = zlib.decompressobj(self._framing)
        packed = self._packed.read_at(0, min(4 * length + 1_024, self._packed.size))
        try:
            return machine.decompress(packed, length)
        except zlib.error as error:
            raise self._damaged(str(error)) from error

    def read_at(self, offset: int, length: int) -> bytes:
        """Exactly ``length`` bytes from ``offset``."""
        check_range(self._name, offset, length, self.size)
        parts: list[bytes] = []
        while length:
            number, begin = divmod(offset, self._spacing)
            part = self._segment(number)[begin : begin + length]
            parts.append(part)
            offset, length = offset + len(part), length - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def close(self) -> None:
        """Let go of what is held; the packed source is the box's business."""
        self._kept.clear()
        self._states.clear()

    def _pass(self) -> None:
        """Unpack everything once, keep states, and look at length and checksum."""
        machine = zlib.decompressobj(self._framing)
        taken, unpacked, checksum = 0, 0, 0
        states = [_State(0, 0, machine.copy())]
        try:
            while True:
                goal = len(states) * self._spacing
                data, taken = self._step(machine, taken, goal - unpacked)
                unpacked += len(data)
                checksum = zlib.crc32(data, checksum)
                self._count(len(data), unpacked, taken)
                if machine.eof and not self._another(machine, taken):
                    break
                if machine.eof:
                    raise self._damaged(f"several {self.packing} streams behind each other")
                if not data:
                    raise self._damaged("it ends early")
                if unpacked == goal:
                    left = len(machine.unconsumed_tail)
                    states.append(_State(unpacked, taken - left, machine.copy()))
        except zlib.error as error:
            raise self._damaged(str(error)) from error
        if self._declared is not None and unpacked != self._declared:
            raise self._damaged(f"it has {unpacked:,} bytes, declared are {self._declared:,}")
        if self._checksum and checksum != self._checksum:
            raise self._damaged("its checksum is wrong")
        self._states, self._size = states, unpacked

    def _another(self, machine: "zlib._Decompress", taken: int) -> bool:
        """Whether something but padding follows the end of the stream."""
        rest = machine.unused_data
        return bool(rest.strip(b"\0")) or taken < self._packed.size

    def _step(self, machine: "zlib._Decompress", taken: int, most: int) -> tuple[bytes, int]:
        """Some unpacked bytes, at most so many and none at the end; and packed bytes taken."""
        while not machine.eof:
            packed = machine.unconsumed_tail
            if not packed:
                packed = self._packed.read_at(taken, min(_PIECE, self._packed.size - taken))
                taken += len(packed)
            data = machine.decompress(packed, min(most, _SEGMENT))
            if data or not packed:
                return data, taken
        return b"", taken

    def _count(self, new: int, unpacked: int, taken: int) -> None:
        self._budget.unpack(new)
        ratio = self._budget.limits.unpacked_ratio
        if unpacked > max(_FREE, ratio * taken):
            raise RefusedError(
                f"{self._name}: {unpacked:,} bytes and more are packed into {taken:,}",
                limit="unpacked_ratio",
            )

    def _segment(self, number: int) -> bytes:
        known = self._kept.get(number)
        if known is not None:
            self._kept.move_to_end(number)
            return known
        state = self._states[number]
        machine, taken = state.machine.copy(), state.packed
        # What a copy has not consumed yet is read again from where it stopped.
        data = bytearray()
        wanted = min(self._spacing, self._size - state.unpacked)
        self._budget.unpack(wanted)
        packed = b""
        while len(data) < wanted:
            if not packed:
                packed = self._packed.read_at(taken, min(_PIECE, self._packed.size - taken))
                taken += len(packed)
            part = machine.decompress(packed, wanted - len(data))
            if not part and not packed:
                raise self._damaged("it changed while it was read")
            packed = machine.unconsumed_tail
            data += part
        self._kept[number] = bytes(data)
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[number]

    def _damaged(self, why: str) -> UnreadableError:
        return UnreadableError(f"{self._name} cannot be unpacked ({why})", _LOST)
