"""Results that come back in any order, given on in the order in which their work was taken."""

from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class InOrder(Generic[T]):
    """Holds what is early until what comes before it is there; never more than some.

    Args:
        most: Places that may be taken and not yet given on.
    """

    def __init__(self, most: int) -> None:
        """Start with the first place."""
        self._most = most
        self._entered = 0
        self._given = 0
        self._early: dict[int, T] = {}

    @property
    def open(self) -> bool:
        """Whether another place may be taken."""
        return self._entered - self._given < self._most

    @property
    def waiting(self) -> int:
        """Places that were taken and whose result was not given on yet."""
        return self._entered - self._given

    def enter(self) -> int:
        """Take the next place."""
        self._entered += 1
        return self._entered - 1

    def put(self, place: int, result: T) -> None:
        """The result for a place."""
        self._early[place] = result

    def due(self) -> Iterator[T]:
        """Every result that is next in order, until one is missing."""
        while self._given in self._early:
            result = self._early.pop(self._given)
            self._given += 1
            yield result
