"""Skipped rules, those of one reason together.

A scan that runs no model skips thirty rules of each file, for a handful of reasons. One by one they
would be most of what travels between processes for a healthy file.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from normcheck.findings import Skipped
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class SkippedRules:
    """Rules that could not judge a model for one reason, or a file that was passed over."""

    model: str
    where: str
    rules: tuple[str, ...]
    """Codes; one empty code for a file that was passed over as a whole."""
    places: tuple[int, ...]
    """Of each of them among all entries of the file."""
    reason: str
    remedy: str
    unasked: bool
    """All three as in ``Skipped``."""


class SkippedEntries(Sequence[Skipped]):
    """One entry for each rule, made when somebody looks at them.

    Args:
        groups: Of one file, all of its entries.
    """

    def __init__(self, groups: tuple[SkippedRules, ...]) -> None:
        """See the class."""
        self.groups = groups
        self._entries: tuple[Skipped, ...] | None = None

    def __len__(self) -> int:
        """Number of entries."""
        return sum(len(group.rules) for group in self.groups)

    def __iter__(self) -> Iterator[Skipped]:
        """The entries, in their order."""
        return iter(self._all())

    @overload
    def __getitem__(self, place: int) -> Skipped: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Skipped]: ...
    def __getitem__(self, place: int | slice) -> Skipped | Sequence[Skipped]:
        """One of them, or some."""
        return self._all()[place]

    def _all(self) -> tuple[Skipped, ...]:
        if self._entries is None:
            each = [
                (place, Skipped(g.model, g.where, rule, g.reason, g.remedy, g.unasked))
                for g in self.groups
                for place, rule in zip(g.places, g.rules, strict=True)
            ]
            each.sort(key=lambda entry: entry[0])
            self._entries = tuple(entry for _, entry in each)
        return self._entries


def together(entries: Iterable[Skipped]) -> tuple[SkippedRules, ...]:
    """Entries of one file, those of one reason together."""
    if isinstance(entries, SkippedEntries):
        return entries.groups
    alike: dict[tuple[str, str, str, str, bool], tuple[list[str], list[int]]] = {}
    for place, one in enumerate(entries):
        key = (one.model, one.where, one.reason, one.remedy, one.unasked)
        if key not in alike:
            alike[key] = ([], [])
        rules, places = alike[key]
        rules.append(one.rule)
        places.append(place)
    return tuple(
        SkippedRules(model, where, tuple(rules), tuple(places), reason, remedy, unasked)
        for (model, where, reason, remedy, unasked), (rules, places) in alike.items()
    )
