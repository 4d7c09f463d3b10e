"""The pickle machine: what it understands of every protocol, and what it refuses."""

import collections
import io
import pickle
import pickletools
import struct
import sys
from collections import OrderedDict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normcheck.errors import RefusedError, UnreadableError
from normcheck.pickles.inert import (
    Inert,
    OrderedRecord,
    attributes_of,
    entries_of,
)
from normcheck.pickles.machine import InertUnpickler
from normcheck.pickles.opcodes import COSTS
from normcheck.pickles.torch_objects import constructors
from normcheck.sources.limits import DEFAULT_LIMITS, Budget, Limits
from tests.formats import by_hand as hand

PROTOCOLS = range(6)


def load(data: bytes, limits: Limits = DEFAULT_LIMITS, persistent: Any = None) -> Any:
    stream = io.BufferedReader(io.BytesIO(data))
    return InertUnpickler(stream, len(data), constructors(limits), persistent, limits).load()


class Plain:
    """Has a dictionary."""

    def __init__(self) -> None:
        self.rate = 0.5
        self.me = self


class Slotted:
    """Has slots and a dictionary."""

    __slots__ = ("__dict__", "left")


class Words(dict):
    """A subclass of dict with an attribute."""


class Numbers(list):
    """A subclass of list."""


class Twin:
    """Is made by a call with keyword arguments."""

    def __getnewargs_ex__(self) -> tuple[tuple[int, ...], dict[str, int]]:
        return (1, 2), {"key": 3}


def refuse_to_run(*_args: object) -> None:
    raise AssertionError("the reader called what the file names")


class Trap:
    """Would run code if anybody loaded it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return refuse_to_run, (1,), {"a": 2}


scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
)
keys = st.text() | st.integers(-(2**63), 2**63) | st.tuples(st.text(), st.booleans())
members = st.text() | st.integers(-(2**63), 2**63) | st.booleans()
values = st.recursive(
    scalars | st.sets(members) | st.frozensets(members),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(keys, inner)
        | st.tuples(inner)
        | st.tuples(inner, inner, inner)
        | st.lists(inner, min_size=4, max_size=5).map(tuple)
    ),
    max_leaves=12,
)


@given(values, st.sampled_from([0, 1, 2, 3, 4, 5]))
@settings(max_examples=150, deadline=None)
def test_containers_and_scalars(value: Any, protocol: int) -> None:
    """Containers, numbers, text and bytes come out as Python's own unpickler gives them."""
    assert load(pickle.dumps(value, protocol)) == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_objects_stay_inert(protocol: int) -> None:
    """An object is its class's name and its dictionary; what refers to it is the same one."""
    thing = load(pickle.dumps([Plain()] * 2, protocol))
    assert thing[0] is thing[1]
    assert isinstance(thing[0], Inert)
    assert thing[0].class_path == f"{__name__}.Plain"
    assert attributes_of(thing[0]) == {"rate": 0.5, "me": thing[0]}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_slots(protocol: int) -> None:
    """Slots and dictionary of an object are its attributes alike."""
    thing = Slotted()
    thing.left, thing.right = 1, 2
    assert attributes_of(load(pickle.dumps(thing, protocol))) == {"left": 1, "right": 2}


@pytest.mark.parametrize("protocol", range(2, 6))
def test_subclasses_of_containers(protocol: int) -> None:
    """Subclasses of dict and list keep what they contain, and their attributes."""
    words = Words(a=1)
    words.note = "kept"
    words, numbers, counted = load(
        pickle.dumps((words, Numbers([1, 2]), collections.defaultdict(list, {"k": 3})), protocol)
    )
    assert entries_of(words) == {"a": 1}
    assert attributes_of(words) == {"note": "kept"}
    assert numbers.items == [1, 2]
    assert counted.class_path == "collections.defaultdict"
    assert entries_of(counted) == {"k": 3}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ordered_dict_with_attributes(protocol: int) -> None:
    """An OrderedDict is a dictionary, in its order, and keeps ``_metadata``."""
    state = collections.OrderedDict([("z", 1), ("a", 2)])
    state._metadata = {"": {"version": 2}}
    found = load(pickle.dumps(state, protocol))
    assert isinstance(found, OrderedRecord)
    assert list(found.items()) == [("z", 1), ("a", 2)]
    assert found.attributes == {"_metadata": {"": {"version": 2}}}


def test_ordered_dict_of_damaged_pairs() -> None:
    """What is no pair with a plain key is left out of an OrderedDict."""
    pairs = hand.listed(
        hand.number(5), hand.several(hand.TRUE), hand.listed(hand.text("a"), hand.number(1)),
        hand.text("ab"), hand.several(b"]", hand.NONE),
    )  # fmt: skip
    found = load(hand.pickled(hand.call(hand.name("collections", "OrderedDict"), pairs)))
    assert found == {"a": 1}
    assert load(hand.pickled(hand.call(hand.name("collections", "OrderedDict"), hand.NONE))) == {}


def test_cycles() -> None:
    """Containers that contain themselves are built as such."""
    circle: list[Any] = []
    circle.append({"back": circle})
    found = load(pickle.dumps(circle))
    assert found[0]["back"] is found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_calls_are_remembered_not_made(protocol: int) -> None:
    """A function that the pickle would call is kept by name, with its arguments and state."""
    thing = load(pickle.dumps(Trap(), protocol))
    assert (thing.class_path, thing.args) == (f"{__name__}.refuse_to_run", (1,))
    assert thing.state == {"a": 2}


def test_keyword_arguments() -> None:
    """NEWOBJ_EX keeps positional and keyword arguments."""
    thing = load(pickle.dumps(Twin(), 4))
    assert (thing.args, thing.kwargs) == ((1, 2), {"key": 3})


@pytest.mark.parametrize(
    ("data", "class_path", "args"),
    [
        (b"(K\x01ios\nsystem\n.", "os.system", (1,)),
        (b"(cos\nsystem\nK\x01o.", "os.system", (1,)),
        (b"\x82\x07)R.", "copyreg.extension 7", ()),
        (b"\x83\x07\x01)R.", "copyreg.extension 263", ()),
        (b"\x84\x07\0\0\0)\x81.", "copyreg.extension 7", ()),
        (b"\x8c\x02os\x8c\x06system\x93K\x05R.", "os.system", (5,)),
        (b"Pkey\n.", ".persistent id", ("key",)),
        (b"K\x05)R.", "", ()),
    ],
    ids=["INST", "OBJ", "EXT1", "EXT2", "EXT4", "STACK_GLOBAL", "PERSID", "not a class"],
)
def test_rare_instructions(data: bytes, class_path: str, args: tuple[Any, ...]) -> None:
    """Old and rare ways to make an object give an inert one, too."""
    thing = load(data)
    assert (thing.class_path, thing.args) == (class_path, args)


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b"S'a\\x62\\n'\n.", "ab\n"),
        (b'S"it\'s"\n.', "it's"),
        (hand.old_text("é".encode()) + b".", "Ã©"),
        (b"U\x02\xff\x00.", "\xff\0"),
        (b"I01\n.", True),
        (b"I00\n.", False),
        (b"I-7\n.", -7),
        (b"L123456789012345678901L\n.", 123456789012345678901),
        (b"F1e-5\n.", 1e-5),
        (b"V\\u00e9\n.", "é"),
        (b"\x8b\x02\0\0\0\xff\xff.", -1),
        (b"(K\x01K\x022t.", (1, 2, 2)),
        (b"(K\x01K\x02\x31K\x03.", 3),
        (b"K\x01K\x020.", 1),
        (b"(K\x01K\x02l.", [1, 2]),
        (b"(K\x01K\x02d.", {1: 2}),
    ],
)
def test_old_instructions(data: bytes, value: object) -> None:
    """Instructions of protocols 0 and 1; strings of Python 2 keep their bytes as latin-1."""
    found = load(data)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x80", b"K", b"K\x01", b".", b"(.", b"\xff.", b"X\xff\0\0\0a.",
        b"T\xff\xff\xff\xff.",
        b"t.", b"0.", b"2.", b"R.", b")R.", b"h\x05.", b"g5\n.", b"j\0\0\0\1.", b"q\0.", b"(q\0.",
        b"\x94.", b"}K\1s.", b"}(K\1u.", b"]K\1K\2s.", b"}]K\1s.", b"}K\1a.", b"N(K\1e.",
        b"}(K\1\x90.", b"(]\x91.", b"K\1K\2\x93.", b"cos\n.", b"Iabc\n.", b"Fabc\n.", b"S'a\n.",
        b"Sa\n.", b"\x97.", b"\x8b\xff\xff\xff\xff.", b"(o.", b"Q.", b"b.", b"N", b"(1.", b"J\1\2.",
        b"\x8a\xff" + b"\1" * 9, b"L1", b"V\\ud\n.", b"}(]K\1tK\1s.", b"I" + b"9" * 5000 + b"\n.",
    ],
)  # fmt: skip
def test_damaged_pickles(data: bytes) -> None:
    """Whatever is wrong with a pickle, it is an UnreadableError with a hint."""
    with pytest.raises(UnreadableError) as caught:
        load(data)
    assert "damaged pickle" in caught.value.message
    assert caught.value.hint


def test_stream_is_left_behind_the_pickle() -> None:
    """Several pickles in a row are read one after the other, none touched by the one before."""
    data = b"".join(pickle.dumps(n) for n in ([1], "two", {3}))
    stream = io.BufferedReader(io.BytesIO(data))
    found = [InertUnpickler(stream, len(data), constructors()).load() for _ in range(3)]
    assert found == [[1], "two", {3}]
    assert stream.tell() == len(data)


@pytest.mark.parametrize(
    ("data", "limit"),
    [
        (pickle.dumps([1] * 100), {"opcodes": 50}),
        (pickle.dumps("x" * 20_000), {"pickle_bytes": 10_000}),
        (pickle.dumps({tuple(range(20)): 1}), {"key_items": 10}),
        (pickle.dumps({((((1,),),),): 1}), {"key_nesting": 3}),
    ],
    ids=["opcodes", "bytes", "key's members", "key's nesting"],
)
def test_limits(data: bytes, limit: dict[str, int]) -> None:
    """Past a limit the pickle is refused; without the limit it is read."""
    assert load(data) is not None
    with pytest.raises(RefusedError):
        load(data, replace(DEFAULT_LIMITS, **limit))


def test_integers_have_a_limit() -> None:
    """An integer that nobody could print is damage, whichever instruction brings it."""
    length = DEFAULT_LIMITS.integer_bytes + 1
    with pytest.raises(UnreadableError, match="integer"):
        load(b"\x8b" + struct.pack("<i", length) + b"\1" * length + b".")
    assert load(b"\x8b" + struct.pack("<i", length - 1) + b"\1" * (length - 1) + b".") > 0


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_every_instruction_is_counted(protocol: int) -> None:
    """With what it may take, whether the loop runs it itself or a function does."""
    each = [
        ((n,), (n, 300 + n), (n, 300, 70_000 + n, -n), {}, (), False, f"{n}", OrderedDict())
        for n in range(250)
    ]
    data = pickle.dumps([each, each[:9]], protocol)
    budget = Budget(DEFAULT_LIMITS)
    stream = io.BufferedReader(io.BytesIO(data))
    table = constructors(DEFAULT_LIMITS)
    InertUnpickler(stream, len(data), table, None, DEFAULT_LIMITS, budget).load()
    steps = [(op.code.encode("latin-1"), given) for op, given, _ in pickletools.genops(data)]
    assert budget.opcodes == len(steps) - 1  # that it ends is counted by nobody
    costs = sum(COSTS[code] for code, _ in steps[:-1])
    texts = sum(sys.getsizeof(text) for _, text in steps if isinstance(text, str))
    spare = budget.memory - costs - texts
    # Numbers and names of the first protocols are lines of text, too.
    assert 0 <= spare < (400 if protocol >= 2 else 200_000)
