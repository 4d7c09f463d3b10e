"""Weights that one file holds in one tensor and the other in several: queries, keys and values.

Ports join the projections of an attention (``q_proj``, ``k_proj``, ``v_proj`` into
``in_proj_weight``, ``qkv``, ``c_attn``, ``query_key_value``), or ``gate`` and ``up`` of a gated
layer: one after another, or interleaved by heads. Rows are followed one by one, so that every order
is proven, and told.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from itertools import combinations

import numpy as np

from normcheck.compare.exports.row_order import order_of
from normcheck.compare.rounding import coarsest
from normcheck.saved.dtypes import Array, DType
from normcheck.saved.tensors import TensorRef

_PARTS = (2, 3, 4)
_MOST_SIBLINGS = 8
"""Layers side by side among which those that were joined are looked for."""
_DIGEST = 16
_SHORTEST = 4
"""Values of a row below which it tells no layer."""
_BFLOAT16_BITS = np.uint32(0xFFFF0000)


@dataclass(frozen=True, slots=True)
class Joined:
    """One tensor of one file, and what of the other lies in it."""

    whole: str
    parts: tuple[str, ...]
    held: tuple[bool, ...]
    """Of each part, whether all its rows are there."""
    apart: float = 0.0
    """Of the parts that are not: their distance to the rows that are left, relative to the longer
    of the two."""
    order: str = ""
    """``q_proj, k_proj, v_proj one after another``, ``… interleaved, 64 rows at a time``, ``… with
    their rows in another order``; ``in part``."""

    @property
    def proven(self) -> bool:
        """Whether every row of all parts is there."""
        return all(self.held)


def joined(
    wholes: Mapping[str, TensorRef], parts: Mapping[str, TensorRef], budget: int
) -> Iterator[Joined]:
    """The tensors of one file that hold several of the other.

    Weights are told by their rows. Biases follow the order of the weights beside them.

    Args:
        wholes: Of one file, what has no counterpart in the other; by name.
        parts: Likewise of the other.
        budget: Values that may be read.
    """
    search = _Search(budget)
    taken: set[str] = set()
    for whole, tensor in wholes.items():
        if tensor.ndim < 2:
            continue
        found = search.held(whole, tensor, parts, taken)
        if found is None:
            continue
        told, places = found
        taken.update(told.parts)
        yield told
        if told.proven:
            beside = _bias_of(told, places, wholes, parts)
            if beside is not None:
                taken.update(beside.parts)
                yield beside


@dataclass(slots=True)
class _Search:
    """Reads each tensor once, as long as the budget lasts."""

    budget: int
    _read: dict[tuple[int, int, str], list[bytes]] = field(default_factory=dict)
    _known: dict[tuple[int, int, str], frozenset[bytes]] = field(default_factory=dict)

    def held(
        self, whole: str, tensor: TensorRef, parts: Mapping[str, TensorRef], taken: set[str]
    ) -> tuple[Joined, list[list[int]]] | None:
        """What lies in a tensor, and in which rows; the nearest where no group is there whole."""
        best: tuple[Joined, list[list[int]]] | None = None
        for axis in (0, 1):
            for group in _groups(tensor, axis, parts, taken):
                found = self._among(whole, tensor, axis, group, parts)
                if found is None:
                    continue
                if found[0].proven:
                    return found
                if best is None or found[0].apart < best[0].apart:
                    best = found
        return best

    def _among(
        self,
        whole: str,
        tensor: TensorRef,
        axis: int,
        group: Sequence[str],
        parts: Mapping[str, TensorRef],
    ) -> tuple[Joined, list[list[int]]] | None:
        length = tensor.numel // tensor.shape[axis]
        kind = coarsest({tensor.dtype, *(parts[name].dtype for name in group)})
        mine = self._rows(tensor, axis, kind)
        if mine is None:
            return None
        if not self._begins_alike(tensor, axis, kind, [parts[name] for name in group], length):
            return None
        free: dict[bytes, list[int]] = {}
        for place in range(len(mine) - 1, -1, -1):
            free.setdefault(mine[place], []).append(place)
        places: list[list[int]] = []
        for name in group:
            own = parts[name]
            rows = self._rows(own, _axis_of(own, length), kind)
            if rows is None:
                return None
            places.append([free[row].pop() for row in rows if free.get(row)])
        held = tuple(
            len(found) == parts[name].numel // length
            for name, found in zip(group, places, strict=True)
        )
        if not any(held):
            return None
        if all(held):
            return Joined(whole, tuple(group), held, order=order_of(group, places)), places
        used = {place for rows, there in zip(places, held, strict=True) if there for place in rows}
        left = [place for place in range(len(mine)) if place not in used]
        lost = [
            _matrix(parts[name], _axis_of(parts[name], length), kind)
            for name, there in zip(group, held, strict=True)
            if not there
        ]
        apart = _distance(_matrix(tensor, axis, kind)[left], np.concatenate(lost))
        return Joined(whole, tuple(group), held, apart, "in part"), places

    def _begins_alike(
        self, whole: TensorRef, axis: int, kind: DType, parts: Sequence[TensorRef], length: int
    ) -> bool:
        """Whether a row of any part is among the whole's, of the three that are looked up."""
        key = (id(whole), axis, kind.name)
        if key not in self._known:
            self._known[key] = frozenset(self._rows(whole, axis, kind) or ())
        for part in parts:
            rows = self._rows(part, _axis_of(part, length), kind) or ()
            if any(rows[place] in self._known[key] for place in {0, len(rows) // 2, len(rows) - 1}):
                return True
        return False

    def _rows(self, tensor: TensorRef, axis: int, kind: DType) -> list[bytes] | None:
        """A digest of each row of a tensor, in a type that both files have."""
        key = (id(tensor), axis, kind.name)
        if key not in self._read:
            self.budget -= tensor.numel
            if self.budget < 0:
                return None
            self._read[key] = [
                blake2b(row.tobytes(), digest_size=_DIGEST).digest()
                for row in _matrix(tensor, axis, kind)
            ]
        return self._read[key]


def _matrix(tensor: TensorRef, axis: int, kind: DType) -> Array:
    """A tensor with a row for each output, in a type."""
    values = np.asarray(tensor.values(), dtype=np.float32)
    rows = np.moveaxis(values, axis, 0).reshape(tensor.shape[axis], -1)
    return np.asarray(_in(np.ascontiguousarray(rows), kind) + 0.0)  # zero has two signs


def _distance(a: Array, b: Array) -> float:
    """Length of the difference of rows over the longer of the two lengths."""
    x, y = (rows.astype(np.float64) for rows in (a, b))
    with np.errstate(all="ignore"):
        longer = max(float(np.linalg.norm(x)), float(np.linalg.norm(y)))
        gap = float(np.linalg.norm(y - x)) / longer if x.shape == y.shape and longer > 0 else 1.0
    return gap if np.isfinite(gap) else 1.0


def _in(values: Array, kind: DType) -> Array:
    """Numbers as a type would hold them."""
    if kind.name == "float16":
        with np.errstate(over="ignore"):
            return values.astype(np.float16)
    if kind.name == "bfloat16":
        bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
        rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        return (rounded & _BFLOAT16_BITS).view(np.float32)
    return values


def _groups(
    whole: TensorRef, axis: int, parts: Mapping[str, TensorRef], taken: set[str]
) -> Iterator[tuple[str, ...]]:
    """Layers side by side that have together as many outputs as the whole, and its inputs."""
    outputs, length = whole.shape[axis], whole.numel // max(whole.shape[axis], 1)
    if length < _SHORTEST:
        return
    for siblings in _siblings(name for name in parts if name not in taken):
        rows = {
            name: parts[name].numel // length
            for name in siblings
            if parts[name].ndim > 1 and length in _lengths(parts[name])
        }
        if len(rows) > _MOST_SIBLINGS:
            continue
        for count in _PARTS:
            for group in combinations(rows, count):
                if sum(rows[name] for name in group) == outputs:
                    yield group


def _lengths(tensor: TensorRef) -> tuple[int, int]:
    """Of a row, whichever of the first two axes the outputs are on."""
    first, second = (max(n, 1) for n in tensor.shape[:2])
    return tensor.numel // first, tensor.numel // second


def _axis_of(tensor: TensorRef, length: int) -> int:
    return 0 if _lengths(tensor)[0] == length else 1


def _siblings(names: Iterable[str]) -> Iterator[list[str]]:
    """Weights of layers in one module, and of one module itself (``q_proj_weight``)."""
    keys: tuple[Callable[[list[str]], tuple[object, ...]], ...] = (
        lambda words: (len(words) > 1, words[:-2], words[-1]),
        lambda words: (words[:-1], len(words)),
    )
    listed = list(names)
    for key in keys:
        groups: dict[str, list[str]] = {}
        for name in listed:
            groups.setdefault(repr(key(name.split("."))), []).append(name)
        yield from (group for group in groups.values() if len(group) > 1)


def _bias_of(
    told: Joined,
    places: Sequence[Sequence[int]],
    wholes: Mapping[str, TensorRef],
    parts: Mapping[str, TensorRef],
) -> Joined | None:
    """The bias beside a joined tensor; where a part has none, it is 0 there."""
    whole = wholes.get(_bias_name(told.whole))
    if whole is None or whole.numel != sum(map(len, places)):
        return None
    values = np.asarray(whole.values(), dtype=np.float32).reshape(-1)
    names, held = [], []
    for part, found in zip(told.parts, places, strict=True):
        own = parts.get(_bias_name(part))
        wanted = np.zeros(len(found), np.float32)
        kind = whole.dtype
        if own is not None:
            if own.numel != len(found):
                return None
            wanted = np.asarray(own.values(), dtype=np.float32).reshape(-1)
            kind = coarsest({whole.dtype, own.dtype})
        same = np.array_equal(_in(values[list(found)], kind), _in(wanted, kind))
        if own is not None:
            names.append(_bias_name(part))
            held.append(same)
        elif not same:
            return None
    whole_name = _bias_name(told.whole)
    return Joined(whole_name, tuple(names), tuple(held), 1.0, told.order) if names else None


def _bias_name(weight: str) -> str:
    """``in_proj_bias`` of ``in_proj_weight``, ``qkv.bias`` of ``qkv.weight``."""
    before, found, _ = weight.rpartition("weight")
    return f"{before}bias" if found else ""
