"""What besides its bytes decides on the result of a file, as one hash."""

import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from datetime import date, time
from enum import Enum
from hashlib import blake2b
from pathlib import Path, PurePath
from types import FunctionType
from typing import Any

from normcheck.errors import UsageError
from normcheck.fleet.file_task import FileTask
from normcheck.sources.place import Place
from normcheck.version import VERSION

_LENGTH = 16
"""Bytes of a hash: no two of a billion are the same by chance."""
_PLAIN = (str, bytes, int, float, bool, type(None), date, time)
"""Values that ``repr`` tells apart; dates and times are what TOML has besides."""


def code_digest() -> bytes:
    """A hash of normcheck's own code, and of what computes for it.

    The version alone would not do: while a rule is being written it says something else
    every hour.
    """
    import numpy as np

    digest = blake2b(digest_size=_LENGTH)
    digest.update(repr((VERSION, sys.version_info[:3], np.__version__)).encode())
    package = Path(__file__).resolve().parent.parent
    # As texts: to sort a hundred Paths takes longer than to hash the files.
    for file in sorted(map(str, package.rglob("*.py"))):
        digest.update(file.removeprefix(str(package)).encode() + b"\0")
        digest.update(Path(file).read_bytes())
    return digest.digest()


class Scopes:
    """Hashes of all that a scan of a file follows from, its bytes and its name aside."""

    def __init__(self, task: FileTask, code: bytes) -> None:
        """Start with no file.

        Args:
            task: What is done with each file.
            code: ``code_digest()``.
        """
        self._task = task
        self._code = code
        self._by_entry: dict[tuple[int, bool], bytes] = {}

    def of(self, path: Place, *, explicit: bool) -> bytes:
        """The scope of one file.

        Args:
            path: The file; of the entries for some files only its own counts.
            explicit: Whether the user named the very file.

        Raises:
            UsageError: The task holds something that has no hash.
        """
        entry = self._task.examination.of_model(path)
        key = (id(entry), explicit)
        if key not in self._by_entry:
            models = () if entry is None else (entry,)
            task = replace(self._task, examination=replace(self._task.examination, models=models))
            text = _text((task, explicit)).encode("utf-8", "surrogatepass")
            self._by_entry[key] = blake2b(self._code + text, digest_size=_LENGTH).digest()
        return self._by_entry[key]


def _text(value: Any) -> str:
    """A value as a text that is the same for equal values in every process, and only for them.

    All fields of a dataclass are in it, whatever they are called: one that is added counts.
    """
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, PurePath):
        return repr(str(value))
    if isinstance(value, tuple | list):
        return f"({','.join(map(_text, value))})"
    if isinstance(value, frozenset):
        return f"{{{','.join(sorted(map(_text, value)))}}}"
    if isinstance(value, Mapping):
        entries = (f"{_text(key)}:{_text(item)}" for key, item in value.items())
        return f"{{{','.join(sorted(entries))}}}"
    if isinstance(value, FunctionType):
        # What it does is in the hash of the code.
        return f"{value.__module__}:{value.__qualname__}"
    if is_dataclass(value) and not isinstance(value, type):
        entries = (f"{f.name}={_text(getattr(value, f.name))}" for f in fields(value))
        return f"{type(value).__qualname__}({','.join(entries)})"
    raise UsageError(
        f"--cache cannot tell one {type(value).__name__} from another",
        "leave the cache out, or give plain values",
    )
