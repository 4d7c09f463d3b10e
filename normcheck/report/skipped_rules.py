"""Skipped rules, those of one reason together.

A scan that runs no model skips thirty rules of each file, for a handful of reasons. One by one they
would be most of what travels between processes for a healthy file.
"""

from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from typing import overload

from normcheck.findings import Skipped
from normcheck.often_made import often_made


@often_made()
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


_Key = tuple[str, str, str, str, bool]
"""Model, place, reason, remedy, and whether nobody asked."""


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
            self._entries = tuple(
                Skipped(g.model, g.where, rule, g.reason, g.remedy, g.unasked)
                for rule, g in in_order(self.groups)
            )
        return self._entries


def in_order(groups: Iterable[SkippedRules]) -> list[tuple[str, SkippedRules]]:
    """Each rule with what it stands in, in the order of the entries."""
    placed = [
        (place, rule, group)
        for group in groups
        for place, rule in zip(group.places, group.rules, strict=True)
    ]
    placed.sort(key=itemgetter(0))
    return [(rule, group) for _, rule, group in placed]


class Gathered:
    """Entries of one file as they come up."""

    def __init__(self) -> None:
        """Start with none."""
        self._alike: dict[_Key, tuple[list[str], list[int]]] = {}
        self._count = 0

    def add(
        self,
        model: str,
        where: str,
        rule: str,
        reason: str,
        remedy: str = "",
        unasked: bool = False,
    ) -> None:
        """One more, with the fields of ``Skipped``."""
        key = (model, where, reason, remedy, unasked)
        known = self._alike.get(key)
        if known is None:
            known = self._alike[key] = ([], [])
        known[0].append(rule)
        known[1].append(self._count)
        self._count += 1

    def rules_of(self, model: str, where: str) -> set[str]:
        """Codes of the rules that could not judge one model."""
        alike = self._alike.items()
        return {rule for key, (rules, _) in alike if key[:2] == (model, where) for rule in rules}

    def groups(self) -> tuple[SkippedRules, ...]:
        """All of them so far, those of one reason together."""
        return tuple(
            SkippedRules(model, where, tuple(rules), tuple(places), reason, remedy, unasked)
            for (model, where, reason, remedy, unasked), (rules, places) in self._alike.items()
        )


def together(entries: Iterable[Skipped]) -> tuple[SkippedRules, ...]:
    """Entries of one file, those of one reason together."""
    if isinstance(entries, SkippedEntries):
        return entries.groups
    gathered = Gathered()
    for one in entries:
        gathered.add(one.model, one.where, one.rule, one.reason, one.remedy, one.unasked)
    return gathered.groups()
