"""Exact transformations: what a conversion did to numbers, where training never does just that.

Each is tried with the rounding of the types as the only tolerance. One that holds for every value
of a tensor, with one or two constants for all of them, is no accident.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from normcheck.compare.rounding import coarsest, spacing
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer import Floats
from normcheck.norms.layer_numbers import median
from normcheck.saved.dtypes import BY_NAME, DType

FEWEST = 4
"""Different values below which one or two constants always fit."""
_ROUNDINGS = 4.0
"""Spacings of the coarser type that a computation in it may be off."""
_CLEAR = 16.0
"""Of these: a constant below is no transformation, but noise of a coarse type."""
_HEAD = 1 << 10
"""Values that are looked at first."""
_NICE = 1e-6
"""Relative distance from a short number at which a constant is taken for it."""


@lazy_dataclass()
class Transformation:
    """What one tensor went through."""

    sort: str
    """``shift``, ``scale``, ``affine``, ``square``, ``root``, ``reciprocal``, ``inverse root``,
    ``permutation``, ``transposition`` or ``grid``."""
    text: str
    """``moved by exactly +2``."""
    constant: float | None = None
    """The one constant of a shift or a scale."""


def transformation(
    a: Floats, b: Floats, types: tuple[DType, DType], shapes: tuple[tuple[int, ...], ...] = ()
) -> Transformation | None:
    """The exact transformation from ``a`` to ``b``; None where there is none, or they are equal.

    Args:
        a: Values of one tensor, flat.
        b: As many of another.
        types: That they are stored in.
        shapes: Of both, where the values are all there are; a matrix may be turned.
    """
    if a.size != b.size or a.size < FEWEST or not (np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    x, y = a.astype(np.float64), b.astype(np.float64)
    if len(shapes) == 2 and _turned(x, y, *shapes):
        return Transformation("transposition", "transposed")
    few = min(np.unique(x[: 1 << 16]).size, np.unique(y[: 1 << 16]).size)
    if np.array_equal(x, y) or few < FEWEST:
        return None
    with np.errstate(all="ignore"):
        return _found(x, y, types)


def _found(x: Floats, y: Floats, types: tuple[DType, DType]) -> Transformation | None:
    coarse = coarsest(types)
    size = np.maximum(np.abs(x), np.abs(y))
    if bool((np.abs(y - x) <= _CLEAR * _ROUNDINGS * spacing(size, coarse)).all()):
        return _rounded(x, y, types)  # nothing else shows in so little
    head = slice(0, _HEAD)
    for look in _LOOKS:
        # The first values tell of nearly all trained weights; what holds there is tried on all.
        if x.size > _HEAD and look is not _permutation and look(x[head], y[head], coarse) is None:
            continue
        found = look(x, y, coarse)
        if found is not None:
            return found
    return _rounded(x, y, types)


def _turned(a: Floats, b: Floats, one: tuple[int, ...], two: tuple[int, ...]) -> bool:
    if len(one) != 2 or two != one[::-1] or min(one) < 2 or np.prod(one) != a.size:
        return False
    return not np.array_equal(a, b) and np.array_equal(a.reshape(one).T.reshape(-1), b)


def _fits(wanted: Floats, b: Floats, size: Floats, coarse: DType) -> bool:
    """Whether every value is as it should be, but for rounding at the size of what took part."""
    return bool((np.abs(b - wanted) <= _ROUNDINGS * spacing(size, coarse)).all())


def _shift(a: Floats, b: Floats, coarse: DType) -> Transformation | None:
    constant = _short(median(b - a))
    size = np.maximum(np.maximum(np.abs(a), np.abs(b)), abs(constant))
    if abs(constant) <= _CLEAR * float(spacing(size, coarse).max()):
        return None
    if not _fits(a + constant, b, size, coarse):
        return None
    return Transformation("shift", f"moved by exactly {constant:+.6g}", constant)


def _scale(a: Floats, b: Floats, coarse: DType) -> Transformation | None:
    large = np.abs(a) > 1e-3 * np.abs(a).max()
    constant = _short(median(b[large] / a[large]))
    if abs(constant - 1) <= _CLEAR * float(spacing(np.ones(1), coarse)[0]):
        return None
    if not _fits(a * constant, b, np.maximum(np.abs(b), np.abs(a * constant)), coarse):
        return None
    if constant == -1:
        return Transformation("scale", "negated")
    return Transformation("scale", f"multiplied by exactly {constant:.6g}", constant)


def _affine(a: Floats, b: Floats, coarse: DType) -> Transformation | None:
    low, high = int(np.argmin(a)), int(np.argmax(a))
    if np.unique(a[: 1 << 16]).size < 2 * FEWEST:
        return None
    factor = _short(float((b[high] - b[low]) / (a[high] - a[low])))
    constant = _short(median(b - factor * a))
    one = float(spacing(np.ones(1), coarse)[0])
    # Near 1 and near 0 they are the rounding of another transformation, or a short training.
    if abs(factor - 1) < 1e-3 + _CLEAR * one or abs(factor) < 1e-3:
        return None
    size = np.maximum(np.maximum(np.abs(a * factor), np.abs(b)), abs(constant))
    if abs(constant) <= _CLEAR * float(spacing(size, coarse).max()):
        return None
    if not _fits(factor * a + constant, b, size, coarse):
        return None
    return Transformation("affine", f"multiplied by {factor:.6g} and moved by {constant:+.6g}")


def _function(
    sort: str, text: str, make: Callable[[Floats], Floats], a: Floats, b: Floats, coarse: DType
) -> Transformation | None:
    with np.errstate(all="ignore"):
        wanted = make(a)
    if not np.isfinite(wanted).all():
        return None
    if not _fits(wanted, b, np.maximum(np.abs(wanted), np.abs(b)), coarse):
        return None
    # A training by less than the rounding of a coarse type looks like any function near 1.
    if _fits(a, b, np.maximum(np.abs(a), np.abs(b)), coarse):
        return None
    return Transformation(sort, text)


def _permutation(a: Floats, b: Floats, _coarse: DType) -> Transformation | None:
    # Equal ends before everything is sorted.
    if a.min() != b.min() or a.max() != b.max() or not np.array_equal(np.sort(a), np.sort(b)):
        return None
    return Transformation("permutation", "put into another order")


def _rounded(a: Floats, b: Floats, types: tuple[DType, DType]) -> Transformation | None:
    """Numbers of a wide type that went through a narrow one."""
    if types[0].name != types[1].name or types[0].itemsize < 4:
        return None
    for name, grid in (("float16", _to_half), ("bfloat16", _to_bfloat16)):
        if name in BY_NAME and np.array_equal(grid(a), b):
            return Transformation("grid", f"rounded to {name}")
    return None


def _to_half(values: Floats) -> Floats:
    with np.errstate(over="ignore"):
        return values.astype(np.float16).astype(np.float64)


def _to_bfloat16(values: Floats) -> Floats:
    """To the nearest of eight bits, ties to even."""
    bits = values.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return rounded.view(np.float32).astype(np.float64)


def _short(number: float) -> float:
    """A constant as somebody would have written it, where it is that close."""
    if not np.isfinite(number):
        return number
    for digits in range(1, 5):
        near = float(f"{number:.{digits}g}")
        if abs(near - number) <= _NICE * abs(near):
            return near
    return number


def _looks() -> Iterator[Callable[[Floats, Floats, DType], Transformation | None]]:
    yield _shift
    yield _scale
    yield partial(_function, "square", "squared", np.square)
    yield partial(_function, "root", "replaced by the square root", np.sqrt)
    yield partial(_function, "reciprocal", "replaced by the reciprocal", np.reciprocal)
    yield partial(
        _function, "inverse root", "replaced by 1 over the square root", lambda x: 1 / np.sqrt(x)
    )
    yield _permutation
    yield _affine


_LOOKS = tuple(_looks())
