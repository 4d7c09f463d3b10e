"""TorchScript and exported programs made to harm: nothing runs, nothing takes time or memory."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from normcheck.errors import NormcheckError
from normcheck.formats.reading_errors import complete
from normcheck.formats.registry import read_source
from normcheck.norms.find_norms import anatomy_of
from normcheck.sources.limits import DEFAULT_LIMITS
from normcheck.sources.source import MemorySource
from tests.formats import by_hand
from tests.formats.exports import hostile, hostile_programs, hostile_scripts
from tests.pickles import attacks

pytestmark = [pytest.mark.slow, pytest.mark.posix]

READ = [""]
SECONDS = 15
"""Of one file, on a machine that has other things to do; most take a thousandth."""


def _write(folder: Path, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name.replace("/", " ")).write_bytes(data)


def _wrong(outcomes: dict[str, Any]) -> dict[str, Any]:
    return {
        name: result
        for name, result in outcomes.items()
        if "WRONG" in str(result[0]) or result[1] > SECONDS
    }


def test_scripts(folder: Path, read_all) -> None:
    """Code that calls, nests, grows or is none: read or refused, in seconds."""
    _write(folder, hostile_scripts.scripts())
    outcomes = read_all()
    assert _wrong(outcomes) == {}
    refused = {name for name, (outcome, _) in outcomes.items() if outcome == "RefusedError"}
    assert refused >= {
        f"script, {name}"
        for name in (
            "calls of twice two calls", "calls 500 deep", "a call of itself",
            "two that call each other", "tuples of twice two", "tuples of twice two compared",
            "tuples 100,000 deep", "attributes 100,000 deep", "a name that grows",
            "a path that grows", "signs 90,000 deep",
        )
    }  # fmt: skip
    read = {name for name, (outcome, _) in outcomes.items() if outcome == READ}
    assert read >= {
        f"script, {name}"
        for name in (
            "adds of twice two", "another encoding", "numbers of any length", "no argument",
            "arguments of wrong types", "constants that are not there", "odd attributes",
            "constants as an attribute", "statements", "parameters of every kind", "imports",
        )
    }  # fmt: skip


def test_programs(folder: Path, marker: Path, read_all) -> None:
    """Graphs and lists of weights that lie: read or refused, in seconds; no pickle runs."""
    attack = Path(folder.parent / "attack.pt")
    body = attacks.code_runners(str(marker))["os.system"]
    by_hand.torch_zip(attack, by_hand.pickled(by_hand.mapping({"norm.weight": body})))
    _write(folder, hostile_programs.programs(attack.read_bytes()))
    outcomes = read_all()
    assert _wrong(outcomes) == {}
    read = {name for name, (outcome, _) in outcomes.items() if outcome == READ}
    assert read >= {
        "program, graphs 45 deep", "program, adds of twice two", "program, wide concatenations",
        "program, values in a circle", "program, one name made again and again",
        "program, no numbers", "weights, a pickle", "weights, missing",
        "weights, one file again and again", "weights that run",
    }  # fmt: skip
    assert {outcomes[f"program, graphs {n} deep"][0] for n in (60, 200)} == {"RefusedError"}
    damaged = {name for name in outcomes if name.startswith("weights, outside")}
    assert {str(outcomes[name][0]) for name in damaged} == {"UnreadableError"}


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(
        value, list) else ()  # fmt: skip
    for key, part in inner:
        yield from _places(part, (*path, key))


def _put(value: Any, path: tuple[Any, ...], what: Any) -> Any:
    if not path:
        return what
    made = copy.deepcopy(value)
    inside = made
    for key in path[:-1]:
        inside = inside[key]
    if what is _GONE:
        del inside[path[-1]]
    else:
        inside[path[-1]] = what
    return made


_GONE = object()
ODD = (
    _GONE, None, True, 0, -1, 1 << 62, 1 << 70, 0.5, float("nan"), float("inf"), "", "x", "p_bias",
    [], [None], {}, {"as_int": 1}, {"as_tensor": {"name": "x"}}, {"as_ints": [1, "a"]}, [[["x"]]],
)  # fmt: skip


@pytest.mark.parametrize("part", ["graph", "weights"])
def test_every_place_with_every_type(part: str) -> None:
    """Each value of the JSON, left out or of another type: an answer or an error with a hint."""
    whole = hostile.described() if part == "graph" else hostile.entries()
    answers = {"read": 0, "error": 0}
    hints = set()
    for path in _places(whole):
        for odd in ODD:
            if not path and odd is _GONE:
                continue
            made = _put(whole, path, odd)
            data = hostile.program(*((made, None) if part == "graph" else (None, made)))
            try:
                checkpoint = read_source(MemorySource(data, "odd"), DEFAULT_LIMITS)
                for model in checkpoint.models:
                    anatomy_of(model)
                answers["read"] += 1
            except NormcheckError as error:
                complete(error, "odd")
                hints.add(error.hint)
                answers["error"] += 1
            except Exception as error:
                raise AssertionError(f"{path} = {json.dumps(odd, default=str)}") from error
    assert "" not in hints
    assert min(answers.values()) > 100
