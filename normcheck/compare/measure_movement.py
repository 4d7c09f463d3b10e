"""How far one snapshot lies from another."""

import math
from collections.abc import Iterable

import numpy as np

from normcheck.compare.model_snapshot import Snapshot
from normcheck.compare.movement import LayerChange, Movement, Step
from normcheck.compare.rounding import moved
from normcheck.compare.transform import Transformation, transformation
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer import BatchCount, Floats, NormLayer, Values
from normcheck.norms.layer_numbers import median
from normcheck.saved.dtypes import Array, DType

_FLOOR = 1e-3
"""Of a layer's mean variance: channels below it are dead, and have no unit of their own."""


@lazy_dataclass(frozen=False)
class _Lengths:
    """Squared lengths of two sets of numbers and of their difference, summed up."""

    a: float = 0.0
    b: float = 0.0
    difference: float = 0.0
    moved: bool = False
    any: bool = False

    def add(self, a: Array, b: Array, types: tuple[DType, DType], weight: float = 1.0) -> bool:
        """Add one tensor; ``weight`` is how many values each of these stands for."""
        mask = moved(a, b, *types)
        changed = bool(mask.any())
        finite = np.isfinite(a) & np.isfinite(b)
        x = np.where(finite, a, 0.0).astype(np.float64)
        y = np.where(finite, b, 0.0).astype(np.float64)
        with np.errstate(over="ignore"):  # values beyond 1e154, in float64 files only
            gap = np.where(mask, y - x, 0.0)
            self.a += weight * float(x @ x)
            self.b += weight * float(y @ y)
            self.difference += weight * float(gap @ gap)
        self.moved |= changed
        self.any = True
        return changed

    def change(self) -> Movement | None:
        """Length of the difference over the longer of the two; None where nothing was added."""
        if not self.any:
            return None
        longer = max(self.a, self.b)
        if not math.isfinite(longer + self.difference):
            return Movement(math.inf if self.moved else 0.0, self.moved)
        return Movement(math.sqrt(self.difference / longer) if longer > 0 else 0.0, self.moved)


def measured(
    old: Snapshot,
    new: Snapshot,
    places: tuple[int, int],
    optimizer_steps: tuple[int | None, int | None],
) -> Step:
    """The step from one snapshot to another.

    Args:
        old: The earlier one.
        new: The later one, of the same comparison.
        places: Their numbers in the comparison.
        optimizer_steps: What the optimizers in the two files have counted.
    """
    together = _Lengths()
    by_module: dict[str, _Lengths] = {}
    compared = tensors_moved = 0
    transformed: list[tuple[str, Transformation]] = []
    for name, a in old.weights.items():
        b = new.weights.get(name)
        if b is None or a.numel != b.numel:
            continue
        compared += 1
        weight = a.numel / a.values.size
        changed = together.add(a.values, b.values, (a.dtype, b.dtype), weight)
        tensors_moved += changed
        if changed or old.shapes.get(name) != new.shapes.get(name):
            found = _weights_transformed(name, old, new)
            if found is not None:
                transformed.append((name, found))
        module = by_module.setdefault(name.rpartition(".")[0], _Lengths())
        module.add(a.values, b.values, (a.dtype, b.dtype), weight)
    weights = {path: change for path, lengths in by_module.items() if (change := lengths.change())}
    return Step(
        old=places[0],
        new=places[1],
        weights=together.change(),
        tensors_moved=tensors_moved,
        tensors=compared,
        layers=tuple(_layers(old, new, weights)),
        optimizer_steps=optimizer_steps,
        transformed=tuple(transformed),
    )


def _weights_transformed(name: str, old: Snapshot, new: Snapshot) -> Transformation | None:
    """Of weights outside norms; a matrix that was read whole may be turned."""
    a, b = old.weights[name], new.weights[name]
    whole = a.values.size == a.numel and b.values.size == b.numel
    shapes = (old.shapes[name], new.shapes[name]) if whole else ()
    return transformation(a.values, b.values, (a.dtype, b.dtype), shapes)


_PARTS = ("weight", "bias", "running_mean", "running_var")


def _parts(a: NormLayer, b: NormLayer) -> Iterable[tuple[str, Values, Values]]:
    for name in _PARTS:
        pair = _both(getattr(a, name), getattr(b, name))
        if pair is not None:
            yield (name, *pair)


def _layers(old: Snapshot, new: Snapshot, weights: dict[str, Movement]) -> Iterable[LayerChange]:
    for path, a in old.layers.items():
        b = new.layers.get(path)
        if b is None or (a.features and b.features and a.features != b.features):
            continue
        beside = old.beside.get(path, "") or new.beside.get(path, "")
        # A whole module knows its class, a state dict only guesses.
        known = b if b.class_path and not a.class_path else a
        parts = tuple(_parts(a, b))
        moved_parts = [p for p in parts if _differ(p[1], p[2])]
        exact = [
            (name, transformation(x.numbers, y.numbers, (x.dtype, y.dtype)))
            for name, x, y in moved_parts
        ]
        yield LayerChange(
            path=path,
            kind=known.kind.name,
            family=known.kind.family,
            features=a.features,
            weights_path=beside if beside in weights else "",
            weights=weights.get(beside),
            affine=_affine(a, b),
            mean=_mean(a, b),
            variance=_variance(a, b),
            batches=(_count(a.batches), _count(b.batches)),
            at_initial_values=(a.at_initial_values, b.at_initial_values),
            has_statistics=(a.has_statistics, b.has_statistics or "running_mean" in b.unread),
            parts=tuple(name for name, _, _ in parts),
            moved_parts=tuple(name for name, _, _ in moved_parts),
            transformed=tuple((name, found) for name, found in exact if found is not None),
            replaced=bool(b.class_path) and b.kind.family is not a.kind.family,
        )


def _differ(a: Values, b: Values) -> bool:
    return bool(moved(a.numbers, b.numbers, a.dtype, b.dtype).any())


def _affine(a: NormLayer, b: NormLayer) -> Movement | None:
    lengths = _Lengths()
    for before, after in ((a.weight, b.weight), (a.bias, b.bias)):
        if before is not None and after is not None and before.size == after.size:
            lengths.add(before.numbers, after.numbers, (before.dtype, after.dtype))
    return lengths.change()


def _count(count: BatchCount | None) -> float | None:
    return count.value if count is not None and count.whole else None


def _both(a: Values | None, b: Values | None) -> tuple[Values, Values] | None:
    """The two, where both are there and have a value for each of the same channels."""
    if a is None or b is None or a.size != b.size or not a.size:
        return None
    return a, b


def _mean(a: NormLayer, b: NormLayer) -> Movement | None:
    """Root mean square of the shifts in standard deviations."""
    means = _both(a.running_mean, b.running_mean)
    if means is None:
        return None
    x, y = means
    mask = moved(x.numbers, y.numbers, x.dtype, y.dtype)
    with np.errstate(invalid="ignore", over="ignore"):
        squares = np.where(mask, (y.numbers - x.numbers) ** 2 / _unit(a, b, x.size), 0.0)
    squares = squares[np.isfinite(squares)]
    distance = math.sqrt(float(squares.mean())) if squares.size else 0.0
    return Movement(distance, bool(mask.any()))


def _unit(a: NormLayer, b: NormLayer, channels: int) -> Floats:
    """Squared unit of each channel's mean: the larger of its two variances."""
    variances = _both(a.running_var, b.running_var)
    if variances is None or variances[0].size != channels:
        return np.ones(channels)
    with np.errstate(invalid="ignore"):
        larger = np.fmax(np.abs(variances[0].numbers), np.abs(variances[1].numbers))
    finite = larger[np.isfinite(larger)]
    floor = _FLOOR * float(finite.mean()) if finite.size else 0.0
    unit: Floats = larger + floor + 1e-12
    return unit


def _variance(a: NormLayer, b: NormLayer) -> Movement | None:
    """Median of the absolute logarithm of the ratio."""
    variances = _both(a.running_var, b.running_var)
    if variances is None:
        return None
    x, y = variances
    mask = moved(x.numbers, y.numbers, x.dtype, y.dtype)
    finite = np.isfinite(x.numbers) & np.isfinite(y.numbers)
    before, after = np.maximum(x.numbers[finite], 0), np.maximum(y.numbers[finite], 0)
    if not before.size:
        return Movement(0.0, bool(mask.any()))
    floor = _FLOOR * max(float(before.mean()), float(after.mean())) + 1e-30
    ratios = np.where(mask[finite], np.log((after + floor) / (before + floor)), 0.0)
    return Movement(median(np.abs(ratios)), bool(mask.any()))
