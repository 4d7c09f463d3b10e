"""The norms of an export that are norms of its source, under the same name or another."""

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from normcheck.compare.rounding import moved
from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer, Values

_PARTS = ("running_mean", "running_var", "weight", "bias")


def twins(source: Mapping[str, NormLayer], export: Mapping[str, NormLayer]) -> dict[str, NormLayer]:
    """The norm of the export for each path of the source that has one.

    By path; where an exporter left no names by numbers: all parts alike, then one part that tells
    it from others, then the only one left of its kind and width on either side.
    """
    found = {path: export[path] for path in source if path in export}
    free = {path: layer for path, layer in export.items() if path not in source}
    rest = {path: layer for path, layer in source.items() if path not in found}

    def take(path: str, twin: NormLayer) -> None:
        found[path] = twin
        del free[twin.path], rest[path]

    for path, layer in list(rest.items()):
        twin = _by_numbers(layer, free) or _within(layer, free)
        if twin is not None:
            take(path, twin)
    for path, layer in list(rest.items()):
        alike = [other for other in free.values() if _of_a_sort(layer, other)]
        telling = [other for other in alike if any(_tells(a, b) for _, a, b in _both(layer, other))]
        if len(telling) == 1:
            take(path, telling[0])
    mine, theirs = (Counter(map(_sort, side.values())) for side in (rest, free))
    for path, layer in list(rest.items()):
        sort = _sort(layer)
        if mine[sort] == theirs[sort] == 1 and layer.features is not None:
            take(path, next(other for other in free.values() if _sort(other) == sort))
    return found


_BATCH = (Family.BATCH, Family.FROZEN_BATCH)


def _sort(layer: NormLayer) -> tuple[object, ...]:
    """What a state dict tells as well: its names do not tell group, layer and instance norm."""
    return layer.kind.family in _BATCH, layer.bias is not None, layer.features


def _of_a_sort(one: NormLayer, other: NormLayer) -> bool:
    return _sort(one) == _sort(other)


def _both(one: NormLayer, other: NormLayer) -> Iterator[tuple[str, Values, Values]]:
    for name in _PARTS:
        a, b = getattr(one, name), getattr(other, name)
        if a is not None and b is not None:
            yield name, a, b


def _by_numbers(layer: NormLayer, free: Mapping[str, NormLayer]) -> NormLayer | None:
    """A norm under another name of which every part is the same."""
    for other in free.values():
        if _of_a_sort(layer, other):
            pairs = list(_both(layer, other))
            if pairs and all(equal(a, b) for _, a, b in pairs):
                return other
    return None


def _tells(a: Values, b: Values) -> bool:
    """Whether two are equal, and no numbers that any norm may have."""
    return equal(a, b) and np.unique(a.numbers).size > 2


def _within(layer: NormLayer, free: Mapping[str, NormLayer]) -> NormLayer | None:
    """A norm without tensors, which an export calls by module and operator."""
    if layer.weight is not None or layer.running_mean is not None:
        return None
    for path, other in free.items():
        plain = other.weight is None and other.running_mean is None
        if plain and path.startswith(f"{layer.path}.") and other.kind.family is layer.kind.family:
            return other
    return None


def equal(a: Values, b: Values) -> bool:
    """Whether two are the same numbers, up to the rounding of their types."""
    return a.size == b.size and not moved(a.numbers, b.numbers, a.dtype, b.dtype).any()
