"""Bytes between processes and from caches: only values come out, and what went in."""

import json
import tracemalloc
import zlib
from dataclasses import FrozenInstanceError, fields, is_dataclass, replace
from enum import Enum
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from normcheck.errors import DamagedError
from normcheck.findings import Finding, Severity, Skipped
from normcheck.fleet.worker_messages import MESSAGES as OF_WORKERS
from normcheck.fleet.worker_messages import Ready, Result
from normcheck.live.process import wire
from normcheck.live.process.child_messages import MESSAGES as OF_RUNS
from normcheck.live.process.child_messages import Came, Progress
from normcheck.live.process.wire import read, read_message, written, written_message
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.structure.link import Before, Link
from normcheck.norms.kinds import BY_NAME, NormKind
from normcheck.norms.layer import BatchCount, Confidence, NormLayer, Recognition, Values
from normcheck.pipeline.results import FileResult, Verdicts, models_of
from normcheck.report.fit_summary import LinkSummary
from normcheck.report.report import LayerSummary, ModelReport, Spread
from normcheck.report.skipped_rules import SkippedRules, together
from normcheck.saved.dtypes import FLOAT32, DType
from normcheck.saved.tensors import Storage, TensorRef
from tests.live.process.values import NAMES, any_of, plainly

ROOTS = [FileResult, ModelReport, *OF_WORKERS.values(), *OF_RUNS.values()]
MADE_OFTEN = {
    TensorRef, NormLayer, Values, Recognition, BatchCount, Link, Before, Fit, SkippedRules, Spread,
    LayerSummary, LinkSummary,
}  # fmt: skip
"""Frozen for who checks types only: see ``normcheck/often_made.py``."""
EASY = settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))


def without_bytes(value: Any) -> Any:
    """A value as it arrives: a tensor's bytes stay where they are, and it says so."""
    if isinstance(value, TensorRef):
        return replace(value, storage=None, note=value.note or "left in its process")
    if isinstance(value, tuple):
        return tuple(map(without_bytes, value))
    if is_dataclass(value) and not isinstance(value, DType | NormKind | Enum):
        parts = {f.name: without_bytes(getattr(value, f.name)) for f in fields(value) if f.init}
        return type(value)(**parts)  # type: ignore[misc]  # no class, an instance
    return value


@pytest.mark.parametrize("kind", ROOTS, ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
@EASY
@given(st.data())
def test_what_went_in_comes_out(kind: type, data: st.DataObject) -> None:
    """Of every type that travels, bit for bit, with the same types all the way down."""
    value = data.draw(any_of(kind))
    assert plainly(read(written(value), kind)) == plainly(without_bytes(value))


def reachable() -> set[type]:
    """Every class that bytes can become."""
    found: set[type] = set()
    left: list[Any] = list(ROOTS)
    while left:
        kind = left.pop()
        if get_args(kind):
            left += get_args(kind)
        elif isinstance(kind, type) and kind not in found and kind is not Storage:
            found.add(kind)
            if is_dataclass(kind) and kind not in (DType, NormKind):
                hints = get_type_hints(kind, localns=NAMES)
                left += [hints[field.name] for field in fields(kind) if field.init]
    return {kind for kind in found if kind.__module__.startswith("normcheck.")}


def test_only_plain_values_can_be_built() -> None:
    """Each class is an enumeration, or a frozen dataclass whose constructor does nothing more.

    Those that are made by the thousand are frozen for type checkers alone.
    """
    kinds = reachable()
    assert {Finding, Verdicts, Anatomy, NormLayer, TensorRef, Severity} <= kinds
    for kind in kinds:
        if issubclass(kind, Enum):
            continue
        assert is_dataclass(kind), kind
        for field in fields(kind) if kind not in MADE_OFTEN else ():
            with pytest.raises(FrozenInstanceError):
                setattr(object.__new__(kind), field.name, 1)
        assert "__slots__" in vars(kind) or "_lazy_dataclass" in vars(kind), kind
        own = {"__post_init__", "__new__", "__setattr__", "__setstate__", "__reduce__"}
        assert not own & set(vars(kind)) - {"__setattr__", "__setstate__"}, kind


PICKLES = [
    b"cos\nsystem\n(S'true'\ntR.",
    b"cnormcheck.live.isolated\nsubprocess\n.",
    b"\x80\x04\x8c\x17normcheck.live.isolated\x8c\x10subprocess.Popen\x93.",
    # Hands out a class, and sets an attribute on it: an error would be worth nothing from then on.
    b"cnormcheck.findings\nSeverity\n(N}S'ERROR'\nS'info'\nstb.",
]
FORGED = [
    ["Severity", []],
    ["normcheck.findings.Severity", []],
    ["FileResult", []],
    ["Result", {"__class__": "FileResult"}],
    ["Result", [["a.pt", [], [], [], [], [], "", "", "one too many"]]],
    ["Result", [["a.pt", [], [], [], [], [], ""]]],
    ["Result", [[1, [], [], [], [], [], "", ""]]],
    ["Result", [["a.pt", [["", [["NC101"]], []]], [], [], [], [], "", ""]]],
    ["Result", [["a.pt", "text", [], [], [], [], "", ""]]],
    ["Result", [["a.pt", [], [], [], [], [], "no base64!", ""]]],
    ["Result", [["a.pt", [], [], [], [True], [], "", ""]]],
    ["Result", {"0": "a.pt"}],
    ["Progress", ["x", 1.5]],
    ["Progress", ["x", True]],
    ["Progress", ["x", None]],
    ["Progress"],
    [],
    {},
    "Progress",
    None,
]


@pytest.mark.parametrize("body", [*PICKLES, *(json.dumps(forged).encode() for forged in FORGED)])
@pytest.mark.parametrize("kinds", [OF_WORKERS, OF_RUNS])
def test_the_way_back(body: bytes, kinds: dict[str, type]) -> None:
    """What comes back from a process is one of its messages, or nothing."""
    with pytest.raises(DamagedError):
        read_message(body, kinds)


@pytest.mark.parametrize("text", ["", "{}\n", "[1]\n[2]\n\n", "µ \ud800 \x00"], ids=ascii)
def test_a_text_beside_a_message(text: str) -> None:
    """It arrives as it was, ends of lines and halves of characters included."""
    skipped = together([Skipped("a.pt", "", "NC101", "two\nlines")])
    result = FileResult("a.pt", skipped=skipped)
    back = read_message(written_message(Result(result), text), OF_WORKERS)
    assert back == Result(replace(result, line=text))


def test_a_text_that_nobody_expects_or_that_is_none() -> None:
    """It is refused, and counts for the length of the message."""
    message = written_message(Result(FileResult("a.pt")), "x" * 100)
    for broken in (written_message(Ready(), "x"), message + b"\xff", b"\n" + message):
        with pytest.raises(DamagedError):
            read_message(broken, OF_WORKERS)
    with pytest.raises(DamagedError, match="longer than"):
        read_message(message, OF_WORKERS, len(message) - 1)
    assert read_message(message, OF_WORKERS, len(message)).result.line == "x" * 100


def test_enumerations_have_their_own_members_only() -> None:
    """And what is read changes none of them."""
    finding = Finding("NC101", "n", Severity.ERROR, Confidence.HIGH, "t", "d", "c", "f")
    data = written(finding)
    for word in (b'"fatal"', b'"_member_map_"', b'"ERROR"', b"0", b"null", b'["error"]'):
        with pytest.raises(DamagedError):
            read(data.replace(b'"error"', word), Finding)
    assert read(data, Finding) == finding
    assert Severity.ERROR.rank == 2


def a_layer(path: str = "norm") -> NormLayer:
    ones = Values(np.ones(3), FLOAT32)
    kind = BY_NAME["BatchNorm2d"]
    sure = Recognition(Confidence.HIGH, "its class")
    return NormLayer(path, kind, sure, 3, ones, ones, BatchCount(5, FLOAT32), unread={"bias": "x"})


def test_a_layer_that_comes_twice_is_one() -> None:
    """Rules tell layers apart by identity, and statistics of one array are stored once."""
    layer = a_layer()
    came = Came(
        Anatomy("", (layer, a_layer("other"), layer), has_modules=True), None, "", None, None
    )
    back = read_message(written_message(came), OF_RUNS).anatomy
    assert back.layers[0] is back.layers[2]
    assert back.layers[0] is not back.layers[1]
    assert back.layers[0].running_mean.numbers is back.layers[0].running_var.numbers
    assert back.layers[0].kind is layer.kind


@pytest.mark.parametrize(
    "layers",
    [[0], [-1], [99], [True], [1.0]],
    ids=str,
)
def test_a_number_of_nothing(layers: list[object]) -> None:
    """What is shared is met before it is named, and is of the type of its place."""
    raw = [
        "Came",
        [
            ["", layers, True, None, None, False, 0, [], [], None, [], False, [], []],
            None,
            "",
            None,
            None,
        ],
    ]
    with pytest.raises(DamagedError):
        read_message(json.dumps(raw).encode(), OF_RUNS)


@pytest.mark.parametrize(
    "array",
    [
        [[3], ""], [[-1], ""], [[2**62, 4], ""], [3, ""], [[True], "AAAAAAAAAAA="], [[1]],
        [[1.0], "AAAAAAAAAAA="],
    ],
    ids=str,
)  # fmt: skip
def test_an_array_that_is_none(array: list[object]) -> None:
    """Its length is that of its shape."""
    data = json.loads(written(Values(np.ones(1), FLOAT32)))
    assert read(json.dumps(data).encode(), Values).numbers == 1.0
    data[0] = array
    with pytest.raises(DamagedError):
        read(json.dumps(data).encode(), Values)


def test_what_a_value_keeps_for_itself_stays() -> None:
    """Numbers that were looked at in their order travel as numbers, and bytes give no order."""
    fresh = written(Values(np.array([3.0, 1.0]), FLOAT32))
    looked_at = Values(np.array([3.0, 1.0]), FLOAT32)
    assert looked_at.lowest == 1.0
    assert written(looked_at) == fresh
    back = read(fresh, Values)
    assert back.numbers.tolist() == [3.0, 1.0]
    assert back.ordered.tolist() == [1.0, 3.0]
    more = [*json.loads(fresh), json.loads(written(Values(np.zeros(2), FLOAT32)))[0]]
    with pytest.raises(DamagedError):
        read(json.dumps(more).encode(), Values)


def test_what_does_not_travel_is_said_where_it_is_written() -> None:
    """Not where it is read, by which time nobody knows what it was."""
    with pytest.raises(TypeError, match="does not travel"):
        written(Progress("x", print))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="int16 does not travel"):
        written(Values(np.ones(1, np.int16), FLOAT32))  # type: ignore[arg-type]


def _peak(data: bytes, reader: Any) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError):
            reader(data)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_what_is_packed_to_unfold_does_not() -> None:
    """A hundred kilobytes that would be hundreds of megabytes are refused at a few."""
    bomb = zlib.compress(b" " * (300 << 20), 9)
    assert len(bomb) < 400_000
    result = FileResult("a.pt", packed=bomb)
    assert _peak(bomb, lambda data: wire.unfolded(data, wire.LONGEST)) < 80 << 20
    assert _peak(bomb, lambda data: wire.unfolded(data, 1 << 20)) < 3 << 20
    with pytest.raises(DamagedError):
        models_of(result)


@pytest.mark.parametrize("piece", [b"[", b"{}", b'{"a":'])
def test_nesting_and_parts_end(piece: bytes) -> None:
    """Before they become lists, of which each takes twenty times its two bytes."""
    assert _peak(piece * 200_000, lambda data: read(data, FileResult)) < 20 << 20
    assert _peak(piece * (9 << 20), lambda data: read(data, FileResult)) < 20 << 20


def test_what_is_packed_well_unfolds_all_the_same() -> None:
    """However alike the parts of an honest value are."""
    for data in (b"", b"x", b" " * (8 << 20), bytes(range(256)) * 1000):
        assert wire.unfolded(wire.shrunk(data), 8 << 20) == data
    for broken in (b"", b"garbage", wire.shrunk(b"abc")[:-1], wire.shrunk(b"abc") + b"x"):
        with pytest.raises(DamagedError):
            wire.unfolded(broken, 100)


@EASY
@given(any_of(Result), st.data())
def test_damage_is_refused_or_changes_a_value(message: Result, data: st.DataObject) -> None:
    """Bytes that are changed anywhere become a value of the same types, or nothing."""
    body = bytearray(written_message(message))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(body) - 1))
        body[place] = data.draw(st.integers(0, 255))
    try:
        back = read_message(bytes(body), OF_WORKERS)
    except DamagedError:
        return
    assert type(back) in OF_WORKERS.values()
    assert plainly(read_message(written_message(back), OF_WORKERS)) == plainly(back)
