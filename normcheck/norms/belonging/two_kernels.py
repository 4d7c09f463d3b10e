"""The kernel of two layers of weights behind each other, and the variances that it makes.

What the module beside this one takes of both weights, in single precision: inputs of variance 1
that correlate between neighbouring places and between channels go in.
"""

from collections.abc import Sequence
from functools import lru_cache
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normcheck.norms.layer import Floats
from normcheck.norms.layer_numbers import ones
from normcheck.saved.tensors import TensorRef

MIDDLE = (0.5, 0.1)
"""Correlations of neighbours and of channels under which the deviations between the two layers are
taken, which hardly shows."""
_NEIGHBOURS, _AMONG = (0.0, 0.5, 0.8, 0.95), (0.0, 0.3)
INPUTS = tuple((near, among) for among in _AMONG for near in _NEIGHBOURS)
"""Those that are tried."""
USUAL = ((0.5, 0.3),)
"""Those that most healthy models already fit under."""

_SINGLE = np.dtype(np.float32)
Singles = NDArray[np.floating[Any]]
"""Single precision is exact enough for sums of squares of a few thousand products."""


def dense(weights: TensorRef, groups: int) -> Singles:
    """Outputs of weights by all of their inputs, of shape (outputs, inputs, taps)."""
    values = np.asarray(weights.values(), dtype=np.float32)
    makes, inner = values.shape[:2]
    values = values.reshape(makes, inner, -1)
    if groups == 1:
        return values
    whole = np.zeros((groups, makes // groups, groups, inner, values.shape[2]), np.float32)
    for group, rows in enumerate(values.reshape(groups, makes // groups, inner, -1)):
        whole[group, :, group] = rows
    return whole.reshape(makes, groups * inner, -1)


def of_both(
    pointwise: TensorRef, depthwise: TensorRef, inputs: int, outputs: NDArray[np.intp]
) -> Singles:
    """Some outputs of a convolution in two parts by all of its inputs: see :func:`dense`.

    Args:
        pointwise: Of shape (outputs, middle, 1 …).
        depthwise: The part ahead of it, of shape (middle, 1, taps …).
        inputs: Channels that reach the first part, each of them so many of the middle.
        outputs: Places of those that are wanted.
    """
    middle = depthwise.shape[0]
    point = np.asarray(pointwise.values(), dtype=np.float32).reshape(-1, middle)[outputs]
    deep = np.asarray(depthwise.values(), dtype=np.float32).reshape(middle, -1)
    both = point[:, :, None] * deep
    summed: Singles = both.reshape(outputs.size, inputs, middle // inputs, -1).sum(axis=2)
    return summed


def one_behind_the_other(
    second: Singles, first: Singles, share: Singles, sizes: Sequence[tuple[int, ...]]
) -> Singles:
    """The kernel of two convolutions, with a factor for each channel between them.

    Inputs come last in it, so that what is added up lies side by side: numpy takes longer to find
    rows of three taps than to add them.

    Args:
        second: Of shape (outputs, middle, taps).
        first: Of shape (middle, inputs, taps).
        share: The factors, of shape (middle,).
        sizes: Of the taps of the first, and of the second.

    Returns:
        Of shape (outputs, taps of both, inputs).
    """
    (outputs, middle, taps), inputs = second.shape, first.shape[1]
    scaled = np.multiply(first.swapaxes(1, 2), share[:, None, None], order="C")
    scaled = scaled.reshape(middle, -1)
    if taps == 1:
        return (second[..., 0] @ scaled).reshape(outputs, -1, inputs)
    size = [a + b - 1 for a, b in zip(*sizes, strict=True)]
    both = np.zeros((outputs, *size, inputs), np.float32)
    # One tap after the other: products of all of them at once are larger than a processor's cache.
    by_tap = np.ascontiguousarray(second.transpose(2, 0, 1))
    flat = np.empty((outputs, scaled.shape[1]), np.float32)
    made = flat.reshape(outputs, *sizes[0], inputs)
    for rows, inside in zip(by_tap, _insides(*sizes), strict=True):
        np.matmul(rows, scaled, out=flat)
        there = both[inside]  # a view: by its index, numpy copies it onto itself, too
        there += made
    return both.reshape(outputs, -1, inputs)


@lru_cache(maxsize=64)
def _insides(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[tuple[slice, ...], ...]:
    """Where in the kernel of both the first one lies, for each tap of the second."""
    return tuple(
        (slice(None), *(slice(at, at + size) for at, size in zip(place, first, strict=True)))
        for place in product(*map(range, second))
    )


def usual_variance(weights: Singles, size: tuple[int, ...]) -> Singles:
    """Variances behind weights, of shape (outputs, inputs, taps), under ``MIDDLE``."""
    neighbours, among = MIDDLE
    taps = weights.shape[2]
    near = _nearness(size, (neighbours,)).reshape(taps, taps)
    # A product, since numpy is slow at sums over a middle axis.
    rows, total = weights.reshape(-1, taps), ones(weights.shape[1], _SINGLE) @ weights
    apart = ((rows @ near) * rows).reshape(len(weights), -1).sum(axis=1)
    together = ((total @ near) * total).sum(axis=1)
    made: Singles = np.maximum((1 - among) * apart + among * together, 0.0)
    return made


def of_inputs(kernel: Singles, size: tuple[int, ...]) -> Floats:
    """Variances behind a kernel for inputs of variance 1 that correlate as each of ``INPUTS``.

    How every two taps go together is worked out once for all of them.

    Args:
        kernel: Of shape (outputs, taps, inputs).
        size: Of the taps.

    Returns:
        Of shape (inputs that are tried, outputs).
    """
    outputs, taps, channels = kernel.shape
    near = _nearness(size, _NEIGHBOURS)
    total = kernel.reshape(-1, channels) @ ones(channels, _SINGLE)
    total = total.reshape(outputs, taps)
    apart = (kernel @ kernel.swapaxes(1, 2)).reshape(outputs, -1) @ near
    # First over one of the two taps, for all neighbours at once.
    over = (total @ near.reshape(taps, -1)).reshape(outputs, taps, -1)
    together = (total[:, None] @ over)[:, 0]
    mixed = [(1 - among) * apart.T + among * together.T for among in _AMONG]
    made: Floats = np.maximum(np.concatenate(mixed), 0.0).astype(np.float64)
    return made


@lru_cache(maxsize=64)
def _nearness(size: tuple[int, ...], neighbours: tuple[float, ...]) -> Singles:
    """Correlation of every two taps, of shape (taps · taps, neighbours).

    Args:
        size: Of the taps.
        neighbours: Correlations of neighbouring places; they fall with the distance.
    """
    places = np.stack([grid.reshape(-1) for grid in np.indices(size)], axis=1)
    distance = np.abs(places[:, None] - places[None]).sum(axis=2).reshape(-1, 1)
    near: Singles = np.power(neighbours, distance).astype(np.float32)
    return near
