"""Pickles that are all appetite: one way of taking memory each, as long as wanted."""

import struct
from collections.abc import Callable

from tests.formats import by_hand as hand

Appetite = Callable[[int], bytes]
_KEEP = b"q\x00"


def _times(prefix: bytes, body: bytes, suffix: bytes = b"") -> Appetite:
    return lambda count: b"\x80\x04" + prefix + body * count + suffix + b"."


def _numbered(prefix: bytes, make: Callable[[int], bytes], suffix: bytes = b"") -> Appetite:
    return lambda count: (
        b"\x80\x04" + prefix + b"".join(make(number) for number in range(count)) + suffix + b"."
    )


def _embedded() -> bytes:
    parts = (
        hand.number(hand.MAGIC), hand.number(1001), b"}",
        hand.several(hand.text("storage"), hand.name("torch", "FloatStorage"), hand.text("0"),
                     hand.text("cpu"), hand.number(1)) + b"Q",
        hand.listed(hand.text("0")),
    )  # fmt: skip
    raw = b"".join(map(hand.pickled, parts)) + struct.pack("<qf", 1, 0)
    return b"B" + struct.pack("<I", len(raw)) + raw


_OBJECT = hand.name("a", "B") + _KEEP + b"0"
_LONG = b"(" + b"N" * 10_000 + b"t" + _KEEP + b"0"
_LIST = b"](" + b"N" * 10_000 + b"e" + _KEEP + b"0"
_TEXT = hand.text("x" * 100_000) + _KEEP + b"0"
_STORED = hand.storage() + b"q\x010"
_TENSOR = (
    hand.name("torch._utils", "_rebuild_tensor_v2")
    + b"(h\x01K\x00K\x01\x85K\x01\x85\x89N" + b"tR"
)  # fmt: skip

APPETITES: dict[str, Appetite] = {
    "lists": _times(b"](", b"]", b"e"),
    "lists of one": _times(b"](", b"]Na", b"e"),
    "dictionaries": _times(b"](", b"}", b"e"),
    "dictionaries of one": _times(b"](", b"}NNs", b"e"),
    "sets": _times(b"](", b"\x8f", b"e"),
    "sets of one": _times(b"](", b"\x8f(N\x90", b"e"),
    "frozensets": _times(b"](", b"(K\x01\x91", b"e"),
    "tuples of one": _times(b"](", b"N\x85", b"e"),
    "tuples by mark": _times(b"](", b"(NNNt", b"e"),
    "marks": lambda count: b"\x80\x04]" + b"(" * count + b"1" * count + b".",
    "marks of one": lambda count: b"\x80\x04]" + b"(N" * count + b"1" * count + b".",
    "floats": _times(b"](", b"G\x40\x09\x21\xfb\x54\x44\x2d\x18", b"e"),
    "integers": _times(b"](", b"J\xff\xff\xff\x7f", b"e"),
    "long integers": _times(b"](", b"\x8a\xff" + b"\x7f" * 255, b"e"),
    "short texts": _numbered(b"](", lambda n: hand.text(f"{n:x}"), b"e"),
    "wide texts": _numbered(b"](", lambda n: hand.text(f"\U0001f600{n:x}" + "a" * 40), b"e"),
    "old texts": _times(b"](", hand.old_text(b"\xff" * 60), b"e"),
    "escaped lines": _times(b"](", b"V\\U0001f600aaaaaaaaaaaaaaaa\n", b"e"),
    "bytes": _times(b"](", b"C\x10" + bytes(16), b"e"),
    "bytearrays": _times(b"](", b"\x96" + struct.pack("<Q", 1) + b"a", b"e"),
    "the same again": _times(b"](", b"NN22222222", b"e"),
    "memo": _times(b"](", b"N\x94", b"e"),
    "memo of far apart": _numbered(b"](", lambda n: b"Nr" + struct.pack("<I", n * 7), b"e"),
    "names": _numbered(b"](", lambda n: hand.name("m", f"n{n:x}"), b"e"),
    "wide names": _numbered(b"](", lambda n: hand.name("m", f"\U0001f600{n:x}" + "n" * 90), b"e"),
    "stacked names": _numbered(
        hand.text("\U0001f600" * 1000) + _KEEP + b"0](",
        lambda n: b"h\x00" + hand.text(f"{n:x}") + b"\x93", b"e"
    ),
    "extensions": _numbered(b"](", lambda n: b"\x84" + struct.pack("<i", n), b"e"),
    "objects": _times(_OBJECT + b"](", b"h\x00)R", b"e"),
    "objects with items": _times(_OBJECT + b"](", b"h\x00)\x81Na", b"e"),
    "objects with entries": _times(_OBJECT + b"](", b"h\x00)\x81NNs", b"e"),
    "objects with members": _times(_OBJECT + b"](", b"h\x00)\x81(N\x90", b"e"),
    "objects by mark": _times(_OBJECT + b"](", b"(h\x00NNo", b"e"),
    "objects of keywords": _times(_OBJECT + b"](", b"h\x00)}\x92", b"e"),
    "instances": _times(b"](", b"(ia\nB\n", b"e"),
    "ordered": _times(b"](", hand.call(hand.name("collections", "OrderedDict")), b"e"),
    "one dictionary": _numbered(b"}(", lambda n: b"J" + struct.pack("<i", n) + b"N", b"u"),
    "one set": _numbered(b"\x8f(", lambda n: b"J" + struct.pack("<i", n), b"\x90"),
    "entry by entry": _numbered(b"}", lambda n: b"J" + struct.pack("<i", n) + b"Ns"),
    "copies of a list": _times(_LIST + hand.name("builtins", "list") + b"q\x010](",
                               b"h\x01h\x00\x85R", b"e"),
    "copies of a tuple": _times(_LIST + hand.name("builtins", "tuple") + b"q\x010](",
                                b"h\x01h\x00\x85R", b"e"),
    "copies of a set": _times(
        b"](" + b"".join(b"J" + struct.pack("<i", n) for n in range(5_000)) + b"e" + _KEEP + b"0"
        + hand.name("builtins", "set") + b"q\x010](", b"h\x01h\x00\x85R", b"e",
    ),
    "encoded texts": _times(
        _TEXT + hand.name("_codecs", "encode") + b"q\x010](",
        b"h\x01h\x00" + hand.text("latin1") + b"\x86R", b"e",
    ),
    "shapes": _times(
        _LONG + hand.name("torch._utils", "_rebuild_meta_tensor_no_storage") + b"q\x010](",
        b"h\x01(Nh\x00N\x89tR", b"e",
    ),
    "embedded files": _times(
        _embedded() + _KEEP + b"0" + hand.name("torch.storage", "_load_from_bytes") + b"q\x010](",
        b"h\x01h\x00\x85R", b"e",
    ),
}  # fmt: skip
"""By name; call with how many."""

ZIPPED: dict[str, Appetite] = {
    "tensors": _times(_STORED + b"](", _TENSOR, b"e"),
    "state dict": _numbered(
        _STORED + _TENSOR + b"q\x020}(", lambda n: hand.text(f"m{n}.weight") + b"h\x02", b"u"
    ),
    "state dicts": _numbered(
        _STORED + _TENSOR + b"q\x020](", lambda n: hand.mapping({f"m{n}.weight": b"h\x02"}), b"e"
    ),
    "modules": _numbered(
        hand.name("a", "B") + _KEEP + b"0h\x00)\x81}" + hand.text("_parameters") + b"}s"
        + hand.text("_modules") + b"}(",
        lambda n: hand.text(f"m{n}") + b"h\x00)\x81" + hand.mapping(
            {"_parameters": b"}", "_modules": b"}", "training": b"\x88"}) + b"b",
        b"usb",
    ),
}  # fmt: skip
"""Of things that are looked for, once they are read; in archives with a storage of 16 bytes."""
