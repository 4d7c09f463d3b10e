"""The words of a command with which somebody else does the same."""

from typing import Any

from normcheck.config.flags.flag import flags_of, values_of
from normcheck.sources import place

_OF_THE_SCREEN = frozenset({
    "color", "formats", "output_file", "quiet", "show_settings", "statistics", "verbose",
})  # fmt: skip
"""Fields that change nothing of what is found, but only how it is shown and where."""


def repeated(name: str, asked: Any, targets: tuple[str, ...]) -> tuple[str, ...]:
    """A command with its targets and the flags that were given, without secrets of addresses.

    Args:
        name: Of the command.
        asked: Its flags, as they were given.
        targets: What stood for itself.
    """
    values = values_of(asked)
    words = [name, *map(place.shown, targets)]
    for entry in flags_of(type(asked)):
        value = values[entry.field]
        if entry.field in _OF_THE_SCREEN or value == entry.default:
            continue
        if entry.is_switch:
            words.append(entry.name if value else entry.flag.off)
        else:
            for one in value if entry.repeats else (value,):
                words += [entry.name, place.shown(str(one))]
    return tuple(words)
