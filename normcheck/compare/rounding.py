"""When two stored numbers differ, and when only their element types do."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from normcheck.saved.dtypes import Array, DType

_MANTISSA_BITS = {
    "float64": 52,
    "float32": 23,
    "float16": 10,
    "bfloat16": 7,
    "float8_e4m3fn": 3,
    "float8_e4m3fnuz": 3,
    "float8_e5m2": 2,
    "float8_e5m2fnuz": 2,
    "float8_e8m0fnu": 0,
}
"""Stored bits after the leading one, which set how far neighbours lie apart."""

Mask = npt.NDArray[np.bool_]


def coarsest(types: Iterable[DType]) -> DType:
    """The type that keeps the fewest digits."""
    return min(types, key=lambda dtype: (_MANTISSA_BITS.get(dtype.name, 0), dtype.itemsize))


def spacing(values: Array, dtype: DType) -> Array:
    """The distance from each value to its neighbour in ``dtype``; at least its smallest number."""
    _, exponent = np.frexp(values)
    gaps: Array = np.ldexp(1.0, exponent - 1 - _MANTISSA_BITS.get(dtype.name, 0))
    return np.maximum(gaps, dtype.smallest or 0.0)


def moved(a: Array, b: Array, dtype_a: DType, dtype_b: DType) -> Mask:
    """Which of the numbers moved.

    Of one type, every difference counts. Of two, a number moved where the difference exceeds
    one spacing of the coarser type: whatever rounding the conversion used, it stays below
    that. NaN equals NaN, and a number past the end of the coarser type equals its infinity
    and its largest value.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        same: Mask = (a == b) | (np.isnan(a) & np.isnan(b))
        if dtype_a.name == dtype_b.name:
            return ~same
        coarse = coarsest((dtype_a, dtype_b))
        size = np.maximum(np.abs(a), np.abs(b))
        close: Mask = np.abs(a - b) <= spacing(np.where(np.isfinite(size), size, 0.0), coarse)
        if coarse.largest is not None:
            past: Mask = (np.minimum(np.abs(a), np.abs(b)) >= coarse.largest) & (
                np.sign(a) == np.sign(b)
            )
            close |= past
    return ~(same | close)
