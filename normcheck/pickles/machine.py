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
from collections.abc import Callable, Container, Mapping
from typing import Any, ClassVar

from normcheck.errors import RefusedError
from normcheck.pickles.handler import Handler
from normcheck.pickles.inert import GlobalName, Inert, OrderedRecord
from normcheck.pickles.joblib_arrays import NESTED, holds_objects, pass_over, stands_for_an_array
from normcheck.pickles.memo import ANY, Memo
from normcheck.pickles.opcodes import COSTS, TABLE, text_of
from normcheck.pickles.safe_keys import hashable
from normcheck.pickles.window import PickleWindow, damaged
from normcheck.sources.limits import DEFAULT_LIMITS, ENTRY_BYTES, Budget, Limits

Constructor = Callable[..., object]
"""Builds a value of our own from the arguments that the pickle gives."""


_QUOTED = 160
"""Characters of an error that quotes the file, which may have lines of any length."""
_ROUND = 1 << 10
"""Instructions between two looks at the budget."""
_FIRST_ENTRY_BYTES = 184
"""What an empty dictionary grows by when it gets its first entry."""
_SHORT_TEXT = 1 << 10
"""Characters of a text that is taken without a call."""

# The instructions that are run in the loop itself, by their code: nearly all in a checkpoint. They
# stand there as they are frequent in one.
_STOP = ord(".")
_MARK = ord("(")
_TUPLE, _TUPLE1, _TUPLE2 = ord("t"), 0x85, 0x86
_PUT, _LONG_PUT, _MEMOIZE = ord("q"), ord("r"), 0x94
_GET, _LONG_GET = ord("h"), ord("j")
_INT1, _INT2, _INT4 = ord("K"), ord("M"), ord("J")
_TEXT = ord("X")
_TEXTS = (_TEXT, 0x8C)
_NO_ITEMS, _NO_ENTRIES = ord(")"), ord("}")
_REDUCE, _PERSISTENT = ord("R"), ord("Q")


def _by_code(table: Mapping[bytes, Handler]) -> list[Handler | None]:
    return [table.get(bytes((code,))) for code in range(256)]


_SLOT = COSTS[b"h"]
"""What the cheapest instructions may take, in bytes: so much is counted for all of them at once."""
_MORE = [COSTS.get(bytes((code,)), _SLOT) - _SLOT for code in range(256)]
"""What others may take beyond that."""


class InertUnpickler(PickleWindow):
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
        asked: Places of the memo that the pickle may ask for, see :func:`asked_for`.
        arrays: Makes of the place and the length in bytes of an array of joblib what its wrapper
            is given as an argument; None where they are only passed over.
    """

    table: ClassVar[Mapping[bytes, Handler]] = TABLE
    """What each instruction does. Those that ``load`` runs itself are not looked up here."""
    _handlers: ClassVar[list[Handler | None]] = _by_code(TABLE)

    def __init_subclass__(cls) -> None:
        """Take over the instructions of a subclass."""
        cls._handlers = _by_code(cls.table)

    def __init__(
        self,
        stream: io.BufferedIOBase,
        size: int,
        constructors: Mapping[tuple[str, str], Constructor],
        persistent: Callable[[object], object] | None = None,
        limits: Limits = DEFAULT_LIMITS,
        budget: Budget | None = None,
        asked: Container[int] = ANY,
        arrays: Callable[[int, int], object] | None = None,
    ) -> None:
        """See the class."""
        super().__init__(stream, size, limits, budget)
        self._arrays = arrays
        self._constructors = constructors
        self._persistent = persistent
        self._stack: list[Any] = []
        # Stacks that wait below a mark, as CPython's own reader has them: what a mark has
        # collected is then a list already.
        self._below: list[list[Any]] = []
        self._memo = Memo(asked)
        self._depth = 0
        self._built: dict[int, tuple[object, Constructor]] = {}
        """What builds values for names that were met, by the identity of the name, with it."""

    # One long loop: a method for each of its branches takes twice as long.
    def load(self) -> object:  # noqa: C901, PLR0912, PLR0915
        """The value that the pickle describes.

        Raises:
            UnreadableError: Truncated, or not a pickle.
            RefusedError: Past one of the limits.
        """
        at, opcode = self._at, 0
        try:
            # What the loop holds in names of its own is exchanged around every call.
            handlers, memo, budget = self._handlers, self._memo, self.budget
            near, far, asked = memo.near, memo.far, memo.asked
            kept, of_mark, of_tuple = _MORE[_PUT], _MORE[_MARK], _MORE[_TUPLE]
            of_object, of_entries, of_long = _MORE[_REDUCE], _MORE[_NO_ENTRIES], _MORE[_INT2]
            built, persistent = self._built, self._persistent or self.persistent
            # The budget of a file within another is told of all that is spent.
            most = self.limits.memory_bytes if budget.outer is None else -1
            window, safe, stack = self._window, self._safe, self._stack
            taken = 0
            while opcode != _STOP:
                count = 0
                for count in range(self._round()):  # noqa: B007  # told to the budget
                    if at >= safe:
                        self._at = at
                        self._refill()
                        window, at, safe = self._window, self._at, self._safe
                    opcode = window[at]
                    at += 1
                    if opcode == _GET:
                        place = window[at]
                        at += 1
                        stack.append(near[place] if place < len(near) else memo[place])
                    elif opcode == _PUT:
                        place, value = window[at], stack[-1]
                        at += 1
                        taken += kept
                        if place == len(near) and not far:
                            near.append(value)
                        else:
                            memo[place] = value
                    elif opcode == _INT1:
                        stack.append(window[at])
                        at += 1
                    elif opcode == _LONG_PUT:
                        place, value = int.from_bytes(window[at : at + 4], "little"), stack[-1]
                        at += 4
                        taken += kept
                        if place == len(near) and not far:
                            near.append(value if place in asked else None)
                        else:
                            memo[place] = value
                    elif opcode == _REDUCE:
                        arguments, function = stack.pop(), stack.pop()
                        taken += of_object
                        known = built.get(id(function))
                        if known is None or type(arguments) is not tuple:
                            stack.append(self.make(function, arguments))
                        else:
                            # As ``make`` has it.
                            for argument in arguments:
                                kind = type(argument)
                                if kind is tuple or kind is list:
                                    budget.memory += len(argument) * ENTRY_BYTES
                                elif kind is str:
                                    budget.memory += 2 * len(argument)
                            if budget.memory > most:
                                budget.spend(0)
                            stack.append(known[1](*arguments))
                    elif opcode in _TEXTS:
                        begin = at + (4 if opcode == _TEXT else 1)
                        end = begin + int.from_bytes(window[at:begin], "little")
                        if end - begin > _SHORT_TEXT or end > safe:
                            # Long ones, and those at the edge of the window.
                            self._at, self._stack = at, stack
                            handlers[opcode](self)  # type: ignore[misc]  # both are in every table
                            window, at, safe = self._window, self._at, self._safe
                        else:
                            value = text_of(window[begin:end])
                            taken += sys.getsizeof(value)
                            stack.append(value)
                            at = end
                    elif opcode == _NO_ITEMS:
                        stack.append(())
                        taken += of_tuple
                    elif opcode == _MARK:
                        self._below.append(stack)
                        stack = []
                        taken += of_mark
                    elif opcode == _TUPLE:
                        items = tuple(stack)
                        stack = self._below.pop()
                        stack.append(items)
                        taken += of_tuple
                    elif opcode == _TUPLE1:
                        stack[-1] = (stack[-1],)
                        taken += of_tuple
                    elif opcode == _PERSISTENT:
                        stack.append(persistent(stack.pop()))
                        taken += of_object
                    elif opcode == _NO_ENTRIES:
                        stack.append({})
                        taken += of_entries
                    elif opcode == _LONG_GET:
                        stack.append(memo[int.from_bytes(window[at : at + 4], "little")])
                        at += 4
                    elif opcode == _TUPLE2:
                        last = stack.pop()
                        stack[-1] = (stack[-1], last)
                        taken += of_tuple
                    elif opcode == _INT2:
                        stack.append(int.from_bytes(window[at : at + 2], "little"))
                        at += 2
                        taken += of_long
                    elif opcode == _INT4:
                        stack.append(int.from_bytes(window[at : at + 4], "little", signed=True))
                        at += 4
                        taken += of_long
                    elif opcode == _MEMOIZE:
                        memo[len(memo)] = stack[-1]
                        taken += kept
                    elif opcode == _STOP:
                        break
                    else:
                        taken += _MORE[opcode]
                        handler = handlers[opcode]
                        if handler is None:
                            raise damaged(f"unknown instruction {bytes((opcode,))!r}")
                        self._at, self._stack = at, stack
                        handler(self)
                        window, at, safe, stack = self._window, self._at, self._safe, self._stack
                else:
                    count += 1
                budget.memory += taken + count * _SLOT
                budget.run(count)
                taken = 0
            self._leave(at)
            return stack.pop()
        except RecursionError as error:
            raise RefusedError("the pickle nests what it compares too deep") from error
        except (
            IndexError, KeyError, OverflowError, TypeError, ValueError, struct.error
        ) as error:  # fmt: skip
            if opcode == _STOP:
                raise damaged("it holds no value") from error
            raise damaged(
                f"instruction {bytes((opcode,))!r} at byte {self._base + at:,}: "
                f"{type(error).__name__} {str(error)[:_QUOTED]}"
            ) from error

    def _round(self) -> int:
        """Instructions until the next look at the budget."""
        return min(_ROUND, self.limits.opcodes - self.budget.opcodes + 1)

    def _leave(self, at: int) -> None:
        """Put the stream right behind the pickle."""
        if at > self._filled:
            raise self._ends()
        self._at = at
        self._stream.seek(self.position)

    # ---- the stack -------------------------------------------------------------------

    def push(self, value: object) -> None:
        """Put a value on the stack."""
        self._stack.append(value)

    def push_sized(self, value: object) -> None:
        """The same for a value whose length the file chose."""
        self.budget.memory += sys.getsizeof(value)
        self._stack.append(value)

    def pop(self) -> Any:
        """Take the top value; a mark is none."""
        return self._stack.pop()

    def pop_several(self, count: int) -> tuple[Any, ...]:
        """Take the top values, the topmost last; a mark must not be among them."""
        stack = self._stack
        if len(stack) < count:
            raise ValueError("a mark where a value should be")
        values = tuple(stack[-count:])
        del stack[-count:]
        return values

    @property
    def top(self) -> Any:
        """The top value, left where it is."""
        return self._stack[-1]

    def discard(self) -> None:
        """Drop the top of the stack, mark or value."""
        if self._stack:
            self._stack.pop()
        else:
            self.pop_mark()

    def mark(self) -> None:
        """Begin a run of items."""
        self._below.append(self._stack)
        self._stack = []

    def pop_mark(self) -> list[Any]:
        """The items above the last mark, which is removed with them."""
        if not self._below:
            raise ValueError("no mark on the stack")
        items, self._stack = self._stack, self._below.pop()
        return items

    # ---- the memo ------------------------------------------------------------------------

    def remember(self, index: int) -> None:
        """Keep the top of the stack under ``index``."""
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
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            entries[key if type(key) is str else self.key(key)] = value

    def append_items(self, target: object, items: list[Any]) -> None:
        """Append to a list or to what stands for one."""
        if isinstance(target, Inert):
            target.items.extend(items)
        elif isinstance(target, list):
            target.extend(items)
        else:
            raise TypeError(f"items appended to {type(target).__name__}")

    def key(self, value: object) -> Any:
        """``value`` as a dictionary key or set member, where hashing it is safe."""
        return hashable(value, self.limits)

    # ---- objects ------------------------------------------------------------------------

    def make(self, cls: object, args: object, kwargs: object = None) -> object:
        """What stands for ``cls(*args, **kwargs)``."""
        positional = args if isinstance(args, tuple) else (args,)
        if isinstance(cls, GlobalName) and not kwargs:
            constructor = self._constructors.get((cls.module, cls.name))
            if constructor is not None:
                self._built[id(cls)] = (cls, constructor)
                # Some copy what they are given, and may be given the same again and again.
                for argument in positional:
                    kind = type(argument)
                    if kind is tuple or kind is list:
                        self.budget.memory += len(argument) * ENTRY_BYTES
                    elif kind is str:
                        self.budget.memory += 2 * len(argument)
                self.budget.spend(0)  # before it is copied
                return constructor(*positional)
        return Inert(cls, positional, kwargs)

    def build(self, target: object, state: object) -> None:
        """Remember the state that the object would have been given."""
        if isinstance(target, Inert):
            target.state = state
            if stands_for_an_array(target):
                self._pass_over_array(target, state)
        elif isinstance(target, OrderedRecord):
            target.attributes = state
        # Other values (tensors, numbers) have no state that matters here.

    def _pass_over_array(self, wrapper: Inert, state: object) -> None:
        if not holds_objects(state):
            place = pass_over(self, state)
            if self._arrays is not None:
                self.budget.memory += ENTRY_BYTES
                wrapper.args = (self._arrays(*place),)
            return
        if self._depth >= NESTED:
            raise RefusedError(f"arrays of objects lie more than {NESTED} deep in each other")
        self._stream.seek(self.position)
        inner = InertUnpickler(
            self._stream, self._end, self._constructors, None, self.limits, self.budget
        )
        inner._depth = self._depth + 1
        inner.load()
        self.move_to(inner.position)

    def persistent(self, saved_id: object) -> object:
        """The value for a persistent id."""
        if self._persistent is None:
            return Inert(GlobalName("", "persistent id"), (saved_id,))
        return self._persistent(saved_id)
