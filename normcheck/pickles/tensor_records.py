"""Tensors in a pickle of ``torch.save``, a record at a time and not an instruction at a time.

Nearly all of a checkpoint's pickle is one record after the other: a name, and some twenty-five
instructions that call ``torch._utils._rebuild_tensor_v2`` with a storage, numbers and an empty
``OrderedDict``. One regular expression knows the form of such a record. What has another form, what
crosses the edge of the window, and what recalls something that it has only just remembered is left
to the machine's loop.

Stack, memo and budget are left as the instructions of a record leave them.
"""

import re
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from normcheck.pickles.handler import Handler
from normcheck.pickles.opcodes import COSTS, TABLE, text_of

_PUT = rb"(q.|r....)"
_GET = rb"(h.|j....)"
_NUMBER = rb"(?:K.|M..|J....)"
_SIZES = (
    rb"(?:(\))|((?:" + _NUMBER + rb"\x85|" + 2 * _NUMBER + rb"\x86|" + 3 * _NUMBER + rb"\x87"
    rb"|\((?:" + _NUMBER + rb"){1,32}t))" + _PUT + rb")"
)  # fmt: skip
"""A tuple of numbers, remembered where it is not the empty one."""
_RECORD = re.compile(
    # The arguments: a mark, and what names the storage behind a mark of its own.
    rb"\(\(" + _GET + _GET + rb"X(.)\0\0\0([0-9]{1,20})" + _PUT + _GET
    + rb"(" + _NUMBER + rb")t" + _PUT + rb"Q(" + _NUMBER + rb")" + _SIZES + _SIZES
    + rb"([\x88\x89])" + _GET + rb"\)R" + _PUT + rb"t" + _PUT + rb"R" + _PUT,
    re.DOTALL,
)  # fmt: skip
_NAMED = re.compile(_PUT + _GET + rb"(?=\(\()", re.DOTALL)
"""What stands between the name of the next tensor and its record."""
_INSTRUCTIONS = b"XqrhjKMJ(t)\x85\x86\x87Q\x88\x89R"
_TEXT = ord("X")
_SHORT_TEXT = 1 << 10
_MOST_KEPT = 1 << 12
"""Numbers and tuples of numbers that are made once for each way of writing them."""

_LONG = struct.Struct("<xI")
_WIDTHS = {b"K": 1, b"M": 2, b"J": 4}
"""Bytes of the numbers behind an instruction."""
_DAMAGE = (IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error)


def _cost(codes: bytes) -> int:
    return sum(COSTS[bytes((code,))] for code in codes)


_ALWAYS = b"((hhXhtQ\x88h)RtR"
"""The instructions that every record has; what it remembers, and its numbers, come to them."""
_SHORTEST, _LEAST_COST = len(_ALWAYS), _cost(_ALWAYS)
_PUT_COST = _cost(b"q")
_NAME_COST = _cost(b"Xh")


class Ran(NamedTuple):
    """How far a run of records went."""

    at: int
    """In the window, of the next instruction."""
    instructions: int
    cost: int
    """Bytes of memory, beside what the calls have counted themselves."""
    failed: int = 0
    """The instruction at which ``error`` was raised; 0 where none was."""
    error: Exception | None = None


def are_plain(table: Mapping[bytes, Handler]) -> bool:
    """Whether a table gives the instructions of a record their usual meaning."""
    codes = (bytes((code,)) for code in _INSTRUCTIONS)
    return all(table.get(code) is TABLE[code] for code in codes)


class TensorRecords:
    """Runs of tensor records in one pickle.

    Args:
        make: What stands for a call, as the machine makes it.
        persistent: The value for a persistent id.
    """

    __slots__ = ("_make", "_persistent")

    def __init__(
        self, make: Callable[[Any, Any], object], persistent: Callable[[Any], object]
    ) -> None:
        """See the class."""
        self._make = make
        self._persistent = persistent

    # One long loop, as the machine's own.
    def run(  # noqa: PLR0915
        self, window: bytes, at: int, end: int, stack: list[Any], memo: dict[int, Any], room: int
    ) -> Ran:
        """Take as many records as come one behind the other.

        Args:
            window: Instructions.
            at: Where a record's first instruction lies; what it calls is on the stack.
            end: Where a record must have ended.
            stack: Changed.
            memo: Changed.
            room: Instructions that may be run.
        """
        instructions = cost = failed = 0
        match, named = _RECORD.match, _NAMED.match
        make, persistent = self._make, self._persistent
        name: str | None = None
        name_put = name_get = b""
        begin = at  # of the record, its name included
        while stack:
            found = match(window, at)
            if found is None or found.end() > end:
                break
            (
                word, cls, length, key, key_put, place, numel, id_put, offset,
                no_shape, shape, shape_put, no_stride, stride, stride_put,
                flag, hooks, hooks_put, args_put, tensor_put,
            ) = found.groups(b"")  # fmt: skip
            if length[0] != len(key):
                break
            elements, first = _written(numel), _written(offset)
            sizes, steps = _written(no_shape or shape), _written(no_stride or stride)
            places = _indices(
                name_put + key_put + id_put + shape_put + stride_put + hooks_put + args_put
                + tensor_put
            )  # fmt: skip
            recalled = _indices(word + cls + place + hooks + name_get)
            count = _SHORTEST + len(places) + elements[1] + first[1] + sizes[1] + steps[1]
            if name is not None:
                count += 2
            if instructions + count >= room or max(recalled) >= min(places):
                break
            try:
                saved_id = (memo[recalled[0]], memo[recalled[1]], text := key.decode(),
                            memo[recalled[2]], elements[0])  # fmt: skip
                known_hooks = memo[recalled[3]]
                function = stack[-1] if name is None else memo[recalled[4]]
            except KeyError:
                break
            try:
                failed = 8  # the storage
                storage = persistent(saved_id)
                failed = 17  # the empty dictionary
                made_hooks = make(known_hooks, ())
                failed = 19  # the tensor
                arguments = (storage, first[0], sizes[0], steps[0], flag == b"\x88", made_hooks)
                tensor = make(function, arguments)
            except _DAMAGE as error:
                called = found.end(failed) + (2 if failed == 17 else 1)
                return Ran(begin, instructions, cost, called, error)
            cost += (
                _LEAST_COST + len(places) * _PUT_COST + sys.getsizeof(text)
                + elements[2] + first[2] + sizes[2] + steps[2]
            )  # fmt: skip
            values: list[Any] = [text, saved_id]
            if name is None:
                stack[-1] = tensor
            else:
                values = [name, text, saved_id]
                stack += (name, tensor)
                cost += _NAME_COST + sys.getsizeof(name)
            if shape:
                values.append(sizes[0])
            if stride:
                values.append(steps[0])
            values += (made_hooks, arguments, tensor)
            memo.update(zip(places, values, strict=True))
            instructions += count
            begin = at = found.end()
            if at + 5 > end or window[at] != _TEXT:
                break
            # The next one has a name.
            text_end = at + 5 + int.from_bytes(window[at + 1 : at + 5], "little")
            head = named(window, text_end) if text_end - at <= _SHORT_TEXT else None
            if head is None:
                break
            name = text_of(window[at + 5 : text_end])
            name_put, name_get = head.groups()
            at = head.end()
        return Ran(begin, instructions, cost)


def _indices(instructions: bytes) -> Sequence[int]:
    """The numbers of instructions that remember or recall, one behind the other."""
    count = len(instructions)
    kinds = instructions[::2]
    if kinds.count(b"q") + kinds.count(b"h") == len(kinds) and not count % 2:
        return instructions[1::2]
    if count % 5 == 0 and not instructions[::5].strip(b"rj"):
        return [each[0] for each in _LONG.iter_unpack(instructions)]
    found, at = list[int](), 0
    while at < count:
        width = 1 if instructions[at] in b"qh" else 4
        found.append(int.from_bytes(instructions[at + 1 : at + 1 + width], "little"))
        at += 1 + width
    return found


@lru_cache(_MOST_KEPT)
def _written(raw: bytes) -> tuple[Any, int, int]:
    """A number, or a tuple of numbers, that instructions describe; how many, and what they cost."""
    numbers, at, cost, instructions = list[int](), 0, 0, 0
    while at < len(raw):
        code = raw[at : at + 1]
        width = _WIDTHS.get(code, 0)
        if width:
            number = raw[at + 1 : at + 1 + width]
            numbers.append(int.from_bytes(number, "little", signed=code == b"J"))
        instructions += 1
        cost += COSTS[code]
        at += 1 + width
    alone = len(raw) == 1 + _WIDTHS.get(raw[:1], -1)
    return numbers[0] if alone else tuple(numbers), instructions, cost
