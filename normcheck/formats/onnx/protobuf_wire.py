"""An ONNX message without its large tensors, taken from the file piece by piece.

The package that parses ONNX takes a whole message, and memory for it twice. So the messages are
walked by their lengths first, through a window of the file, without building anything. That
counts what parsing will take (a message of two bytes becomes an object of some hundred, so that
a small file can ask for any amount of memory), and leaves the values of large tensors where they
are: the parser gets a message with notes of their places instead.

The encoding is that of https://protobuf.dev/programming-guides/encoding/.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from normcheck.errors import RefusedError, UnreadableError
from normcheck.sources.limits import Budget
from normcheck.sources.source import Source, is_distant

_MESSAGE_BYTES = 512
"""A message and the object that shows it to Python, from above."""
_FIELD_BYTES = 48
"""A string or a number of a repeated field, beside the characters of the first."""
_PIECE_BYTES = 400
"""What is kept of one value that is left out: three pieces of the message, and its place."""
_UNPACKED = 8
"""Times that packed numbers, a byte each in the file, grow in memory."""
_DEPTH = 100
"""Messages within messages; the parser follows no more either."""
_VARINT_BYTES = 10
_HEAD_BYTES = 2 * _VARINT_BYTES
"""The longest tag with the longest length behind it."""
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}
"""Lengths of the wire types that have one."""
_TEXT, _BYTES = 9, 12
"""What protobuf calls the types of strings and of bytes."""

_TENSOR = "onnx.TensorProto"
_RAW, _FLOATS, _DOUBLES, _EXTERNAL = 9, 4, 10, 13
"""Fields of a tensor: bytes, packed numbers that are stored like these, and the list of texts
that say where external data lie, into which the notes are put."""
_LARGE = 1 << 10
"""Bytes of a tensor's values from which on they stay in the file. Axes and shapes are shorter."""
_WINDOW, _FAR_WINDOW = 1 << 16, 1 << 20
"""Bytes that are read at once: of a remote file as many as come in the time of a request."""

Span = tuple[int, int]
"""Begin and end in the file."""


@dataclass(frozen=True, slots=True)
class TensorSpan:
    """Where in the file the values of a tensor lie."""

    offset: int
    nbytes: int
    field: str
    """The name of the field that they were in."""


_NAMES = {_RAW: "raw_data", _FLOATS: "float_data", _DOUBLES: "double_data"}


@dataclass(frozen=True, slots=True)
class Lean:
    """A message without the values of large tensors."""

    data: bytes
    note: str
    """The key of a tensor's external data under which the number of its place stands. No file
    can know it: it is drawn anew each time."""
    places: tuple[TensorSpan, ...]


@dataclass(slots=True, eq=False)
class _Schema:
    """Of one message type: what lies behind the numbers of its fields."""

    messages: dict[int, "_Schema"] = field(default_factory=dict)
    texts: frozenset[int] = frozenset()
    plain: frozenset[int] = frozenset()
    """Bytes of any kind: neither numbers nor text."""
    values: frozenset[int] = frozenset()
    """Fields whose values may stay in the file."""


@dataclass(slots=True, eq=False)
class _Open:
    """A message that is walked."""

    start: int
    """Of its tag in the message around it."""
    end: int
    schema: _Schema
    number: int
    whole_from: int
    """From here on it is what it was."""
    pieces: list[Span | bytes] = field(default_factory=list)
    """What it is up to there, and how long that is."""
    size: int = 0
    noted: bool = False
    """Whether it is a tensor whose values were left out already."""

    def instead(self, start: int, end: int, pieces: list[Span | bytes], size: int) -> None:
        """Put other pieces, of that length together, in the place of a part of it."""
        if start > self.whole_from:
            self.pieces.append((self.whole_from, start))
        self.pieces += pieces
        self.size += start - self.whole_from + size
        self.whole_from = end


def lean(source: Source, message_type: Any, budget: Budget) -> Lean:
    """The message without the values of large tensors, and where these are.

    Args:
        source: The file, which is one message.
        message_type: Its descriptor; protobuf has no types for these.
        budget: In which is counted what parsing will take.

    Raises:
        UnreadableError: Lengths that do not fit in each other; most often it is cut off.
        RefusedError: Past the limits.
    """
    window = _Window(source, budget)
    note = f"normcheck {secrets.token_hex(8)}"
    places: list[TensorSpan] = []
    position, schema = 0, _schema(message_type, {})
    whole = _Open(0, source.size, schema, 0, 0)
    stack = [whole]
    while stack:
        message = stack[-1]
        if position == message.end:
            stack.pop()
            if stack and message.pieces:
                _close(message, stack[-1])
            continue
        start = position
        number, wire_type, length, position = window.field(position, message.end)
        if wire_type == _VARINT:
            budget.spend(_FIELD_BYTES)
            continue
        schema = message.schema
        inner = schema.messages.get(number)
        if wire_type == _LENGTH_DELIMITED and inner is not None:
            budget.spend(_MESSAGE_BYTES)
            if len(stack) >= _DEPTH:
                raise RefusedError(f"messages nested more than {_DEPTH} deep")
            stack.append(_Open(start, position + length, inner, number, position))
            continue
        if wire_type == _LENGTH_DELIMITED and length > _LARGE and number in schema.values:
            if message.noted:
                raise damaged(f"a tensor has its values twice, at byte {start:,}")
            budget.spend(_PIECE_BYTES)
            entry = _entry(note, len(places))
            message.instead(start, position + length, [entry], len(entry))
            message.noted = True
            places.append(TensorSpan(position, length, _NAMES[number]))
        else:
            text = number in schema.texts and wire_type == _LENGTH_DELIMITED
            packed = wire_type == _LENGTH_DELIMITED and not text and number not in schema.plain
            budget.spend(_FIELD_BYTES + length * (_UNPACKED if packed else 1))
            if text:
                # The parser would give such a name as bytes, which nothing behind it expects.
                window.check_text(position, length)
        position += length
    whole.instead(source.size, source.size, [], 0)
    return Lean(_joined(source, whole.pieces, budget), note, tuple(places))


class _Window:
    """A file of which a part is here."""

    def __init__(self, source: Source, budget: Budget) -> None:
        self._source = source
        self._length = _FAR_WINDOW if is_distant(source) else _WINDOW
        self._data = b""
        self._base = 0
        budget.spend(self._length)

    def field(self, position: int, end: int) -> tuple[int, int, int, int]:
        """Number, wire type and length of a field, and where its content begins.

        A number's content is taken with it.
        """
        head = self.at(position, min(_HEAD_BYTES, end - position))
        tag, at = _varint(head, 0, position)
        number, wire_type = tag >> 3, tag & 7
        length = _FIXED.get(wire_type, -1)
        if wire_type in (_VARINT, _LENGTH_DELIMITED):
            length, at = _varint(head, at, position)
        begin = position + at
        if wire_type == _VARINT:
            return number, wire_type, 0, begin
        if length < 0 or begin + length > end:
            raise damaged(f"a part of it reaches past its end at byte {begin:,}")
        return number, wire_type, length, begin

    def check_text(self, position: int, length: int) -> None:
        """Look whether what should be text is text."""
        try:
            self.at(position, length).decode()
        except UnicodeDecodeError as error:
            raise damaged(f"what should be text at byte {position:,} is none") from error

    def at(self, position: int, length: int) -> bytes:
        """Some bytes of the file."""
        begin = position - self._base
        if begin < 0 or begin + length > len(self._data):
            wanted = max(length, min(self._length, self._source.size - position))
            self._data, self._base = self._source.read_at(position, wanted), position
            begin = 0
        return self._data[begin : begin + length]


def _close(message: _Open, around: _Open) -> None:
    """Put a message that lost something into the one around it, with its new length."""
    message.instead(message.end, message.end, [], 0)
    head = _as_varint(message.number << 3 | _LENGTH_DELIMITED) + _as_varint(message.size)
    pieces = [head, *message.pieces]
    around.instead(message.start, message.end, pieces, len(head) + message.size)


def _entry(note: str, place: int) -> bytes:
    """An entry of a tensor's external data."""
    texts = b"".join(
        _as_varint(number << 3 | _LENGTH_DELIMITED) + _as_varint(len(text)) + text.encode()
        for number, text in ((1, note), (2, str(place)))
    )
    return _as_varint(_EXTERNAL << 3 | _LENGTH_DELIMITED) + _as_varint(len(texts)) + texts


def _joined(source: Source, pieces: list[Span | bytes], budget: Budget) -> bytes:
    spans = [(p[0], p[1] - p[0]) for p in pieces if not isinstance(p, bytes)]
    # Twice: the pieces, and the message made of them.
    budget.spend(2 * sum(length for _, length in spans))
    if is_distant(source):
        source.fetch_ahead(spans)
    read: Iterator[bytes] = (source.read_at(*span) for span in spans)
    return b"".join([p if isinstance(p, bytes) else next(read) for p in pieces])


def _schema(message_type: Any, known: dict[str, _Schema]) -> _Schema:
    """The tables of a type and of those within it; a type may hold itself."""
    name = str(message_type.full_name)
    if name not in known:
        schema = known[name] = _Schema()
        fields = message_type.fields_by_number
        schema.texts = frozenset(n for n, f in fields.items() if f.type == _TEXT)
        schema.plain = frozenset(n for n, f in fields.items() if f.type == _BYTES)
        schema.values = frozenset(_NAMES if name == _TENSOR else ())
        schema.messages = {
            n: _schema(f.message_type, known) for n, f in fields.items() if f.message_type
        }
    return known[name]


def _varint(head: bytes, at: int, position: int) -> tuple[int, int]:
    """A number of variable length, and where it ends in ``head``, which lies at ``position``."""
    value = shift = 0
    for place in range(at, min(len(head), at + _VARINT_BYTES)):
        byte = head[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise damaged(f"it ends, or is no protobuf, at byte {position + at:,}")


def _as_varint(number: int) -> bytes:
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


def damaged(what: str) -> UnreadableError:
    """The error for an ONNX file that cannot be parsed."""
    return UnreadableError(
        f"an ONNX model that is damaged: {what}",
        "it is probably a truncated download; fetch it again and compare sizes",
    )
