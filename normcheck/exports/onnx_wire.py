"""What a protobuf message takes once it is parsed, from the bytes alone.

A message of two bytes becomes an object of some hundred, so that a small file can ask for any
amount of memory. The messages are walked by their lengths, without building anything, before
the parser sees them.
"""

from dataclasses import dataclass, field
from typing import Any

from normcheck.checkpoint.limits import Budget
from normcheck.errors import RefusedError, UnreadableError

_MESSAGE_BYTES = 512
"""A message and the object that shows it to Python, from above."""
_FIELD_BYTES = 48
"""A string or a number of a repeated field, beside the characters of the first."""
_UNPACKED = 8
"""Times that packed numbers, a byte each in the file, grow in memory."""
_DEPTH = 100
"""Messages within messages; the parser follows no more either."""
_VARINT_BYTES = 10
_VARINT, _LENGTH_DELIMITED = 0, 2
_FIXED = {1: 8, 5: 4}
"""Lengths of the wire types that have one."""
_TEXT, _BYTES = 9, 12
"""What protobuf calls the types of strings and of bytes."""


@dataclass(slots=True, eq=False)
class _Schema:
    """Of one message type: what lies behind the numbers of its fields."""

    messages: dict[int, "_Schema"] = field(default_factory=dict)
    texts: frozenset[int] = frozenset()
    plain: frozenset[int] = frozenset()
    """Bytes of any kind: neither numbers nor text."""


def weigh(data: bytes, message_type: Any, budget: Budget) -> None:
    """Count what parsing ``data`` will take.

    Args:
        data: A whole message.
        message_type: Its descriptor; protobuf has no types for these.
        budget: What it is counted in.

    Raises:
        UnreadableError: Lengths that do not fit in each other; most often it is cut off.
        RefusedError: Past the limits.
    """
    open_messages = [(len(data), _schema(message_type, {}))]
    position = 0
    while open_messages:
        end, schema = open_messages[-1]
        if position == end:
            open_messages.pop()
            continue
        tag, position = _varint(data, position, end)
        number, wire_type = tag >> 3, tag & 7
        if wire_type == _VARINT:
            position = _varint(data, position, end)[1]
            budget.spend(_FIELD_BYTES)
            continue
        length = _FIXED.get(wire_type, -1)
        if wire_type == _LENGTH_DELIMITED:
            length, position = _varint(data, position, end)
        if length < 0 or position + length > end:
            raise damaged(f"a part of it reaches past its end at byte {position:,}")
        inner = schema.messages.get(number)
        if wire_type == _LENGTH_DELIMITED and inner is not None:
            budget.spend(_MESSAGE_BYTES)
            if len(open_messages) >= _DEPTH:
                raise RefusedError(f"messages nested more than {_DEPTH} deep")
            open_messages.append((position + length, inner))
            continue
        if number in schema.texts and wire_type == _LENGTH_DELIMITED:
            # The parser would give such a name as bytes, which nothing behind it expects.
            _check_text(data, position, length)
        packed = wire_type == _LENGTH_DELIMITED and not (
            number in schema.texts or number in schema.plain
        )
        budget.spend(_FIELD_BYTES + length * (_UNPACKED if packed else 1))
        position += length


def _check_text(data: bytes, position: int, length: int) -> None:
    try:
        data[position : position + length].decode()
    except UnicodeDecodeError as error:
        raise damaged(f"what should be text at byte {position:,} is none") from error


def _schema(message_type: Any, known: dict[str, _Schema]) -> _Schema:
    """The tables of a type and of those within it; a type may hold itself."""
    name = str(message_type.full_name)
    if name not in known:
        schema = known[name] = _Schema()
        fields = message_type.fields_by_number
        schema.texts = frozenset(n for n, f in fields.items() if f.type == _TEXT)
        schema.plain = frozenset(n for n, f in fields.items() if f.type == _BYTES)
        schema.messages = {
            n: _schema(f.message_type, known) for n, f in fields.items() if f.message_type
        }
    return known[name]


def _varint(data: bytes, position: int, end: int) -> tuple[int, int]:
    """A number of variable length, and where it ends."""
    value = shift = 0
    for place in range(position, min(end, position + _VARINT_BYTES)):
        byte = data[place]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place + 1
        shift += 7
    raise damaged(f"it ends, or is no protobuf, at byte {position:,}")


def damaged(what: str) -> UnreadableError:
    """The error for an ONNX file that cannot be parsed."""
    return UnreadableError(
        f"an ONNX model that is damaged: {what}",
        "it is probably a truncated download; fetch it again and compare sizes",
    )
