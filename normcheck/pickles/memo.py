"""What a pickle keeps to take it again, and what of it can be asked for at all.

torch writes eight values of every tensor into the memo and asks for none of them again: where the
whole pickle is at hand, what no instruction can ask for is not kept.
"""

import re
from collections.abc import Container
from contextlib import suppress

from normcheck.lazy_pattern import lazy_pattern

_AS_TEXT = lazy_pattern(rb"g([ \t\r\f\v+\-_0-9]+)\n")
"""Whatever ``int`` takes, behind the instruction to take what is kept under a number in digits."""
_LONG_GET = lazy_pattern(rb"j(?=(....))", re.DOTALL)
_BYTE = 256


class _Any:
    def __contains__(self, _index: object) -> bool:
        return True


ANY: Container[int] = _Any()


def asked_for(pickled: bytes) -> Container[int]:
    """The places that any instruction of a pickle may ask for, and others.

    Where instructions begin is not known before they are run: every byte that can be one counts.

    Args:
        pickled: All of it, and perhaps more.
    """
    places = set(range(_BYTE))
    places.update(int.from_bytes(found, "little") for found in _LONG_GET.findall(pickled))
    for found in _AS_TEXT.findall(pickled):
        # What is no number is an error when it is run.
        with suppress(ValueError):
            places.add(int(found))
    return places


class Memo:
    """Values by the places that the pickle chose, which nearly always follow each other."""

    __slots__ = ("asked", "far", "near")

    def __init__(self, asked: Container[int]) -> None:
        """Empty; ``asked`` are the places of which values are kept."""
        self.asked = asked
        self.near: list[object] = []
        """Those of the places from 0 on; None where the value cannot be asked for."""
        self.far: dict[int, object] = {}
        """The others: a place costs nothing by being large."""

    def __len__(self) -> int:
        """How many places are taken."""
        return len(self.near) + len(self.far)

    def __setitem__(self, place: int, value: object) -> None:
        """Keep a value."""
        near = self.near
        kept = value if place in self.asked else None
        if place == len(near):
            self.far.pop(place, None)
            near.append(kept)
        elif 0 <= place < len(near):
            near[place] = kept
        else:
            self.far[place] = kept

    def __getitem__(self, place: int) -> object:
        """What was kept; a ``KeyError`` where nothing was."""
        return self.near[place] if 0 <= place < len(self.near) else self.far[place]
