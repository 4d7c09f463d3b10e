"""What keeps the tests honest: none hangs on the machine, on its load, or on its devices."""

import ast
import re
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT

CLOCKS = {"monotonic", "perf_counter", "time"}
TESTS = sorted((ROOT / "tests").rglob("*.py"))
OWN = re.compile(r"/dev/fd(/\d+)?$")
"""What a process itself has open, by number: no device of the system."""
FUZZERS = ROOT / "tests/fuzz"
"""Measures how long an input takes, and may fall back on another folder than /dev/shm."""


def bets(source: str) -> list[str]:
    """Where a test bets on the machine: a deadline, a measured time, a device of the system."""
    found = []
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.keyword(arg="timeout", value=ast.Constant(value=int() | float())):
                found.append(f"{node.lineno}: a deadline in numbers; use PATIENCE")
            case ast.Assert(test=ast.Compare(left=left, comparators=[*right])):
                sides = (part for side in (left, *right) for part in ast.walk(side))
                if any(isinstance(p, ast.Attribute) and p.attr in CLOCKS for p in sides):
                    found.append(f"{node.lineno}: asserts how long something took")
            case ast.Constant(value=str(text)) if text.startswith("/dev/") and not OWN.match(text):
                found.append(f"{node.lineno}: {text}")
    return found


@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_test_bets_on_the_machine(path: Path) -> None:
    """Neither on its speed nor on /dev/null being a device."""
    if path == Path(__file__) or path.is_relative_to(FUZZERS):
        pytest.skip("names what is looked for")
    text = path.read_text(encoding="utf-8")
    assert [
        bet for bet in bets(text) if path.name != "test_platforms.py" or "/dev/" not in bet
    ] == []


@pytest.mark.parametrize(
    "line",
    [
        "run([], timeout=60)",
        "assert time.monotonic() - start < 5",
        "assert 0.1 > clock.perf_counter() - begin",
        "open('/dev/null')",
    ],
)
def test_bets_are_seen(line: str) -> None:
    """Each kind of them."""
    assert len(bets(line)) == 1


def test_open_files_of_the_process_are_no_devices() -> None:
    """By their numbers; other names below them are."""
    assert bets("open('/dev/fd/7')") == []
    assert len(bets("open('/dev/fd/7/..')")) == 1


def test_patience_is_generous() -> None:
    """The slowest command takes some seconds where nothing else runs."""
    assert PATIENCE >= 600
