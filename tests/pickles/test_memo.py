"""What a pickle keeps: any place may be taken, and what cannot be asked for is not kept."""

import datetime as dt
import io
import pickle
import random
from typing import Any

import pytest

from normcheck.errors import NormcheckError
from normcheck.pickles.inert import Inert
from normcheck.pickles.machine import InertUnpickler
from normcheck.pickles.memo import ANY, Memo, asked_for
from normcheck.pickles.torch_objects import constructors
from tests.fuzz.mutate import mutated


def loaded(data: bytes, asked: Any) -> Any:
    """What a pickle describes, or what is wrong with it."""
    machine = InertUnpickler(io.BytesIO(data), len(data), constructors(), asked=asked)
    try:
        return shown(machine.load(), 0)
    except NormcheckError as error:
        return type(error), error.message


def shown(value: Any, depth: int) -> Any:
    if depth > 20:
        return "deep"
    if isinstance(value, Inert):
        parts = (value.class_path, value.args, value.state, value.items, value.entries)
        return [shown(part, depth + 1) for part in parts]
    if isinstance(value, dict):
        return {str(key): shown(part, depth + 1) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [type(value).__name__, *(shown(part, depth + 1) for part in value)]
    return repr(value)


def things() -> list[Any]:
    shared = ["shared", 1]
    names = [f"proj.{number}.gg" for number in range(300)]
    return [
        {name: (shared, [number], name) for number, name in enumerate(names)},
        [names, list(reversed(names)), {"j": names[:40]}, b"j\x01\x01\0\0", "g300\n"],
        [dt.timedelta(number) for number in range(3)],
        {"z": 1 + 2j, "s": {1, 2}, "nested": [[[["x"] * 3]]]},
    ]


@pytest.mark.parametrize("protocol", range(6))
def test_values_are_the_same(protocol: int) -> None:
    """Whole pickles describe the same, whether all of it is kept or what may be asked for."""
    for thing in things():
        data = pickle.dumps(thing, protocol)
        assert loaded(data, asked_for(data)) == loaded(data, ANY)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_damage_is_the_same(protocol: int) -> None:
    """So do damaged ones, down to the words of the error."""
    seeds = [pickle.dumps(thing, protocol) for thing in things()]
    chance = random.Random(protocol)  # noqa: S311
    for _ in range(400):
        data = mutated(seeds, chance)
        assert loaded(data, asked_for(data)) == loaded(data, ANY)


def test_what_is_never_asked_for_is_not_kept() -> None:
    """Of many values only those are kept that an instruction may take again."""
    data = pickle.dumps([[f"n{number}"] for number in range(1000)] + ["again"] * 2, 2)
    asked = asked_for(data)
    machine = InertUnpickler(io.BytesIO(data), len(data), constructors(), asked=asked)
    machine.load()
    kept = [value for value in machine._memo.near if value is not None]
    assert len(machine._memo) > 2000
    assert len(kept) < 300
    assert "again" in kept


def test_any_place_may_be_taken() -> None:
    """As a dictionary: places out of order, far away, negative, twice."""
    chance = random.Random(1)  # noqa: S311
    for _ in range(200):
        memo, plain = Memo(ANY), dict[int, int]()
        for value in range(40):
            place = chance.choice((len(plain), chance.randrange(-3, 9), 1 << 40))
            memo[place] = plain[place] = value
            assert len(memo) == len(plain)
            assert {place: memo[place] for place in plain} == plain
        with pytest.raises(KeyError):
            memo[99]
