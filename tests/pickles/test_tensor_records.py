"""Tensors taken a record at a time leave what the instructions one by one leave, or fail alike."""

import io
import random
import zipfile
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from normcheck.errors import NormcheckError, UnreadableError
from normcheck.pickles.inert import Inert
from normcheck.pickles.machine import InertUnpickler
from normcheck.pickles.opcodes import TABLE
from normcheck.pickles.tensor_records import TensorRecords
from normcheck.pickles.torch_objects import constructors, storage_dtype, storage_key
from normcheck.saved.tensors import Storage, TensorRef
from normcheck.sources.limits import DEFAULT_LIMITS, Budget, Limits


class OneByOne(InertUnpickler):
    """The same machine without the shorter way."""

    _by_record = False


def pickled(model: nn.Module, *, form: str = "state") -> bytes:
    """The pickle of a checkpoint, as ``torch.save`` writes it."""
    buffer = io.BytesIO()
    value: Any = model.state_dict()
    if form == "trained":
        value = {"epoch": 3, "state_dict": value, "ema": value, "scale": torch.ones(3, 4).T}
    torch.save(model if form == "module" else value, buffer)
    archive = zipfile.ZipFile(buffer)
    return archive.read(next(n for n in archive.namelist() if n.endswith("data.pkl")))


def networks() -> list[bytes]:
    convolutions = nn.Sequential(
        *(part for _ in range(16) for part in (nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    )
    wide = nn.Sequential(nn.Linear(400, 300), nn.BatchNorm1d(300), nn.Conv3d(2, 70_000, 1))
    return [pickled(net, form=form) for net in (convolutions, wide)
            for form in ("state", "trained", "module")]  # fmt: skip


FILES = networks()


def told(value: object, seen: dict[int, int]) -> object:
    """A value as plain data: what it holds, and which parts of it are the same object."""
    if isinstance(value, str | int | float | bytes | None):
        return type(value).__name__, value
    if id(value) in seen:
        return "again", seen[id(value)]
    # Tuples of numbers may be shared: nothing tells two equal ones apart.
    plain = isinstance(value, tuple) and all(type(part) is int for part in value)
    if not plain:
        seen[id(value)] = len(seen)
    if isinstance(value, dict):
        parts: list[object] = [part for item in value.items() for part in item]
        parts.append(getattr(value, "attributes", None))
    elif isinstance(value, list | tuple):
        parts = list(value)
    elif isinstance(value, Inert):
        parts = [value.cls, value.args, value.kwargs, value.state, value.items, value.entries]
    elif isinstance(value, TensorRef):
        parts = [getattr(value, name) for name in TensorRef.__slots__ if name != "dtype"]
        parts.append(value.dtype.name)
    elif isinstance(value, Storage):
        parts = [value.key, value.dtype.name, value.nbytes]
    else:
        return repr(value)
    return type(value).__name__, [told(part, seen) for part in parts]


def outcome(kind: type[InertUnpickler], data: bytes, limits: Limits) -> object:
    """All that a pickle leaves: its value, memo, marks and cost; or its error."""
    storages: dict[str, Storage] = {}

    def persistent(saved_id: Any) -> Storage:
        _, cls, named, _location, numel = saved_id
        key = storage_key(named)
        if type(numel) is not int or numel < 0:
            raise UnreadableError("no valid length")
        dtype = storage_dtype(cls)
        return storages.setdefault(key, Storage(key, dtype, numel * dtype.itemsize))

    budget = Budget(limits)
    stream = io.BytesIO(data)
    machine = kind(stream, len(data), constructors(limits), persistent, limits, budget)
    try:
        value = machine.load()
    except NormcheckError as error:
        return type(error), error.message, error.hint
    seen: dict[int, int] = {}
    left = [value, machine._memo, machine._below]
    return (
        told(left, seen), budget.opcodes, budget.memory, list(budget.names), stream.tell(),
    )  # fmt: skip


def changed(data: bytes, choice: random.Random) -> bytes:
    """The pickle with a few bytes put in, left out or exchanged, most of them instructions."""
    known = b"".join(TABLE) + b"qrhjKMJ(t)XQR\x85\x86\x87\x88\x89"
    raw = bytearray(data)
    for _ in range(choice.randrange(1, 4)):
        place = choice.randrange(len(raw))
        new = choice.choice(known) if choice.random() < 0.6 else choice.randrange(256)
        match choice.randrange(4):
            case 0:
                raw.insert(place, new)
            case 1:
                del raw[place]
            case 2:
                # A number becomes another index, length or key.
                raw[place] = (raw[place] + choice.choice((-2, -1, 1, 2))) % 256
            case _:
                raw[place] = new
    return bytes(raw)


@pytest.mark.parametrize("data", FILES)
def test_what_torch_saves(data: bytes) -> None:
    """Value, memo, cost and place in the stream are the same."""
    assert outcome(InertUnpickler, data, DEFAULT_LIMITS) == outcome(OneByOne, data, DEFAULT_LIMITS)


def test_most_instructions_of_a_state_dict_are_taken_by_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise what is compared here is the loop with itself."""
    run, taken = TensorRecords.run, []

    def counted(self: TensorRecords, *given: Any) -> Any:
        ran = run(self, *given)
        taken.append(ran.instructions)
        return ran

    monkeypatch.setattr(TensorRecords, "run", counted)
    budget = Budget(DEFAULT_LIMITS)
    data = FILES[0]
    InertUnpickler(
        io.BytesIO(data), len(data), constructors(),
        lambda saved: Storage(saved[2], storage_dtype(saved[1]), saved[4] * 8), budget=budget,
    ).load()  # fmt: skip
    assert sum(taken) > 0.8 * budget.opcodes


@pytest.mark.parametrize("seed", range(len(FILES)))
def test_damaged_pickles_end_alike(seed: int) -> None:
    """The same value at the same cost, or the same words about the same byte."""
    choice = random.Random(seed)  # noqa: S311  # no secret
    for _ in range(250):
        data = changed(FILES[seed], choice)
        usual, one = (outcome(kind, data, DEFAULT_LIMITS) for kind in (InertUnpickler, OneByOne))
        assert usual == one, data


def test_limits_are_met_at_the_same_instruction() -> None:
    """One instruction less than a file has is refused, whichever way it is read."""
    data = FILES[0]
    opcodes, memory = outcome(OneByOne, data, DEFAULT_LIMITS)[1:3]  # type: ignore[index]
    for fraction in (0.1, 0.37, 0.5, 0.81, 0.97, 1.0):
        for less in (0, 1, 7):
            for limits in (
                replace(DEFAULT_LIMITS, opcodes=int(fraction * opcodes) - less),
                replace(DEFAULT_LIMITS, memory_bytes=int(fraction * memory) - less),
            ):
                assert outcome(InertUnpickler, data, limits) == outcome(OneByOne, data, limits)


def test_a_reader_with_instructions_of_its_own_keeps_them() -> None:
    """A subclass that changes an instruction of a record sees every one of them."""
    seen = []

    class Watching(InertUnpickler):
        table = {**TABLE, b"\x89": lambda m: (seen.append(m.position), m.push(False))[1]}  # noqa: RUF012

    outcome(Watching, FILES[0], DEFAULT_LIMITS)
    assert len(seen) == 16 * 7
