"""Through which number type values went, told by the grid that they lie on.

A float32 value that came from float16 has 13 zero bits at its end and lies within float16's range;
of values that did not, one in 8,192 does. So a few dozen values prove it.
"""

from collections.abc import Iterable

import numpy as np

from normcheck.norms.layer import Floats, NormLayer, Values

ENOUGH = 32
"""Different values that prove a grid: by chance 32 lie on one once in 10^125 files."""
LARGEST_HALF = 65504.0


def went_through_half(layers: Iterable[NormLayer]) -> bool:
    """Whether all numbers of these norms, stored in 32 bits or more, are values of float16.

    What is not finite, and exactly 0 or 1, says nothing.
    """
    numbers = _numbers(part for layer in layers for part in _parts(layer))
    if numbers is None or np.abs(numbers).max() > LARGEST_HALF:
        return False
    return bool((numbers.astype(np.float16).astype(np.float64) == numbers).all())


def all_of_bfloat16(layers: Iterable[NormLayer]) -> bool:
    """Whether the running statistics are values of bfloat16, whatever γ and β are."""
    statistics = [p for n in layers for p in (n.running_mean, n.running_var) if p]
    if statistics and all(part.dtype.name == "bfloat16" for part in statistics):
        return True
    if any(map(_middle_is_off_bfloat16, statistics[:1])):
        return False  # as nearly always: one number is enough
    numbers = _numbers(statistics)
    return numbers is not None and _on_bfloat16(numbers)


def kept_in_bfloat16(layers: Iterable[NormLayer]) -> bool:
    """Whether the running statistics are values of bfloat16, while γ and β are not."""
    listed = tuple(layers)
    if not all_of_bfloat16(listed):
        return False
    affine = _numbers(p for n in listed for p in (n.weight, n.bias) if p)
    return affine is not None and not _on_bfloat16(affine)


def _middle_is_off_bfloat16(values: Values) -> bool:
    middle = values.ordered[values.size // 2 :][:1]
    return bool(np.isfinite(middle).all()) and not _on_bfloat16(middle)


def _on_bfloat16(numbers: Floats) -> bool:
    single = numbers.astype(np.float32)
    return bool(((single.view(np.uint32) & 0xFFFF) == 0).all() and (single == numbers).all())


def _parts(layer: NormLayer) -> Iterable[Values]:
    parts = (layer.running_mean, layer.running_var, layer.weight, layer.bias)
    return (part for part in parts if part is not None)


def _numbers(parts: Iterable[Values]) -> Floats | None:
    """All of them that can tell, or None where these are too few, or of a smaller type anyway."""
    listed = tuple(parts)
    if any(part.dtype.itemsize < 4 or not part.dtype.floating for part in listed):
        return None
    everything = [part.numbers for part in listed]
    if not everything:
        return None
    joined = np.concatenate(everything)
    telling = _distinct(joined[np.isfinite(joined) & (joined != 0) & (joined != 1)])
    return telling if telling.size >= ENOUGH else None


def _distinct(numbers: Floats) -> Floats:
    """Each number once, rising; ``np.unique`` imports ``numpy.ma``, a twelfth of a short scan."""
    rising = np.sort(numbers)
    return rising[np.append(True, rising[1:] != rising[:-1])] if rising.size else rising
