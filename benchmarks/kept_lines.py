"""What a bench has measured, kept as lines of JSON: stopped, it goes on where it was."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from _typeshed import DataclassInstance

Entry = TypeVar("Entry", bound="DataclassInstance")
"""A dataclass of what JSON can hold."""


class Kept(Generic[Entry]):
    """What was measured, that of earlier runs first."""

    def __init__(self, kind: type[Entry], file: Path | None) -> None:
        """Take up what a file holds.

        Args:
            kind: The dataclass whose fields a line has.
            file: Where lines are kept; it need not exist. None keeps them in memory alone.
        """
        self.entries: list[Entry] = []
        """One after another, in the order in which they were measured."""
        self._file = file
        if file is not None and file.exists():
            lines = file.read_text(encoding="utf-8").splitlines()
            self.entries += [kind(**json.loads(line)) for line in lines]

    def add(self, found: Sequence[Entry]) -> None:
        """Keep what was measured together, such as all cases of one network."""
        self.entries += found
        if self._file is not None:
            with self._file.open("a", encoding="utf-8") as kept:
                kept.writelines(json.dumps(asdict(entry)) + "\n" for entry in found)
