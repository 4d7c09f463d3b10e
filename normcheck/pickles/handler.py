"""The code of one instruction of a pickle, and what it may ask of the machine that runs it."""

from collections.abc import Callable
from typing import Any, Protocol

from normcheck.sources.limits import Budget, Limits


class Machine(Protocol):
    """What instructions ask of the machine that runs them: :mod:`normcheck.pickles.machine`."""

    budget: Budget
    limits: Limits

    @property
    def position(self) -> int:
        """Where in the stream the next byte lies."""
        ...

    def take(self, length: int) -> bytes:
        """The next bytes."""
        ...

    def byte(self) -> int:
        """The next byte."""
        ...

    def number(self, layout: str) -> Any:
        """The next number, in ``struct``'s notation."""
        ...

    def line(self) -> bytes:
        """Up to the next newline, which is taken but not returned."""
        ...

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        ...

    def push_sized(self, value: object) -> None:
        """The same for a value whose length the file chose."""
        ...

    def pop(self) -> Any:
        """Take the top value; a mark is none."""
        ...

    def pop_several(self, count: int) -> tuple[Any, ...]:
        """Take the top values, the topmost last."""
        ...

    def pop_mark(self) -> list[Any]:
        """The items above the last mark, which is removed with them."""
        ...

    @property
    def top(self) -> Any:
        """The top value, left where it is."""
        ...

    def discard(self) -> None:
        """Drop the top of the stack, mark or value."""
        ...

    def mark(self) -> None:
        """Begin a run of items."""
        ...

    def remember(self, index: int) -> None:
        """Keep the top of the stack under ``index``."""
        ...

    def memoize(self) -> None:
        """Keep the top of the stack under the next number."""
        ...

    def recall(self, index: int) -> None:
        """Push what was kept under ``index``."""
        ...

    def set_items(self, target: object, pairs: list[Any]) -> None:
        """``target[key] = value`` for a flat list of keys and values."""
        ...

    def append_items(self, target: object, items: list[Any]) -> None:
        """Append to a list or to what stands for one."""
        ...

    def key(self, value: object) -> Any:
        """``value`` as a dictionary key or set member, where hashing it is safe."""
        ...

    def make(self, cls: object, args: object, kwargs: object = None) -> object:
        """What stands for ``cls(*args, **kwargs)``."""
        ...

    def build(self, target: object, state: object) -> None:
        """Remember the state that the object would have been given."""
        ...

    def persistent(self, saved_id: object) -> object:
        """The value for a persistent id."""
        ...


Handler = Callable[[Machine], None]
"""What one instruction does."""
