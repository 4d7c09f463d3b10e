"""How the rows of several tensors lie in the one that they were joined into, in words."""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

_NUMBER = re.compile(r"\d+ rows")
_ONE_AFTER, _IN_TURN, _OTHERWISE = (
    "one after another", "interleaved", "with their rows in another order"
)  # fmt: skip
_HOW = re.compile(f" (?:{_ONE_AFTER}|{_IN_TURN}|{_OTHERWISE})")


def order_of(names: Sequence[str], places: Sequence[Sequence[int]]) -> str:
    """``q_proj, k_proj, v_proj one after another``, or how else they lie.

    Args:
        names: Of the tensors.
        places: Of each its rows, in the order in which it has them.
    """
    short = _short(names)
    first = sorted(range(len(names)), key=lambda index: min(places[index], default=0))
    return f"{', '.join(short[index] for index in first)} {_how(places)}"


def _how(places: Sequence[Sequence[int]]) -> str:
    runs = [_runs(found) for found in places]
    if all(len(lengths) == 1 for lengths in runs):
        return _ONE_AFTER
    ascending = all(a < b for found in places for a, b in pairwise(found))
    if ascending and all(len(set(lengths)) == 1 for lengths in runs):
        least = min(length for lengths in runs for length in lengths)
        return f"{_IN_TURN}, {least} rows at a time"
    return _OTHERWISE


def _runs(found: Sequence[int]) -> list[int]:
    """Lengths of the stretches of a tensor that stay together."""
    lengths = [1]
    for a, b in pairwise(found):
        if b == a + 1:
            lengths[-1] += 1
        else:
            lengths.append(1)
    return lengths


def _short(names: Sequence[str]) -> list[str]:
    """The parts of names in which they differ."""
    words = [name.split(".") for name in names]
    if len({len(parts) for parts in words}) > 1:
        return list(names)
    apart = [len(set(column)) > 1 for column in zip(*words, strict=True)]
    return [
        ".".join(part for part, differs in zip(parts, apart, strict=True) if differs)
        for parts in words
    ]


def odd_ones(orders: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Joined tensors whose parts lie otherwise than those of most others of their sort.

    Args:
        orders: Names of joined tensors, and of each its order.

    Returns:
        Names by the order that is not that of most. Heads may be of another size in every layer.
    """
    sorts: dict[str, dict[str, list[tuple[str, str]]]] = {}
    for name, order in orders:
        parts = _HOW.split(order)[0].split(", ")
        told = sorts.setdefault(" ".join(sorted(parts)), {})
        told.setdefault(_NUMBER.sub("rows", order), []).append((name, order))
    found: dict[str, list[str]] = {}
    for told in sorts.values():
        most = max(told.values(), key=len)
        for group in told.values():
            if group is not most and len(group) < len(most):
                for name, order in group:
                    found.setdefault(order, []).append(name)
    return found
