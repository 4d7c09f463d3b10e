"""Imports run one way: from each floor to those below it, and never in a circle."""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.conftest import ROOT

FLOORS = (
    ("cycles", "errors", "lazy_dataclass", "lazy_pattern", "often_made", "platforms",
     "process_copy", "shown", "version", "wording", "writing"),
    ("sources",), ("saved",), ("pickles",), ("formats",), ("norms",), ("findings",), ("live",),
    ("compare",), ("rules",), ("repair",), ("report",), ("config",), ("pipeline",), ("fleet",),
    ("runs",), ("api",), ("integrations",), ("cli",), ("__init__", "__main__"),
)  # fmt: skip
"""The packages and modules of normcheck, the lowest first; those of one floor stand abreast."""
MOST_FILES = 20
FILES = {file.relative_to(ROOT): file for file in sorted((ROOT / "normcheck").rglob("*.py"))}


@cache
def arrows() -> dict[Path, set[Path]]:
    """What each file imports of ours, in functions and for types too."""
    return {file: set(_imported(file)) - {file} for file in FILES}


def _imported(file: Path) -> Iterator[Path]:
    for node in ast.walk(ast.parse(FILES[file].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{file}: imports are written whole"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for place in (Path(*name.split(".")) for name in names if name.startswith("normcheck.")):
            # A module or a package, or what is defined in one.
            homes = [place, place / "__init__", place.parent, place.parent / "__init__"]
            yield next(f for home in homes if (f := Path(f"{home}.py")) in FILES)


def floor(file: Path) -> int:
    """The number of the floor on which a file stands, from 0."""
    room = file.parts[1].removesuffix(".py")
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def test_every_room_stands_on_a_floor() -> None:
    """A new package says which floor it belongs to."""
    rooms = {file.parts[1].removesuffix(".py") for file in FILES}
    assert rooms <= {room for rooms in FLOORS for room in rooms}


def test_no_arrow_runs_upward() -> None:
    """A file imports from its own floor and from those below it."""
    upward = [(a, b) for a, below in arrows().items() for b in below if floor(b) > floor(a)]
    assert not upward, "\n".join(f"{a} imports {b}" for a, b in upward)


def test_no_files_import_each_other() -> None:
    """Any file can be understood after those that it imports."""
    _no_circle(arrows())


@pytest.mark.parametrize("room", ["norms", "live", "repair", "report", "cli", "formats"])
def test_no_folders_of_a_floor_import_each_other(room: str) -> None:
    """Folders side by side stand in one order, too; files beside them may be above or below."""
    inner: dict[Path, set[Path]] = {}
    for a, below in arrows().items():
        if a.parts[1] == room and len(a.parts) > 3:
            inner.setdefault(a.parent, set()).update(
                b.parent for b in below if b.parts[1] == room and len(b.parts) > 3
            )
            inner[a.parent].discard(a.parent)
    assert inner
    _no_circle(inner)


def test_no_folder_outgrows_its_room() -> None:
    """Who opens a folder sees all of it."""
    folders = [file.parent for file in FILES if file.name != "__init__.py"]
    crowded = {str(f): folders.count(f) for f in folders if folders.count(f) > MOST_FILES}
    assert not crowded


def _no_circle(graph: dict[Path, set[Path]]) -> None:
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(map(str, reversed(error.args[1]))))
