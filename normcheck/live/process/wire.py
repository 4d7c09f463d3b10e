"""Values on their way between processes and into a cache, as bytes that can be nothing else.

A process that ran a model may have run code of the file's, and a cache may come from anybody.
So the bytes are JSON without names of classes; what they become is decided by who reads them
(see ``schema``). Objects, functions and classes cannot be written down in them.
"""

import binascii
import json
import operator
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, TypeVar

import numpy as np

from normcheck.errors import DamagedError
from normcheck.live.process.value_schema import NUMBERS, SHARED, arms_of, convert
from normcheck.norms.kinds import NormKind
from normcheck.saved.dtypes import DType
from normcheck.saved.tensors import TensorRef

HEADER = struct.Struct("<Q")
"""Before each message its length in bytes."""
LONGEST = 1 << 30
"""Bytes of a message between processes. The layers of a large model are a few megabytes."""
_MOST_PARTS = 1 << 23
"""Lists and mappings of a message: each takes 60 bytes and more once it is there."""
_BROKEN = (ValueError, TypeError, KeyError, IndexError, RecursionError, OverflowError)
"""What bytes may raise that nobody wrote here."""
_MOST_TIMES = 100
"""Bytes that one packed byte may become. Layers that are all alike are packed to a fiftieth;
what was made to unfold reaches a thousand."""
_ALWAYS = 1 << 16
"""Bytes that any packed ones may become."""
_LEFT = "left in its process"
_BESIDE = b"\n"
"""Between a message and the text beside it: as it is written here, JSON holds no end of a line."""

T = TypeVar("T")


def written(value: Any) -> bytes:
    """A value of ours as bytes, for ``read``.

    Raises:
        TypeError: It holds something that does not travel.
    """
    encoder = json.JSONEncoder(
        default=_Numbered().parts, ensure_ascii=False, check_circular=False, separators=(",", ":")
    )
    return encoder.encode(value).encode("utf-8", "surrogatepass")


def read(data: bytes, kind: type[T], most: int = LONGEST) -> T:
    """The value in ``data``.

    Args:
        data: Bytes of ``written``, or of an enemy.
        kind: Type of the value: a dataclass, or a tuple of some.
        most: Bytes that are looked at; more are refused.

    Raises:
        DamagedError: They stand for no such value.
    """
    raw = _parsed(data, most)
    try:
        made: T = convert(raw, arms_of(kind), [])  # type: ignore[arg-type]  # types are hashable
    except _BROKEN as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error
    return made


def written_message(message: Any, text: str = "") -> bytes:
    """A message, which is a dataclass of ours, with its name before it.

    Args:
        message: One of those that the other process expects.
        text: Goes beside it as it is, for its ``with_text``: a long text would be made a string of
            JSON, and of that a text again.
    """
    body = written((type(message).__name__, message))
    return body + _BESIDE + text.encode("utf-8", "surrogatepass") if text else body


def read_message(data: bytes, kinds: Mapping[str, type], most: int = LONGEST) -> Any:
    """The message in ``data``.

    Args:
        data: Bytes of ``written_message``, or of an enemy.
        kinds: The messages that may come, by the names of their classes.
        most: As for ``read``.

    Raises:
        DamagedError: They stand for none of these messages.
    """
    body, beside, text = data.partition(_BESIDE)
    raw = _parsed(body, most - len(beside) - len(text))
    try:
        name, parts = raw
        message = convert(parts, arms_of(kinds[name]), [])
        if not beside:
            return message
        if not hasattr(message, "with_text"):
            raise ValueError(f"{name} has no text beside it")
        return message.with_text(text.decode("utf-8", "surrogatepass"))
    except _BROKEN as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error


def shrunk(data: bytes) -> bytes:
    """The same in fewer bytes, for ``unfolded``."""
    small = zlib.compress(data, 1)
    return small if len(data) <= _most_of(small) else zlib.compress(data, 0)


def _most_of(packed: bytes) -> int:
    return _ALWAYS + _MOST_TIMES * len(packed)


def unfolded(data: bytes, most: int) -> bytes:
    """The bytes that ``shrunk`` was given; never more than ``most`` of them are made.

    Raises:
        DamagedError: They are more, or were not made by it.
    """
    machine = zlib.decompressobj()
    try:
        whole = machine.decompress(data, min(most, _most_of(data)))
    except zlib.error as error:
        raise DamagedError(str(error)) from error
    if not machine.eof or machine.unused_data:
        raise DamagedError("cut off, or longer than it may be")
    return whole


def _parsed(data: bytes, most: int) -> Any:
    if len(data) > most:
        raise DamagedError(f"longer than {most:,} bytes")
    if data.count(b"[") + data.count(b"{") > _MOST_PARTS:
        raise DamagedError(f"more than {_MOST_PARTS:,} parts")
    try:
        return json.loads(data.decode("utf-8", "surrogatepass"))
    except _BROKEN as error:
        raise DamagedError(f"{type(error).__name__}: {error}") from error


class _Numbered:
    """Takes values apart for one message, and numbers those that may come again."""

    __slots__ = ("_numbers",)

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def parts(self, value: Any) -> Any:
        """What JSON has for a value that it does not know."""
        kind = type(value)
        if kind in SHARED:
            known = self._numbers.get(id(value))
            if known is not None:
                return known
            self._numbers[id(value)] = len(self._numbers)
        take = _parts_of(kind)  # type: ignore[arg-type]  # types are hashable
        if take is None:
            raise TypeError(f"a {kind.__module__}.{kind.__qualname__} does not travel")
        return take(value)


@cache
def _parts_of(kind: type) -> Callable[[Any], Any] | None:
    """What takes a value of a type apart; None for a type that does not travel."""
    if kind in (NormKind, DType):
        return operator.attrgetter("name")
    if issubclass(kind, np.ndarray):
        return _parts_of_array
    if issubclass(kind, np.generic):
        return operator.methodcaller("item")
    if kind in (set, frozenset):
        return sorted
    if kind is bytes:
        return lambda value: binascii.b2a_base64(value, newline=False).decode("ascii")
    if issubclass(kind, Mapping):
        return dict
    if not (is_dataclass(kind) and kind.__module__.startswith("normcheck.")):
        return None
    if kind is TensorRef:
        # The bytes stay where they are; what was to be said of them has been measured.
        return lambda ref: (
            ref.dtype, ref.shape, ref.strides, ref.offset, None, ref.parameter,
            ref.requires_grad, ref.negated, ref.conjugated, ref.note or _LEFT, ref.rounding,
        )  # fmt: skip
    names = [field.name for field in fields(kind) if field.init]
    if len(names) < 2:
        return lambda value: [getattr(value, name) for name in names]
    return operator.attrgetter(*names)


def _parts_of_array(array: Any) -> tuple[Any, str]:
    if array.dtype != NUMBERS:
        raise TypeError(f"an array of {array.dtype} does not travel")
    return array.shape, binascii.b2a_base64(array.tobytes(), newline=False).decode("ascii")
