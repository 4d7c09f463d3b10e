"""Pickles that ask for memory, depth or time out of all proportion to their length."""

import struct

from tests.formats import by_hand as hand

DEEP, HALF_DEEP = 100_000, 20_000
MAKE = hand.name("a", "B") + b"q\x630"
"""Keeps a class under memo 99; ``THING`` makes an object of it."""
THING = b"h\x63)\x81"


def bombs() -> dict[str, bytes]:
    """Whole pickles by name."""
    every = {**lengths(), **depths(), **laughs(), **keys(), **cycles(), **shares()}
    return {name: b"\x80\x04" + body + b"." for name, body in every.items()}


def lengths() -> dict[str, bytes]:
    """Lengths and indices that the file does not have."""

    def eight(opcode: bytes, length: int) -> bytes:
        return opcode + struct.pack("<Q", length) + b"abc"

    return {
        "memo index": b"Nr\xff\xff\xff\x7f",
        "memo index in digits": b"Np" + b"9" * 4000 + b"\n",
        "text of 2^60 bytes": eight(b"\x8d", 1 << 60),
        "text of 2^64 bytes": eight(b"\x8d", (1 << 64) - 1),
        "bytes of 2^62 bytes": eight(b"\x8e", 1 << 62),
        "bytearray of 2^61 bytes": eight(b"\x96", 1 << 61),
        "frame of 2^63 bytes": eight(b"\x95", 1 << 63),
        "text of 2^32 bytes": b"X\xff\xff\xff\xffabc",
        "string of 2^31 bytes": b"T\xff\xff\xff\x7fabc",
        "integer of 2^31 bytes": b"\x8b\xff\xff\xff\x7fabc",
        "integer of many digits": b"I" + b"9" * 60_000 + b"\n",
        "marks": b"(" * DEEP,
        "sets": b"\x8f" * 100_000,
    }


def depths() -> dict[str, bytes]:
    """Values nested a hundred thousand deep, where something might recurse."""
    deep = b")" + b"\x85" * DEEP
    shallower = b")" + b"\x85" * HALF_DEEP
    equal = b"(K\x01\x91" + b"q\x000(h\x00\x91" * 5_000
    rebuilt = hand.name("torch._tensor", "_rebuild_from_type_v2") + b"q\x00"
    return {
        "deep lists": b"]" * DEEP + b"a" * (DEEP - 1),
        "deep tuples": deep,
        "deep dictionaries": (b"}" + hand.text("a")) * HALF_DEEP + b"N" + b"s" * HALF_DEEP,
        "deep objects": MAKE + b"(h\x63" * HALF_DEEP + b"o" * HALF_DEEP,
        "deep states": MAKE
        + (THING + b"}" + hand.text("a")) * HALF_DEEP
        + b"N"
        + b"sb" * HALF_DEEP,
        "deep tuple as a key": b"}" + deep + b"Ns",
        "deep tuple in a set": b"\x8f(" + shallower + b"\x90",
        "deep tuple in a frozenset": b"(" + shallower + b"\x91",
        "deep tuple as a persistent id": shallower + b"Q",
        "deep tuple as a class": shallower + b")R",
        "deep equal frozensets": b"\x8f(" + equal + equal + b"\x90",
        "deep rebuilding": rebuilt + b"h\x00N" * HALF_DEEP + b")" + b"\x87" * HALF_DEEP + b"R",
    }


def laughs() -> dict[str, bytes]:
    """A tuple that has itself twice, 64 times over: 2^64 parts when unfolded."""
    laugh = b")" + b"2\x86" * 64
    twice = b"q\x000}(" + hand.text("a") + b"h\x00" + hand.text("b") + b"h\x00u"
    sizes = hand.call(
        hand.name("torch._utils", "_rebuild_tensor_v2"),
        hand.storage(), laugh, laugh, laugh, hand.FALSE, hand.NONE,
    )  # fmt: skip
    return {
        "laughs": laugh,
        "laughs of dictionaries": b"}" + twice * 64,
        "laughs as a key": b"}" + laugh + b"Ns",
        "laughs as sizes": sizes,
        "laughs as a persistent id": laugh + b"Q",
        "laughs as bytes": hand.call(hand.name("torch.storage", "_load_from_bytes"), laugh),
        "laughs as a storage's key": hand.storage().replace(hand.text("0"), laugh),
        "laughs as a storage's class": hand.storage().replace(
            hand.name("torch", "FloatStorage"), laugh
        ),
    }  # fmt: skip


def keys() -> dict[str, bytes]:
    """Dictionary keys that take time to hash or to compare."""
    wide = b"(" + b"N" * DEEP + b"tq\x000(" + b"h\x00" * 60_000 + b"t"
    numbers = [hand.number(k * (2**61 - 1)) for k in range(1, 20_001)]
    return {
        "wide tuple of wide tuples as a key": b"}" + wide + b"Ns",
        "long key many times": b"(" + b"N" * 250 + b"tq\x000}" + b"h\x00Ns" * 3_000,
        "keys that collide": b"}(" + b"N".join(numbers) + b"Nu",
        "members that collide": hand.call(
            hand.name("builtins", "set"), b"](" + b"".join(numbers) + b"e"
        ),
    }


def module(children: bytes = b"}", parameters: bytes = b"}") -> bytes:
    """A module, its class under memo 99."""
    return hand.build(THING, hand.mapping({"_parameters": parameters, "_modules": children}))


def cycles() -> dict[str, bytes]:
    """Values that contain themselves."""
    itself = THING + b"q\x00" + hand.mapping(
        {"_parameters": b"}", "_modules": hand.mapping({"m" * 500: b"h\x00"})}
    ) + b"b"  # fmt: skip
    return {
        "a list in itself": b"]q\x00h\x00a",
        "a dictionary in itself": b"}q\x00" + hand.text("a") + b"h\x00s",
        "an object as its own state": MAKE + THING + b"q\x00h\x00b",
        "an object as a class": MAKE + THING + b"q\x00" + b"h\x00)\x81" * 9,
        "a module in itself": MAKE + itself,
    }


def shares() -> dict[str, bytes]:
    """Large containers that many others share: small to write, enormous if copied."""

    def large(value: bytes, count: int) -> bytes:
        entries = b"".join(hand.text(f"p{i}") + value for i in range(count))
        return MAKE + b"}(" + entries + b"uq\x000"

    shared = module(parameters=b"h\x00")
    modules = b"}(" + b"".join(hand.text(f"m{i}") + shared for i in range(1_100)) + b"u"
    # The innermost module is its own child under very many names, each with a long path.
    inner = (
        THING + b"q\x01" + hand.mapping({"_parameters": b"}"})
        + hand.text("_modules") + b"}("
        + b"".join(hand.text(f"{i}") + b"h\x01" for i in range(20_000)) + b"usb"
    )  # fmt: skip
    for _ in range(900):
        inner = module(b"}" + hand.text("m" * 70) + inner + b"s")
    dtype = hand.build(hand.call(hand.name("numpy", "dtype"), hand.text("u1")), hand.NONE)
    array = hand.call(
        hand.name("numpy._core.numeric", "_frombuffer"),
        b"h\x00", dtype, hand.several(hand.number(1 << 20)), hand.text("C"),
    )  # fmt: skip
    buffer = b"\x96" + struct.pack("<Q", 1 << 20) + bytes(1 << 20) + b"q\x000"
    arrays = b"".join(hand.text(f"{i}.weight") + b"h\x01" for i in range(20_000))
    objects = (THING + b"h\x00b") * 10_000
    slotted = (THING + b"Nh\x00\x86b") * 10_000
    optimizer = hand.mapping({"state": b"h\x00", "param_groups": b"N"})
    return {
        "modules that share a dictionary": large(b"N", 10_000) + module(modules),
        "aliases along a long path": MAKE + inner,
        "objects that share a dictionary": large(b"]", 10_000) + b"](" + objects + b"e",
        "objects that share slots": large(b"]", 10_000) + b"](" + slotted + b"e",
        "optimizers that share a state": large(b"}", 10_000) + b"](" + optimizer * 5_000 + b"e",
        "names that share an array": buffer + array + b"q\x010}(" + arrays + b"u",
    }
