"""The instructions of the pickle machine, protocols 0 to 5."""

import codecs
import struct
from collections.abc import Callable
from typing import Any

from normcheck.pickles.handler import Handler, Machine
from normcheck.pickles.inert import GlobalName, Inert
from normcheck.sources.limits import ENTRY_BYTES


def text_of(raw: bytes) -> str:
    """The text of an instruction of protocols 1 to 5."""
    # Lone surrogates are legal in pickled text.
    try:
        return raw.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _old_text(raw: bytes) -> str:
    # A string of Python 2 is text or bytes, whichever its reader takes it for: latin-1
    # keeps the bytes, which are a whole array where numpy wrote them.
    return raw.decode("latin-1")


def _sized(layout: str, convert: Callable[[bytes], object]) -> Handler:
    def handler(machine: Machine) -> None:
        length = machine.number(layout)
        if length < 0:
            raise ValueError("a negative length")
        machine.push_sized(convert(machine.take(length)))

    return handler


def _skip(length: int) -> Handler:
    def handler(machine: Machine) -> None:
        machine.take(length)

    return handler


def _number(layout: str) -> Handler:
    numbers = struct.Struct(layout)  # made once: most of a tensor's description are numbers

    def handler(machine: Machine) -> None:
        machine.push(numbers.unpack(machine.take(numbers.size))[0])

    return handler


def _constant(value: object) -> Handler:
    return lambda machine: machine.push(value)


def _long(layout: str) -> Handler:
    def handler(machine: Machine) -> None:
        length = machine.number(layout)
        if not 0 <= length <= machine.limits.integer_bytes:
            raise ValueError(f"an integer of {length:,} bytes")
        machine.push_sized(int.from_bytes(machine.take(length), "little", signed=True))

    return handler


def _int_line(machine: Machine) -> None:
    line = machine.line()
    # Protocol 0 writes booleans as the integers 00 and 01.
    machine.push(line == b"01" if line in (b"00", b"01") else int(line))


def _quoted(machine: Machine) -> None:
    line = machine.line().strip()
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in b"'\"":
        raise ValueError("a string without quotes")
    # Escapes as Python 2 and 3 write them in protocol 0; codecs only, nothing is evaluated.
    machine.push(_old_text(codecs.escape_decode(line[1:-1])[0]))


def _tuple(count: int) -> Handler:
    def handler(machine: Machine) -> None:
        machine.push(machine.pop_several(count))

    return handler


def _pop_mark(machine: Machine) -> None:
    machine.pop_mark()


def _dict(machine: Machine) -> None:
    pairs = machine.pop_mark()
    target: dict[Any, object] = {}
    machine.set_items(target, pairs)
    machine.push(target)


def _set_item(machine: Machine) -> None:
    value, key = machine.pop(), machine.pop()
    machine.set_items(machine.top, [key, value])


def _set_items(machine: Machine) -> None:
    pairs = machine.pop_mark()
    machine.set_items(machine.top, pairs)


def _append(machine: Machine) -> None:
    value = machine.pop()
    machine.append_items(machine.top, [value])


def _appends(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.append_items(machine.top, items)


def _add_items(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.budget.spend(len(items) * ENTRY_BYTES)
    target = machine.top
    if isinstance(target, Inert):
        target.items.extend(items)
    elif isinstance(target, set):
        target.update(machine.key(item) for item in items)
    else:
        raise TypeError("items added to something that is not a set")


def _frozenset(machine: Machine) -> None:
    items = machine.pop_mark()
    machine.budget.spend(len(items) * ENTRY_BYTES)
    machine.push(frozenset(machine.key(item) for item in items))


def _named(machine: Machine, module: object, name: object) -> GlobalName:
    if not isinstance(name, str) or not isinstance(module, str):
        raise TypeError("a global whose name is not text")
    if len(module) + len(name) > machine.limits.name_bytes:
        raise ValueError("a global with a name of enormous length")
    machine.budget.spend(4 * (len(module) + len(name)))
    machine.budget.names[module, name] = None
    return GlobalName(module, name)


def _global(machine: Machine) -> None:
    machine.push(_named(machine, text_of(machine.line()), text_of(machine.line())))


def _stack_global(machine: Machine) -> None:
    name, module = machine.pop(), machine.pop()
    machine.push(_named(machine, module, name))


def _extension(layout: str) -> Handler:
    # A number in copyreg's registry, which is whatever the loading program put there.
    return lambda machine: machine.push(
        GlobalName("copyreg", f"extension {machine.number(layout)}")
    )


def _reduce(machine: Machine) -> None:
    args, function = machine.pop(), machine.pop()
    machine.push(machine.make(function, args))


def _newobj_ex(machine: Machine) -> None:
    kwargs, args, cls = machine.pop(), machine.pop(), machine.pop()
    machine.push(machine.make(cls, args, kwargs))


def _obj(machine: Machine) -> None:
    cls, *args = machine.pop_mark()
    machine.push(machine.make(cls, tuple(args)))


def _inst(machine: Machine) -> None:
    name = _named(machine, text_of(machine.line()), text_of(machine.line()))
    machine.push(machine.make(name, tuple(machine.pop_mark())))


def _build(machine: Machine) -> None:
    state = machine.pop()
    machine.build(machine.top, state)


def _buffer(_machine: Machine) -> None:
    raise ValueError("out-of-band buffers are not in the file")


def _ignore(_machine: Machine) -> None:
    pass


TABLE: dict[bytes, Handler] = {
    b"\x80": _skip(1),  # PROTO
    b"\x95": _skip(8),  # FRAME
    b"(": lambda m: m.mark(),
    b"0": lambda m: m.discard(),
    b"1": _pop_mark,
    b"2": lambda m: m.push(m.top),
    b"N": _constant(None),
    b"\x88": _constant(True),
    b"\x89": _constant(False),
    b"I": _int_line,
    b"L": lambda m: m.push(int(m.line().rstrip(b"L"))),
    b"F": lambda m: m.push(float(m.line())),
    b"J": _number("<i"),
    b"K": lambda m: m.push(m.byte()),
    b"M": _number("<H"),
    b"G": _number(">d"),
    b"\x8a": _long("<B"),
    b"\x8b": _long("<i"),
    b"S": _quoted,
    b"T": _sized("<i", _old_text),
    b"U": _sized("<B", _old_text),
    b"V": lambda m: m.push_sized(m.line().decode("raw-unicode-escape")),
    b"X": _sized("<I", text_of),
    b"\x8c": _sized("<B", text_of),
    b"\x8d": _sized("<Q", text_of),
    b"B": _sized("<I", bytes),
    b"C": _sized("<B", bytes),
    b"\x8e": _sized("<Q", bytes),
    b"\x96": _sized("<Q", bytearray),
    b"\x97": _buffer,
    b"\x98": _ignore,
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.pop_mark())),
    b"\x85": _tuple(1),
    b"\x86": _tuple(2),
    b"\x87": _tuple(3),
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.pop_mark()),
    b"a": _append,
    b"e": _appends,
    b"}": lambda m: m.push({}),
    b"d": _dict,
    b"s": _set_item,
    b"u": _set_items,
    b"\x8f": lambda m: m.push(set()),
    b"\x90": _add_items,
    b"\x91": _frozenset,
    b"p": lambda m: m.remember(int(m.line())),
    b"q": lambda m: m.remember(m.byte()),
    b"r": lambda m: m.remember(int.from_bytes(m.take(4), "little")),
    b"\x94": lambda m: m.memoize(),
    b"g": lambda m: m.recall(int(m.line())),
    b"h": lambda m: m.recall(m.byte()),
    b"j": lambda m: m.recall(int.from_bytes(m.take(4), "little")),
    b"c": _global,
    b"\x93": _stack_global,
    b"\x82": _extension("<B"),
    b"\x83": _extension("<H"),
    b"\x84": _extension("<i"),
    b"R": _reduce,
    b"\x81": _reduce,  # NEWOBJ: cls.__new__(cls, *args), for us the same
    b"\x92": _newobj_ex,
    b"o": _obj,
    b"i": _inst,
    b"b": _build,
    b"P": lambda m: m.push(m.persistent(text_of(m.line()))),
    b"Q": lambda m: m.push(m.persistent(m.pop())),
}
"""One handler per instruction; STOP is the loop's own."""

_SLOT = 32
"""A place on the stack, in the list that a mark collects, and in the container it ends in."""
_OBJECT = 400
"""An inert object with its empty containers; a tensor with its storage takes less."""

COSTS: dict[bytes, int] = {
    **dict.fromkeys(TABLE, _SLOT),
    **dict.fromkeys((b"J", b"M", b"G", b"I", b"L", b"F"), _SLOT + 32),
    # A list of its own, too: what a mark collects.
    **dict.fromkeys((b"]", b"l", b"("), _SLOT + 96),
    **dict.fromkeys((b"}", b"d"), _SLOT + 64),
    **dict.fromkeys((b"\x8f", b"\x91"), _SLOT + 224),
    **dict.fromkeys((b")", b"t", b"\x85", b"\x86", b"\x87"), _SLOT + 64),
    **dict.fromkeys((b"p", b"q", b"r", b"\x94"), ENTRY_BYTES + 32),
    **dict.fromkeys((b"c", b"\x93", b"\x82", b"\x83", b"\x84", b"P", b"Q"), _OBJECT),
    **dict.fromkeys((b"R", b"\x81", b"\x92", b"o", b"i"), _OBJECT),
}
"""Bytes that an instruction may take, from above, where the file does not choose how many.

CPython 3.11 to 3.13 on 64 bits: 56 for an empty list and 88 with its first item, 64 for an
empty dictionary, 216 for a set, 40 and 8 a member for a tuple, 28 for an integer.
"""
