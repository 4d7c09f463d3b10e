"""A pickle machine without the instruction to call.

``pickle.Unpickler`` with its own ``find_class`` already loads no foreign code, but it
still runs in C with a memo that grows to whatever index the file names, and it hands
control to ``copyreg`` and to ``__setstate__`` of what it built. This machine has no way
to import, to call what a file names, or to allocate more than the file is long. The
opcodes are those of PEP 3154 and PEP 574, as ``pickletools`` documents them.
"""

import io
import struct
import sys
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from normcheck.checkpoint.inert import GlobalName, Inert, OrderedRecord
from normcheck.checkpoint.limits import DEFAULT_LIMITS, ENTRY_BYTES, Budget, Limits
from normcheck.checkpoint.opcodes import COSTS, TABLE
from normcheck.errors import RefusedError, UnreadableError

Constructor = Callable[..., object]
"""Builds a value of our own from the arguments that the pickle gives."""


_QUOTED = 160
"""Characters of an error that quotes the file, which may have lines of any length."""
_PIECE = 1 << 12
"""Bytes that may be asked for without looking at the file's length first."""
_ROUND = 1 << 10
"""Instructions between two looks at the budget."""
_FIRST_ENTRY_BYTES = 184
"""What an empty dictionary grows by when it gets its first entry."""


class _Mark:
    """Where a run of stack items begins."""


_MARK = _Mark()


def _damaged(what: str) -> UnreadableError:
    return UnreadableError(
        f"damaged pickle: {what}", "the file is truncated or was changed; fetch or save it again"
    )


class InertUnpickler:
    """Reads one pickle from a stream and leaves the stream right behind it.

    Args:
        stream: Positioned at the pickle's first byte.
        size: Length of the whole stream in bytes, so that no length in the file is
            believed before the bytes are known to be there.
        constructors: What to build for the few names that are understood, by module and
            name; every other call becomes an :class:`Inert`.
        persistent: Turns a persistent id into a value; None where there should be none.
        limits: Bounds, see :class:`Limits`.
        budget: What the file's other pickles have cost; a new one where None.
    """

    table: ClassVar[Mapping[bytes, Callable[["InertUnpickler"], None]]] = TABLE
    """What each instruction does."""

    def __init__(
        self,
        stream: io.BufferedIOBase,
        size: int,
        constructors: Mapping[tuple[str, str], Constructor],
        persistent: Callable[[object], object] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        budget: Budget | None = None,
    ) -> None:
        """See the class."""
        self.budget = budget or Budget(limits)
        self._stream = stream
        self._start = stream.tell()
        self._end = min(size, self._start + limits.pickle_bytes)
        self._bounded = self._end < size
        self._constructors = constructors
        self._persistent = persistent
        self.limits = limits
        self._stack: list[Any] = []
        self._memo: dict[int, object] = {}

    def load(self) -> object:
        """The value that the pickle describes.

        Raises:
            UnreadableError: Truncated, or not a pickle.
            RefusedError: Past one of the limits.
        """
        read, costs, budget = self._stream.read, COSTS, self.budget
        stack, memo = self._stack, self._memo
        steps = {opcode: (handler, costs[opcode]) for opcode, handler in self.table.items()}
        count = taken = 0
        round_end = min(_ROUND, self.limits.opcodes - budget.opcodes + 1)
        while True:
            opcode = read(1)
            if opcode == b".":
                budget.memory += taken
                budget.run(count)
                break
            step = steps.get(opcode)
            if step is None:
                raise _damaged(
                    f"unknown instruction {opcode!r}" if opcode else "it ends without a stop"
                )
            handler, cost = step
            count += 1
            taken += cost
            if count >= round_end:
                budget.memory += taken
                budget.run(count)
                count = taken = 0
                round_end = min(_ROUND, self.limits.opcodes - budget.opcodes + 1)
            try:
                # Half of all instructions: without a call.
                if opcode == b"q":
                    if stack[-1] is _MARK:
                        raise ValueError("a mark cannot be remembered")
                    memo[read(1)[0]] = stack[-1]
                elif opcode == b"h":
                    stack.append(memo[read(1)[0]])
                elif opcode == b"K":
                    stack.append(read(1)[0])
                else:
                    handler(self)
            except RecursionError as error:
                raise RefusedError("the pickle nests what it compares too deep") from error
            except (
                IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error
            ) as error:  # fmt: skip
                raise _damaged(
                    f"instruction {opcode!r} at byte {self._stream.tell():,}: "
                    f"{type(error).__name__} {str(error)[:_QUOTED]}"
                ) from error
        if not self._stack or self._stack[-1] is _MARK:
            raise _damaged("it holds no value")
        return self._stack.pop()

    # ---- bytes -----------------------------------------------------------------------

    def take(self, length: int) -> bytes:
        """The next ``length`` bytes."""
        # A short piece costs nothing to try; a long one is not allocated on the file's word.
        if length > _PIECE and length > self._end - self._stream.tell():
            if self._bounded:
                raise RefusedError(
                    f"the pickle is longer than {self.limits.pickle_bytes:,} bytes",
                    limit="pickle_bytes",
                )
            raise _damaged(f"{length:,} bytes wanted, the file ends before")
        if length > _PIECE:
            self.budget.spend(length)  # before it is allocated
        data = self._stream.read(length)
        if len(data) != length:
            raise _damaged("the file ends within it")
        return data

    @property
    def position(self) -> int:
        """Where in the stream the next byte lies."""
        return self._stream.tell()

    def byte(self) -> int:
        """The next byte; apart from ``number`` because most instructions carry one."""
        return self._stream.read(1)[0]

    def number(self, layout: str) -> Any:
        """The next number, in ``struct``'s notation."""
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> bytes:
        """Up to the next newline, which is taken but not returned."""
        line = self._stream.readline(self.limits.name_bytes)
        if not line.endswith(b"\n"):
            raise _damaged("a line without an end")
        # As text a byte may take four, and a name is kept in parts and as a whole.
        self.budget.spend(8 * len(line))
        return line[:-1]

    # ---- the stack -------------------------------------------------------------------

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def push_sized(self, value: object) -> None:
        """The same for a value whose length the file chose."""
        self.budget.memory += sys.getsizeof(value)
        self._stack.append(value)

    def pop(self) -> Any:
        """Take the top value, which must not be a mark."""
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a mark where a value should be")
        return value

    def pop_several(self, count: int) -> tuple[Any, ...]:
        """Take the top values, none of which must be a mark, the topmost last."""
        stack = self._stack
        values = tuple(stack[-count:])
        if len(values) < count or _MARK in values:
            raise ValueError("a mark where a value should be")
        del stack[-count:]
        return values

    @property
    def top(self) -> Any:
        """The top value, left where it is."""
        return self._stack[-1]

    def discard(self) -> None:
        """Drop the top of the stack, mark or value."""
        self._stack.pop()

    def mark(self) -> None:
        """Begin a run of items."""
        self._stack.append(_MARK)

    def pop_mark(self) -> list[Any]:
        """The items above the last mark, which is removed with them."""
        stack = self._stack
        for index in range(len(stack) - 1, -1, -1):
            if stack[index] is _MARK:
                items = stack[index + 1 :]
                del stack[index:]
                return items
        raise ValueError("no mark on the stack")

    # ---- the memo: a dictionary, so that an index costs nothing by being large ----------

    def remember(self, index: int) -> None:
        """Keep the top of the stack under ``index``."""
        if self._stack[-1] is _MARK:
            raise ValueError("a mark cannot be remembered")
        self._memo[index] = self._stack[-1]

    def memoize(self) -> None:
        """Keep the top of the stack under the next number."""
        self.remember(len(self._memo))

    def recall(self, index: int) -> None:
        """Push what was kept under ``index``."""
        self._stack.append(self._memo[index])

    # ---- containers -------------------------------------------------------------------

    def set_items(self, target: object, pairs: list[Any]) -> None:
        """``target[key] = value`` for a flat list of keys and values."""
        if len(pairs) % 2:
            raise ValueError("a key without a value")
        if isinstance(target, Inert):
            entries: dict[Any, object] = target.entries
        elif isinstance(target, dict):
            entries = target
        else:
            raise TypeError(f"items set on {type(target).__name__}")
        if not entries:
            self.budget.memory += _FIRST_ENTRY_BYTES
        self.budget.spend(len(pairs) // 2 * ENTRY_BYTES)
        for index in range(0, len(pairs), 2):
            entries[self.key(pairs[index])] = pairs[index + 1]

    def append_items(self, target: object, items: list[Any]) -> None:
        """Append to a list or to what stands for one."""
        if isinstance(target, Inert):
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise TypeError(f"items appended to {type(target).__name__}")

    def key(self, value: object) -> Any:
        """``value`` as a dictionary key or set member, where hashing it is safe.

        Hashing nested tuples recurses in C without a guard: deep ones end the process.
        """
        if isinstance(value, list | dict | set | bytearray) and not isinstance(
            value, OrderedRecord
        ):
            raise TypeError(f"{type(value).__name__} as a dictionary key")
        level: list[object] = [value]
        members = 0
        for _ in range(self.limits.key_nesting):
            # Integers hash by their remainder, so that long ones can be made to collide.
            if any(isinstance(part, int) and part.bit_length() > 64 for part in level):
                break
            tuples = [part for part in level if isinstance(part, tuple)]
            if not tuples:
                return value
            members += sum(map(len, tuples))
            if members > self.limits.key_items:
                break
            level = [part for members_of in tuples for part in members_of]
        raise RefusedError("a dictionary key of deeply nested or very long tuples or integers")

    # ---- objects ------------------------------------------------------------------------

    def make(self, cls: object, args: object, kwargs: object = None) -> object:
        """What stands for ``cls(*args, **kwargs)``."""
        positional = args if isinstance(args, tuple) else (args,)
        if isinstance(cls, GlobalName) and not kwargs:
            constructor = self._constructors.get((cls.module, cls.name))
            if constructor is not None:
                # Some copy what they are given, and may be given the same again and again.
                for argument in positional:
                    if isinstance(argument, list | tuple):
                        self.budget.spend(len(argument) * ENTRY_BYTES)
                    elif isinstance(argument, str):
                        self.budget.spend(2 * len(argument))
                return constructor(*positional)
        return Inert(cls, positional, kwargs)

    def build(self, target: object, state: object) -> None:
        """Remember the state that the object would have been given."""
        if isinstance(target, Inert):
            target.state = state
        elif isinstance(target, OrderedRecord):
            target.attributes = state
        # Other values (tensors, numbers) have no state that matters here.

    def persistent(self, saved_id: object) -> object:
        """The value for a persistent id."""
        if self._persistent is None:
            return Inert(GlobalName("", "persistent id"), (saved_id,))
        return self._persistent(saved_id)
