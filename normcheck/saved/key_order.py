"""The order of a state dict's keys: whether it can be that of a tree of modules.

``state_dict()`` walks a tree, so that all keys below one module stand together, and numbered
siblings come in their order. Files that were put together in another order (by the ranks of
a distributed checkpoint, sorted as text) say nothing of which module runs after which.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

_DEEPEST = 64
"""Parts of a name that are looked at; real models nest some twenty modules."""

Value = TypeVar("Value")


def natural_order(name: str) -> list[tuple[int, int, str]]:
    """A sort key by which numbers in names count as numbers."""
    return [
        (0, int(part), "") if part.isdecimal() and len(part) < 20 else (1, 0, part)
        for part in _NUMBER.split(name)
        if part
    ]


def natural_keys(names: Sequence[str]) -> Sequence[list[tuple[int, int, str]] | str]:
    """What sorts names as :func:`natural_order` does, each, made in a third of the time.

    Within text a number is written as its length and its digits, behind a sign that is less
    than any letter: text that ends there is then less than text that goes on.
    """
    parts = _Parts()
    keys = [".".join(map(parts.__getitem__, name.split("."))) for name in names]
    return [natural_order(name) for name in names] if parts.odd else keys


_NUMBER = re.compile(r"(\d+)")


class _Parts(dict[str, str]):
    """Parts of names, their numbers written so; names repeat them."""

    odd = False
    """Whether one was met that cannot be written so."""

    def __missing__(self, part: str) -> str:
        pieces = _NUMBER.split(part)
        for place, digits in enumerate(pieces):
            if place % 2:
                self.odd |= len(digits) >= 20
                number = str(int(digits[:20]))
                pieces[place] = f"\0{chr(len(number) + ord('0'))}{number}"
        self.odd |= "\0" in part
        self[part] = written = "".join(pieces)
        return written


def is_torn(names: Iterable[str]) -> bool:
    """Whether no tree of modules gives its keys in this order.

    The keys of one module, or of those below it, are apart; or numbered siblings run backwards.

    >>> is_torn(["a.weight", "b.0.weight", "b.1.weight"])
    False
    >>> is_torn(["a.conv.weight", "b.weight", "a.norm.weight"])
    True
    """
    here: list[str] = []
    # Of each module that is open, from the model down: the names of its children that were met,
    # and the last number among them. Of one that is left nothing is kept: to come back is enough.
    met: list[set[str]] = [set()]
    last: list[int] = [0]
    above: str | None = None
    for name in names:
        before = name[: name.rfind(".") + 1]
        if before == above:
            continue
        above = before
        path = name.split(".", _DEEPEST)[:_DEEPEST][:-1]
        shared = 0
        for part, open_part in zip(path, here, strict=False):
            if part != open_part:
                break
            shared += 1
        del met[shared + 1 :], last[shared + 1 :]
        for part in path[shared:]:
            if part.isdecimal() and len(part) < 10:
                number = int(part)
                if number < last[-1]:
                    return True
                last[-1] = number
            if part in met[-1]:
                return True
            met[-1].add(part)
            met.append(set())
            last.append(0)
        here = path
    return False


def letters(names: Iterable[str]) -> int:
    """How many characters a look at the order takes, from above."""
    return sum(min(_DEEPEST, name.count(".") + 1) * len(name) for name in names)


def mended(tensors: Mapping[str, Value]) -> dict[str, Value]:
    """The same with the keys of each module together, and numbered siblings in their order.

    Modules of other names stand in the order in which the first of their keys came, which need
    not be that of the model.
    """
    return {name: tensors[name] for name in _together(tensors)}


def _together(names: Iterable[str]) -> Iterator[str]:
    firsts: dict[str, int] = {}
    keyed: list[tuple[list[tuple[int, int, int]], str]] = []
    for name in names:
        key: list[tuple[int, int, int]] = []
        prefix = ""
        parts = name.split(".", _DEEPEST)
        for place, part in enumerate(parts, 1 - len(parts)):
            prefix = f"{prefix}.{part}"
            first = firsts.setdefault(prefix, len(firsts))
            # A module's own tensors before its children, as torch has it.
            number = int(part) if part.isdecimal() and len(part) < 10 else first
            key.append((1 if place else 0, number, first))
        keyed.append((key, name))
    yield from (name for _, name in sorted(keyed))
