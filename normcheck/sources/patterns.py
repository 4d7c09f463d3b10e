"""Patterns of local files, one folder at a time.

``glob.glob`` has all matches in memory before the first is known; ``iglob`` gives them one by one
in the order in which the disk has them, which differs between machines. Here each folder's names
are sorted, and nothing but the folders on the way down is held. What the signs mean is the
library's business, ``fnmatch``; as there, ``**`` stands for folders at any depth and a leading
dot has to be written.
"""

import fnmatch
import os
from collections.abc import Iterator, Sequence
from glob import has_magic
from itertools import takewhile
from pathlib import Path

_ANY_DEPTH = "**"


def matching(pattern: str) -> Iterator[Path]:
    """The files and folders that a pattern names, each once, in a stable order.

    Args:
        pattern: With at least one of the signs ``*``, ``?`` and ``[``.
    """
    parts = Path(pattern).parts
    fixed = list(takewhile(lambda part: not has_magic(part), parts))
    rest: list[str] = []
    for part in parts[len(fixed) :]:
        # Two in a row stand for no more than one.
        if part != _ANY_DEPTH or rest[-1:] != [_ANY_DEPTH]:
            rest.append(part)
    seen: set[Path] | None = set() if rest.count(_ANY_DEPTH) > 1 else None
    for path in _below(Path(*fixed), rest):
        if seen is None:
            yield path
        elif path not in seen:  # there are several ways to the same place
            seen.add(path)
            yield path


def _below(folder: Path, parts: Sequence[str]) -> Iterator[Path]:
    part, rest = parts[0], parts[1:]
    if part == _ANY_DEPTH:
        yield from _at_any_depth(folder, rest)
        return
    if not has_magic(part):
        found = [folder / part] if os.path.lexists(folder / part) else []
    else:
        names = fnmatch.filter(_names(folder), part)
        found = [folder / n for n in names if part.startswith(".") or not n.startswith(".")]
    for path in found:
        if not rest:
            yield path
        elif path.is_dir():
            yield from _below(path, rest)


def _at_any_depth(folder: Path, rest: Sequence[str]) -> Iterator[Path]:
    """What ``rest`` names here and in every folder below, links to folders aside."""
    if rest:
        yield from _below(folder, rest)
    for path in (folder / name for name in _names(folder) if not name.startswith(".")):
        if not rest:
            yield path
        if path.is_dir() and not path.is_symlink():
            yield from _at_any_depth(path, rest)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:  # no folder, or nobody may look into it
        return []
