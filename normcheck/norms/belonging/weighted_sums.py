"""What weights make of the means and variances that reach them.

For weights W, input means m and variances v, independent of each other:

    mean_o = Σ_taps c(tap) Σ_i W[o, i, tap] m_i
    variance_o ≈ Σ W² v

c(tap) is the share of output positions at which a tap lies inside the image, with zero
padding (1 - |dy| f)(1 - |dx| f), f about 1/size. Weights are read once, in the order and the
precision in which they are stored: the sum over inputs comes first, which leaves a number for
each tap, and the borders go through these.
"""

from functools import lru_cache
from math import prod

import numpy as np

from normcheck.norms.belonging.structure.link import Link, WeightStructure
from normcheck.norms.belonging.structure.separable import Depthwise
from normcheck.norms.layer import Floats
from normcheck.norms.layer_numbers import ones
from normcheck.norms.weight_layout import Layout
from normcheck.saved.dtypes import Array
from normcheck.saved.prefetch import fetch_ahead
from normcheck.saved.tensor_blocks import in_blocks

BORDERS = (0.0, 0.03, 0.07, 0.14, 0.25, 0.5, 1.0)
"""Values of f: images of no border, 32, 16, 8, 4, 2 pixels and of one, in which a padded
convolution sees zeros around its middle (deep networks on small images end there)."""
_APART = (WeightStructure.LINEAR, WeightStructure.CONVOLUTION)
"""Weights whose rows are output channels that see every input: they are read in blocks."""


def behind_weights(
    link: Link, means: Floats, variances: Floats | None = None
) -> tuple[Floats, Floats]:
    """Means and variances behind the weights of a link, without its bias.

    Of a transposed convolution as if each output position saw every tap: see
    :func:`shares_seen`.

    Args:
        link: With the weights.
        means: Of shape (channels, hypotheses).
        variances: Of the same shape; None where :func:`variances_behind` is asked later, for the
            hypothesis that is chosen.

    Returns:
        Means of shape (out channels, hypotheses, borders), variances of shape (out channels,
        hypotheses); without variances the squares of the weights, summed over taps, of shape
        (groups, out channels of each, inputs of each).

    Raises:
        UnreadableError: The file ends early, or its checksum is wrong.
    """
    if link.depthwise is not None:
        return _behind_both(link, link.depthwise, means, variances)
    weights = link.weights
    turned = link.kind is WeightStructure.TRANSPOSED
    inner = weights.shape[0] // link.groups if turned else weights.shape[1]
    # A depthwise convolution is one with as many groups as channels.
    groups = means.shape[0] // inner
    hypotheses, taps = means.shape[1], prod(weights.shape[2:])
    shares = _shares(weights.shape[2:], turned=turned)
    means = means.reshape(groups, 1, inner, -1)
    fetch_ahead((weights,))
    found: list[Floats] = []
    behind: list[Floats] = []
    squares: Floats = np.empty(0)
    for _, block in in_blocks(weights) if link.kind in _APART else ((0, weights.values()),):
        rows = _rows(block, link).reshape(groups, -1, inner, taps)
        if not found:  # every block is of one type
            means, shares = (factor.astype(rows.dtype, copy=False) for factor in (means, shares))
        if squares.shape != rows.shape:
            # Kept from block to block: to get fresh memory takes longer than to fill it.
            squares = np.empty_like(rows)
        np.square(rows, out=squares)
        mean = _over_taps(rows, means).reshape(-1, taps) @ shares
        found.append(mean.reshape(-1, hypotheses, shares.shape[1]))
        # A product, since numpy is slow at sums over a few numbers.
        summed = squares[..., 0] if taps == 1 else squares @ ones(taps, rows.dtype)
        if variances is not None:
            behind.append(variances_behind(summed, variances))
        else:
            behind.append(summed.copy() if summed.base is squares else summed)
    mean = (np.concatenate(found) if len(found) > 1 else found[0]).astype(np.float64)
    axis = 1 if variances is None else 0
    made = np.concatenate(behind, axis=axis) if len(behind) > 1 else behind[0]
    if mean.shape[2] < len(BORDERS):  # all alike, of a single tap
        mean = np.broadcast_to(mean, (*mean.shape[:2], len(BORDERS)))
    return mean, made


def _behind_both(
    link: Link, depthwise: Depthwise, means: Floats, variances: Floats | None
) -> tuple[Floats, Floats]:
    """The same for a convolution in two parts, whose kernel is the product of theirs.

    The bias of the part that comes first is added between them.
    """
    point = np.asarray(link.weights.values(), dtype=np.float64).reshape(link.weights.shape[:2])
    deep = np.asarray(depthwise.weights.values(), dtype=np.float64).reshape(
        depthwise.weights.shape[0], -1
    )
    # One number for each channel and border.
    shares = np.broadcast_to(deep @ _shares(depthwise.weights.shape[2:]), (len(deep), len(BORDERS)))
    shift: Floats = np.zeros(1)
    if depthwise.bias is not None:
        shift = np.asarray(depthwise.bias.values(), dtype=np.float64).reshape(-1)
    strength = np.square(deep).sum(axis=1)
    if depthwise.ahead:
        times = len(deep) // len(means)
        reached = np.repeat(means, times, axis=0)[:, :, None] * shares[:, None]
        mean = np.tensordot(point, reached + shift[:, None, None], axes=1)
        squares = np.square(point) * strength
        squares = squares.reshape(len(point), -1, times).sum(axis=2)
    else:
        mean = (point @ means + shift[:, None])[:, :, None] * shares[:, None]
        squares = np.square(point) * strength[:, None]
    if variances is None:
        return mean, squares[None]
    return mean, variances_behind(squares[None], variances)


def by_tap(link: Link, means: Floats, variances: Floats) -> tuple[Floats, Floats]:
    """What each tap adds to means and variances, of no transposed convolution.

    Args:
        link: With the weights, which are read once more.
        means: Of what reaches them, of shape (channels, 1).
        variances: Of the same shape.

    Returns:
        Two arrays of shape (out channels, taps).

    Raises:
        UnreadableError: The file ends early, or its checksum is wrong.
    """
    weights = link.weights
    inner, taps = weights.shape[1], prod(weights.shape[2:])
    groups = means.shape[0] // inner
    means, variances = (each.reshape(groups, 1, inner, 1) for each in (means, variances))
    found: list[Floats] = []
    spread: list[Floats] = []
    for _, block in in_blocks(weights) if link.kind in _APART else ((0, weights.values()),):
        rows = _rows(block, link).reshape(groups, -1, inner, taps)
        reaching = (each.astype(rows.dtype, copy=False) for each in (means, variances))
        mean, variance = map(_over_taps, (rows, np.square(rows)), reaching)
        found.append(mean.reshape(-1, taps))
        spread.append(variance.reshape(-1, taps))
    return np.concatenate(found).astype(np.float64), np.concatenate(spread).astype(np.float64)


def variances_behind(squares: Floats, variances: Floats) -> Floats:
    """Variances behind weights, by their squares.

    Args:
        squares: Summed over taps, of shape (groups, out channels of each, inputs of each).
        variances: Of what reaches the weights, of shape (channels, hypotheses).

    Returns:
        Of shape (out channels, hypotheses).
    """
    groups, _, inner = squares.shape
    reaching = variances.reshape(groups, inner, -1).astype(squares.dtype, copy=False)
    made: Floats = (squares @ reaching).reshape(-1, variances.shape[1]).astype(np.float64)
    return made


def shares_seen(link: Link) -> tuple[float, ...]:
    """Shares of its taps that an output position may see.

    All of them, but for a transposed convolution: at stride 2 it sees every second tap in each
    dimension, at stride 4 every fourth, and a first one on a single pixel just one of 4 × 4.
    Where the file tells the stride, it is that, or the single pixel.
    """
    if link.kind is not WeightStructure.TRANSPOSED:
        return (1.0,)
    if link.seen is not None:
        return tuple(dict.fromkeys((1.0, link.seen, 1 / prod(link.weights.shape[2:]))))
    spread = sum(length > 1 for length in link.weights.shape[2:])
    return tuple(2.0 ** (-halvings * spread) for halvings in range(3 if spread else 1))


def _over_taps(rows: Floats, means: Floats) -> Floats:
    """The sum over inputs, for each tap.

    Args:
        rows: Of shape (groups, out channels, inputs, taps).
        means: Of shape (groups, 1, inputs, hypotheses).

    Returns:
        Of shape (groups, out channels, hypotheses, taps).
    """
    if rows.shape[-1] == 1:  # one product, not one for each output
        return (rows[..., 0] @ means[:, 0])[..., None]
    # Taps stay last, as they lie in the file: turned round, it takes up to twice as long.
    return means.swapaxes(2, 3) @ rows


def _rows(block: Array, link: Link) -> Array:
    """Output channels first, in single precision at least.

    Sums of some thousand products are exact to 10^-6 in it, and take half the time.
    """
    if link.kind is WeightStructure.TRANSPOSED:
        block = Layout(inputs_first=True, groups=link.groups).rows(block)
    return (
        block
        if block.dtype in (np.float32, np.float64)
        else block.astype(np.float32 if block.dtype == np.float16 else np.float64)
    )


@lru_cache(maxsize=256)
def _shares(shape: tuple[int, ...], *, turned: bool = False) -> Floats:
    """Share of output positions at which each tap of a kernel lies inside the image.

    Args:
        shape: Of the kernel.
        turned: Whether it is a transposed convolution's. Of those that double, of 2p + s taps at
            padding p and stride s = 2p, the outer quarters reach over the border once.

    Returns:
        Of shape (taps, borders); one border where they are all the same, of a single tap.
    """
    columns = []
    for border in BORDERS if prod(shape) > 1 else BORDERS[:1]:
        shares: Floats = np.ones(())
        for length in shape:
            distance = np.abs(np.arange(length) - (length - 1) / 2)
            if turned and length % 4 == 0:
                distance = (distance > length / 4).astype(np.float64)
            inside = np.clip(1.0 - distance * border, 0.0, 1.0)
            shares = np.asarray(np.multiply.outer(shares, inside))
        columns.append(shares.reshape(-1))
    return np.stack(columns, axis=1)
