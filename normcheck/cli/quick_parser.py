"""The words of a command, parsed without Typer.

Typer makes a validator for each of some fifty flags before it looks at one, with pydantic: that
takes as long as the scan of a small checkpoint with all that it imports. So words of which every
single one is plain are understood here, by the same declarations. Whatever is not (an
abbreviation, a value that is none of those allowed, ``--help``) is Typer's, with all of the words:
it alone explains, and says what is wrong. The two are held against each other in the tests.
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

from normcheck.config.flags.flag import Argument, Declared, Flag, Group, declared, filled
from normcheck.lazy_dataclass import lazy_dataclass

_NUMBER = {int: re.compile(r"[0-9]{1,6}"), float: re.compile(r"[0-9]{1,9}(\.[0-9]{1,9})?")}
"""Numbers as everybody writes them."""


@lazy_dataclass()
class _Given:
    """One flag as it was given."""

    entry: Declared
    off: bool
    """Whether it takes back what the flag says."""


class _NotPlainError(Exception):
    """Typer has to look at these words."""


def quickly(kind: type[Group], words: Sequence[str]) -> Group | None:
    """What the words behind a command ask for; None where Typer has to look at them.

    Args:
        kind: The command, as ``command_flags`` declares it.
        words: All behind its name.
    """
    entries = list(declared(kind))
    try:
        rest, given = _told(_table(entries), words)
        values = dict(_values(given))
        return filled(kind, values | _argument(entries, rest))
    except _NotPlainError:
        return None


def _table(entries: Sequence[Declared]) -> dict[str, _Given]:
    """What each word that begins with a dash means."""
    table: dict[str, _Given] = {}
    for entry in entries:
        if isinstance(entry.says, Flag):
            table |= dict.fromkeys(entry.words, _Given(entry, off=False))
            if entry.says.off:
                table[entry.says.off] = _Given(entry, off=True)
    return table


def _told(
    table: dict[str, _Given], words: Sequence[str]
) -> tuple[list[str], dict[Declared, list[Any]]]:
    """The words that belong to no flag, and the values of each flag."""
    rest: list[str] = []
    given: defaultdict[Declared, list[Any]] = defaultdict(list)
    waiting = iter(words)
    for word in waiting:
        if not word.startswith("-"):
            rest.append(word)
            continue
        name, equals, value = word.partition("=")
        flag = table.get(name)
        if flag is None or (equals and not name.startswith("--")):
            raise _NotPlainError
        if flag.entry.is_switch:
            if equals:
                raise _NotPlainError
            given[flag.entry].append(not flag.off)
        else:
            given[flag.entry].append(_value(flag.entry, value if equals else _next(waiting)))
    return rest, given


def _next(waiting: Iterator[str]) -> str:
    value = next(waiting, "--")
    if value.startswith("-") and value != "-":
        raise _NotPlainError
    return value


def _value(entry: Declared, text: str) -> str | int | float:
    flag = entry.flag
    if flag.choices and text not in flag.choices:
        raise _NotPlainError
    if entry.type is str:
        return text
    if not _NUMBER[entry.type].fullmatch(text):
        raise _NotPlainError
    number: int | float = entry.type(text)
    if flag.minimum is not None and number < flag.minimum:
        raise _NotPlainError
    return number


def _values(given: dict[Declared, list[Any]]) -> Iterator[tuple[str, Any]]:
    for entry, values in given.items():
        if entry.flag.counts:
            yield entry.field, len(values)
        elif entry.repeats:
            yield entry.field, tuple(values)
        elif len({*values}) > 1 and entry.is_switch:
            raise _NotPlainError  # --strict --no-strict
        else:
            yield entry.field, values[-1]


def _argument(entries: Sequence[Declared], rest: list[str]) -> dict[str, Any]:
    """The words without a flag, as the command's one argument takes them."""
    (entry,) = (entry for entry in entries if isinstance(entry.says, Argument))
    if entry.repeats and (rest or entry.default == ()):
        return {entry.field: tuple(rest)}
    if not entry.repeats and len(rest) == 1:
        return {entry.field: rest[0]}
    raise _NotPlainError
