"""The values of a norm's tensors, read where they can be."""

from collections.abc import Sequence
from functools import lru_cache
from itertools import accumulate
from math import isnan
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from normcheck.errors import RefusedError
from normcheck.norms.layer import BatchCount, Floats, Values
from normcheck.saved.tensors import TensorRef

_Kind = TypeVar("_Kind", bound=np.generic)

_MOST_VALUES = 1 << 24
"""Elements of one norm's tensor; the largest real ones have some 100,000."""


_MOST_AHEAD = 1 << 18
"""Elements of a norm's tensor up to which it is fetched before anybody asks."""


def is_norm_sized(tensor: TensorRef | None) -> bool:
    """Whether a tensor is worth fetching before anybody asks, as norms' own are.

    Beside them may lie a weight of another size (of a fused convolution), which is not read.
    """
    return tensor is not None and (tensor.ndim <= 1 or tensor.numel <= _MOST_AHEAD)


def read_values(tensor: TensorRef | None, name: str, unread: dict[str, str]) -> Values | None:
    """The numbers of ``tensor`` in float64, flattened.

    To be called within ``np.errstate(invalid="ignore")``, which takes longer than the rest of this
    and is therefore entered once a model: signalling NaNs warn when they are widened, and are found
    by the rules instead.

    Args:
        tensor: May be None, for a tensor that is not there.
        name: Under which ``unread`` notes why values could not be had.
        unread: Filled in where the file has the tensor but not its values.
    """
    if tensor is None:
        return None
    if not tensor.readable:
        unread[name] = tensor.note or f"element type {tensor.dtype.name}"
        return None
    if tensor.numel > _MOST_VALUES:
        raise RefusedError(f"{name}: {tensor.numel:,} values in one normalization layer")
    values = tensor.values()
    if values.dtype.kind == "c":
        unread[name] = "complex numbers"
        return None
    numbers: Floats = values.reshape(-1)
    if numbers.dtype != np.float64:
        numbers = numbers.astype(np.float64)
    return Values(numbers, tensor.dtype, tensor.requires_grad)


def read_count(tensor: TensorRef | None) -> BatchCount | None:
    """``num_batches_tracked``; None where there is none, or where it is no single number."""
    if tensor is None or not tensor.readable or tensor.numel != 1:
        return None
    return BatchCount(float(tensor.values().reshape(-1)[0]), tensor.dtype)


def median(values: Sequence[float] | Floats) -> float:
    """The median of at least one number.

    Not ``np.median``, which imports ``numpy.ma``: that takes longer than a whole scan. The few
    numbers of a list are ordered as such, unless one of them is none.
    """
    if type(values) is list and not isnan(sum(values)):
        return middle_of(sorted(values))
    ordered = np.array(values, dtype=np.float64).reshape(-1)
    ordered.sort()
    return middle_of(ordered)


def middle_of(ordered: Sequence[float] | Floats) -> float:
    """The median of numbers in ascending order."""
    middle = len(ordered) // 2
    if len(ordered) % 2:
        return float(ordered[middle])
    # Halved first: the sum of two large numbers is infinite.
    return float(ordered[middle - 1]) / 2 + float(ordered[middle]) / 2


@lru_cache(maxsize=64)
def ones(count: int, dtype: np.dtype[Any]) -> NDArray[np.floating[Any]]:
    """So many times 1, for sums that are products, which nobody may write to."""
    made: NDArray[np.floating[Any]] = np.ones(count, dtype)
    made.flags.writeable = False
    return made


def cut(values: NDArray[_Kind], sizes: Sequence[int]) -> list[NDArray[_Kind]]:
    """Numbers that stand behind each other taken apart, so many in each part.

    Not ``np.split``, which takes as long as some of what is worked out of the parts.
    """
    ends = accumulate(sizes)
    return [values[end - size : end] for size, end in zip(sizes, ends, strict=True)]


def deviation(values: Floats) -> float:
    """The standard deviation of numbers in one dimension, to the bit that of ``values.std()``.

    That one looks at its arguments first, which for a few dozen numbers takes as long three times.
    """
    count = values.size
    apart = values - np.add.reduce(values) / count
    apart *= apart
    return float(np.sqrt(np.add.reduce(apart) / count))
