"""Does an export hold the weights of its source, outside norms and what was folded into them?

By name where it kept the names. Where it did not, by numbers: exporters rename what they turn, cast
or freeze, and store what is equal once. What exporters change on purpose is not accused: a factor
for each output or input is something that was folded in (a scale, a norm that is told elsewhere).
"""

from collections.abc import Iterable, Iterator, Mapping

import numpy as np

from normcheck.compare.exports.export_match import WeightFate, WeightMatch
from normcheck.compare.exports.joined_weights import joined
from normcheck.compare.model_snapshot import Snapshot
from normcheck.compare.rounding import moved
from normcheck.compare.weight_sample import Sample, comparable
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.dtypes import Array
from normcheck.saved.tensors import TensorRef
from normcheck.wording import percent

_SAME = 1e-5
_SAME_HALF = 4e-3
"""Relative distance that element types explain; half and bfloat16 round to 5e-4 and 4e-3."""
_RESEMBLES = 0.5
"""Largest relative distance of weights of one layer at two moments of training."""
_MOST_READ = 1 << 27
"""Values that are read to find tensors by their numbers; half a gigabyte in float32."""
_FEW = 4
"""Values below which numbers alone tell no tensor."""


@lazy_dataclass()
class _Print:
    """What of a tensor's numbers stays the same however they are turned."""

    mean: float
    length: float
    """Root mean square."""

    def fits(self, other: "_Print", within: float) -> bool:
        """Whether both may be of the same numbers."""
        room = within * max(self.length, other.length)
        return abs(self.mean - other.mean) <= room and abs(self.length - other.length) <= room


class ExportedWeights:
    """The weights of one source in one export."""

    def __init__(
        self,
        source: SavedModel,
        export: SavedModel,
        snapshots: tuple[Snapshot, Snapshot],
        names: Mapping[str, str],
    ) -> None:
        """Nothing is read yet.

        Args:
            source: Of a file that is open.
            export: Likewise.
            snapshots: Of the two, the export's with the source's names.
            names: Of the export's tensors in the source, by their own.
        """
        self.source, self.export = source, export
        self.old, self.new = snapshots
        self._own = {called: name for name, called in names.items()}
        self._prints: dict[str, _Print] = {}

    def matches(self, folded: frozenset[str], claimed: frozenset[str]) -> tuple[WeightMatch, ...]:
        """What became of every tensor that is learned outside norms.

        Args:
            folded: Names of the source's tensors that something is known to be folded into.
            claimed: Names of the export's tensors that are these.
        """
        wanted = {n: s for n, s in self.old.weights.items() if n not in folded and s.numel > 0}
        found = {
            name: match
            for name, sample in wanted.items()
            if (match := self._by_name(name, sample)) is not None
        }
        taken = claimed | {match.theirs for match in found.values()}
        rest = [name for name in wanted if name not in found]
        budget = _MOST_READ
        for name in rest:
            tensor = self.source.tensors[name]
            budget -= tensor.numel
            if budget < 0 or tensor.numel < _FEW:
                continue
            same = self._same(tensor)
            if same is not None:
                found[name] = WeightMatch(name, WeightFate.SAME, same, by_numbers=True)
                taken |= {same}
        for match in self._joined([name for name in rest if name not in found], taken):
            found[match.name] = match
            taken |= {match.theirs}
        budget = _MOST_READ
        for name in rest:
            tensor = self.source.tensors[name]
            budget -= tensor.numel
            if name not in found and budget >= 0 and tensor.ndim > 1:
                near = self._near(name, tensor, taken)
                if near is not None:
                    found[name] = near
                    taken |= {near.theirs}
        for name in rest:
            if name not in found and (match := self._beside(name, found, taken)) is not None:
                found[name] = match
        return tuple(found.get(name) or WeightMatch(name, WeightFate.NOT_FOUND) for name in wanted)

    def holds(self, numbers: Array) -> bool:
        """Whether any tensor of the export has these numbers, whatever it is called."""
        print_ = _print(numbers)
        flat = numbers.reshape(-1)
        return any(
            tensor.numel == flat.size
            and self._print_of(name, tensor).fits(print_, _SAME_HALF)
            and _distance(flat, _values(tensor).reshape(-1)) <= _SAME_HALF
            for name, tensor in self._readable()
        )

    def under(self, name: str) -> str:
        """What a tensor of the source is called in the export; empty where it has none."""
        own = self._own.get(name, name)
        return own if own in self.export.tensors else ""

    def _readable(self) -> Iterator[tuple[str, TensorRef]]:
        yield from ((n, t) for n, t in self.export.tensors.items() if comparable(t))

    def _by_name(self, name: str, sample: Sample) -> WeightMatch | None:
        theirs = self.new.weights.get(name)
        own = self._own.get(name, name)
        tensor = self.export.tensors.get(own)
        if theirs is None or tensor is None or self.old.shapes[name] != tensor.shape:
            return None
        within = _within(self.source.tensors[name], tensor)
        apart = _distance(sample.values, theirs.values)
        if not moved(sample.values, theirs.values, sample.dtype, theirs.dtype).any() or (
            apart <= within
        ):
            return WeightMatch(name, WeightFate.SAME, own)
        return self._judged(name, own, tensor)

    def _judged(self, name: str, own: str, tensor: TensorRef) -> WeightMatch | None:
        """A tensor of the same name or resemblance, with other numbers."""
        mine = _values(self.source.tensors[name])
        ways = [_distance(mine, turned) for turned in _turned(_values(tensor), mine.shape)]
        within = _within(self.source.tensors[name], tensor)
        if not ways:
            return None
        if min(ways) <= within:
            return WeightMatch(name, WeightFate.SAME, own)
        for turned in _turned(_values(tensor), mine.shape):
            if mine.ndim > 1 and _is_scaled(mine, turned, max(10 * _SAME, within)):
                return WeightMatch(name, WeightFate.SCALED, own)
        return WeightMatch(name, WeightFate.DIFFERENT, own, f"{percent(min(ways))} apart")

    def _same(self, tensor: TensorRef) -> str | None:
        """The export's tensor of the same numbers, under another name or turned."""
        mine = _values(tensor)
        own = _print(mine)
        for theirs, other in self._readable():
            if other.numel != tensor.numel:
                continue
            within = _within(tensor, other)
            if self._print_of(theirs, other).fits(own, within) and any(
                _distance(mine, turned) <= within for turned in _turned(_values(other), mine.shape)
            ):
                return theirs
        return None

    def _joined(self, lost: Iterable[str], taken: Iterable[str]) -> Iterator[WeightMatch]:
        """Weights that lie in one tensor of the export, or hold several of it."""
        mine = {name: self.source.tensors[name] for name in lost}
        known = frozenset(taken)
        theirs = {name: t for name, t in self._readable() if name not in known}
        for told in joined(theirs, mine, _MOST_READ):
            for name, held in zip(told.parts, told.held, strict=True):
                if held:
                    yield WeightMatch(name, WeightFate.SAME, told.whole, order=told.order)
                else:
                    text = f"{percent(told.apart)} apart from what lies there beside the others"
                    yield WeightMatch(name, WeightFate.DIFFERENT, told.whole, text)
        for told in joined(mine, theirs, _MOST_READ):
            parts = ", ".join(told.parts)
            if told.proven:
                yield WeightMatch(told.whole, WeightFate.SAME, parts, order=told.order)
            else:
                lost_parts = [p for p, held in zip(told.parts, told.held, strict=True) if not held]
                text = f"{', '.join(lost_parts)} {percent(told.apart)} apart from what lies in it"
                yield WeightMatch(told.whole, WeightFate.DIFFERENT, parts, text)

    def _beside(
        self, name: str, found: Mapping[str, WeightMatch], taken: Iterable[str]
    ) -> WeightMatch | None:
        """A bias whose weights are there under another name: what lies beside those."""
        path, dot, leaf = name.rpartition(".")
        weights = found.get(f"{path}{dot}weight") if leaf == "bias" else None
        if weights is None or weights.fate is not WeightFate.SAME or weights.order:
            return None
        there, dot, leaf = weights.theirs.rpartition(".")
        theirs = f"{there}{dot}bias"
        tensor = self.export.tensors.get(theirs) if leaf == "weight" else None
        if tensor is None or theirs in taken or tensor.shape != self.old.shapes[name]:
            return None
        return self._judged(name, theirs, tensor) if comparable(tensor) else None

    def _near(self, name: str, tensor: TensorRef, taken: Iterable[str]) -> WeightMatch | None:
        """The one tensor of the export that resembles it and is no other's."""
        mine = _values(tensor)
        best: tuple[float, str] | None = None
        for theirs, other in self._readable():
            if other.numel != tensor.numel or other.ndim != tensor.ndim or theirs in taken:
                continue
            for turned in _turned(_values(other), mine.shape):
                # Their angle, for a factor does not make them another layer's.
                apart = _angle(mine, turned)
                if apart <= _RESEMBLES and (best is None or apart < best[0]):
                    best = apart, theirs
        return self._judged(name, best[1], self.export.tensors[best[1]]) if best else None

    def _print_of(self, name: str, tensor: TensorRef) -> _Print:
        if name not in self._prints:
            self._prints[name] = _print(_values(tensor))
        return self._prints[name]


def _values(tensor: TensorRef) -> Array:
    return np.asarray(tensor.values(), dtype=np.float64)


def _print(values: Array) -> _Print:
    with np.errstate(all="ignore"):
        return _Print(float(values.mean()), float(np.sqrt(np.square(values).mean())))


def _turned(values: Array, shape: tuple[int, ...]) -> Iterator[Array]:
    """Values in a shape: as they are, or with the first two axes exchanged."""
    if values.size != np.prod(shape, dtype=int):
        return
    if values.ndim > 1 and values.shape != shape:
        other = values.swapaxes(0, 1)
        if other.shape == shape:
            yield other
            return
    yield values.reshape(shape)
    if values.ndim > 1 and values.swapaxes(0, 1).shape == shape:
        yield values.swapaxes(0, 1)


def _within(one: TensorRef, other: TensorRef) -> float:
    """Relative distance that the types of two tensors explain."""
    half = min(one.dtype.itemsize, other.dtype.itemsize) <= 2
    # Quantised numbers lie up to half a step off, relative to the largest; most are smaller.
    coarse = 8 * max(one.rounding, other.rounding)
    return max(_SAME_HALF if half else _SAME, coarse)


def _distance(a: Array, b: Array) -> float:
    """Length of the difference over the longer of the two lengths; infinite where not finite."""
    with np.errstate(all="ignore"):
        longer = max(float(np.linalg.norm(a)), float(np.linalg.norm(b)))
        gap = float(np.linalg.norm(np.subtract(b, a, dtype=np.float64)))
        if not np.isfinite(gap):
            return 0.0 if bool(np.array_equal(a, b, equal_nan=True)) else float("inf")
        return gap / longer if longer > 0 else 0.0


def _angle(a: Array, b: Array) -> float:
    """How far two directions lie apart, as a length relative to their own."""
    with np.errstate(all="ignore"):
        cosine = float((a * b).sum() / (np.linalg.norm(a) * np.linalg.norm(b)))
    return float(np.sqrt(max(0.0, 2 - 2 * cosine))) if np.isfinite(cosine) else float("inf")


def _is_scaled(a: Array, b: Array, within: float) -> bool:
    """Whether one is the other times a factor for each index of the first or the second axis."""
    for axis in (0, 1):
        x, y = (np.moveaxis(v, axis, 0).reshape(v.shape[axis], -1) for v in (a, b))
        if x.shape[1] == 1:
            continue  # any numbers are others times a factor each
        with np.errstate(all="ignore"):
            factor = (x * y).sum(axis=1) / np.square(x).sum(axis=1)
        factor = np.nan_to_num(factor)
        if _distance(x * factor[:, None], y) <= within:
            return True
    return False
