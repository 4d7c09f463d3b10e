"""Variances behind two layers of weights: channels that are not independent.

The plain prediction takes the inputs of weights as independent, and its variances follow stored
ones but loosely, with a third of their spread or less. What makes inputs go together is known in
part: the weights before them. For x → A → norm → φ → W → norm, with values y_i = β_i + γ_i z_i
behind the first norm and the linear part of φ(y_i), a_i z_i with a_i = E[φ(y_i) z_i] (Bussgang
1952: what is left does not correlate with z),

    variance_o = Σ over neighbours and inputs of (W ∗ (a/s) A)_o squared, in the correlation of x
                 + Σ W[o, i]² (Var[φ(y_i)] - a_i²)

where s is the deviation that A makes of x. The correlation of x is not known: a few are tried, of
neighbours ρ and of channels c, as for the first norm, and the one is taken whose shape fits best.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from math import prod, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.reaching import affine_of
from normcheck.norms.belonging.structure.activation_moments import ACTIVATIONS, Normals
from normcheck.norms.belonging.structure.link import Before, Link, WeightStructure
from normcheck.norms.layer import Floats
from normcheck.saved.tensors import TensorRef

MIDDLE = (0.5, 0.1)
"""Correlations of neighbours and of channels under which s is taken, which hardly shows."""
INPUTS = tuple((near, among) for near in (0.0, 0.5, 0.8, 0.95) for among in (0.0, 0.3))
"""Those that are tried."""
USUAL = ((0.5, 0.3),)
"""Those that most healthy models already fit under."""
FEWEST_CHANNELS = 16
MOST_BORDER = 0.2
"""Of an image of 8 pixels it is 0.14, of 4 a quarter."""
QUIET = 1e-6
"""Share of the usual variance below which a channel has none to speak of."""
_MOST = 20_000_000
"""Products of one link: of more, fewer of its outputs are predicted."""
_KINDS = frozenset(
    (
        WeightStructure.CONVOLUTION,
        WeightStructure.LINEAR,
        WeightStructure.GROUPED,
        WeightStructure.DEPTHWISE,
    )
)


Singles = NDArray[np.floating[Any]]
"""Single precision is exact enough for sums of squares of a few thousand products."""


@lazy_dataclass()
class Spread:
    """How stored variances spread beside those predicted through two layers, as logarithms."""

    path: str
    """Of the norm that stores them."""
    channels: int
    correlation: float
    """Of stored and predicted ones, under the input for which it is largest, up or down."""
    ratio: float
    """Standard deviation of the stored ones over that of the predicted ones: 0.8 to 1.5 for
    variances, by the median of a model, half of that for deviations in their place."""
    varied: float
    """Standard deviation of the predicted ones: what hardly varies says little."""


class TwoLayers:
    """The variances of one fit's target, predicted through the weights before its source, too.

    Args:
        fit: Of a plain link, whose file is still open.
        before: The weights before its source.
        outputs: Places of the channels that are predicted.

    Raises:
        UnreadableError: The file ends early, or its checksum is wrong.
    """

    def __init__(self, fit: Fit, before: Before, outputs: NDArray[np.intp]) -> None:
        """Read both weights, and put one behind the other."""
        link = fit.link
        linear, rest = _in_parts(link, fit.activation)
        sizes = before.weights.shape[2:] or (1,), link.weights.shape[2:] or (1,)
        first = _dense(before.weights, before.groups)
        second = _dense(link.weights, linear.size // link.weights.shape[1])[outputs]
        made = np.sqrt(_mixed(*_of_input(first, sizes[0], MIDDLE[0]), MIDDLE[1]))
        share = (linear / np.maximum(made, 1e-30)).astype(np.float32)
        self._kernel = _one_behind_the_other(second, first * share[:, None, None], sizes)
        self._size = tuple(a + b - 1 for a, b in zip(*sizes, strict=True))
        self._alone = np.square(second).sum(axis=2) @ rest
        self._path, self._logs = link.target.path, np.log(fit.stored_variance[outputs])
        self._made: dict[float, tuple[Floats, Floats]] = {}

    def spread(self, inputs: Iterable[tuple[float, float]] = INPUTS) -> Spread | None:
        """How the stored ones spread beside those predicted under the input that fits best.

        Args:
            inputs: Correlations of neighbours and of channels that are tried.

        Returns:
            None where no numbers are predicted.
        """
        if self._kernel.shape[2] == 1:  # a single tap has no neighbours
            inputs = dict.fromkeys((0.0, channels) for _, channels in inputs)
        told = [one for each in inputs if (one := self._under(*each)) is not None]
        return max(told, key=lambda one: abs(one.correlation), default=None)

    def _under(self, neighbours: float, channels: float) -> Spread | None:
        if neighbours not in self._made:
            self._made[neighbours] = _of_input(self._kernel, self._size, neighbours)
        variances = _mixed(*self._made[neighbours], channels) + self._alone
        if not (np.isfinite(variances).all() and (variances > 0).all()):
            return None
        made, own = np.log(variances), self._logs - self._logs.mean()
        made -= made.mean()
        varied, stored = sqrt(float(made @ made)), sqrt(float(own @ own))
        if not (varied > 0 and stored > 0):
            return None
        return Spread(
            self._path,
            made.size,
            float(own @ made) / (varied * stored),
            stored / varied,
            varied / sqrt(made.size),
        )


def two_layers(fit: Fit, most: int) -> TwoLayers | None:
    """The variances of a fit's target through two layers of weights.

    Args:
        fit: Whose file is still open.
        most: Channels that are predicted.

    Returns:
        None where the weights before are not known, or the channels too few or too large.

    Raises:
        UnreadableError: The file ends early, or its checksum is wrong.
    """
    link, before = fit.link, fit.link.before
    if before is None or not (before.weights.readable and link.weights.readable):
        return None
    if link.kind not in _KINDS or fit.activation not in ACTIVATIONS or fit.pool > 1:
        return None
    if link.weights.ndim != before.weights.ndim:
        return None
    if fit.small_map or fit.border > MOST_BORDER:
        return None  # there most taps of two kernels meet nothing
    stored = fit.stored_variance
    outputs = np.flatnonzero(stored > QUIET * max(float(np.median(stored)), 0.0))
    products = before.weights.numel * before.groups * prod(link.weights.shape[2:])
    most = min(most, _MOST // products)
    if most < outputs.size:
        outputs = outputs[np.linspace(0, outputs.size - 1, most).astype(int)]
    return TwoLayers(fit, before, outputs) if outputs.size >= FEWEST_CHANNELS else None


def _in_parts(link: Link, activation: str) -> tuple[Floats, Floats]:
    """What of each activated channel is linear, a of the module's text, and the variance beside."""
    gamma, beta = affine_of(link)
    linear, variance = Normals(gamma, beta).in_parts(ACTIVATIONS[activation])
    beside = np.maximum(variance - np.square(linear), 0.0)
    return np.where(gamma < 0, -linear, linear), beside


def _dense(weights: TensorRef, groups: int) -> Singles:
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


def _one_behind_the_other(
    second: Singles, first: Singles, sizes: Sequence[tuple[int, ...]]
) -> Singles:
    """The kernel of two convolutions, of shape (outputs, inputs, taps of both)."""
    (outputs, middle, taps), inputs = second.shape, first.shape[1]
    parts = (second.transpose(0, 2, 1).reshape(-1, middle) @ first.reshape(middle, -1)).reshape(
        outputs, taps, inputs, *sizes[0]
    )
    both = np.zeros(
        (outputs, inputs, *(a + b - 1 for a, b in zip(*sizes, strict=True))), np.float32
    )
    for tap, place in enumerate(np.ndindex(*sizes[1])):
        inside = tuple(slice(at, at + size) for at, size in zip(place, sizes[0], strict=True))
        both[(slice(None), slice(None), *inside)] += parts[:, tap]
    return both.reshape(outputs, inputs, -1)


def _of_input(kernel: Singles, size: tuple[int, ...], neighbours: float) -> tuple[Floats, Floats]:
    """Variances behind a kernel for inputs of variance 1 whose neighbouring places correlate so.

    Args:
        kernel: Of shape (outputs, inputs, taps).
        size: Of the taps.
        neighbours: Correlation of neighbouring places; it falls with their distance.

    Returns:
        Of channels that are independent, and of channels that are all the same.
    """
    near = _nearness(size, neighbours)
    apart: Floats = ((kernel @ near) * kernel).sum(axis=(1, 2))
    total = kernel.sum(axis=1)
    together: Floats = ((total @ near) * total).sum(axis=1)
    return apart, together


def _mixed(apart: Floats, together: Floats, channels: float) -> Floats:
    """Variances for channels that correlate so at each place."""
    return (1.0 - channels) * apart + channels * together


@lru_cache(maxsize=64)
def _nearness(size: tuple[int, ...], neighbours: float) -> Singles:
    """Correlation of every two taps, of shape (taps, taps)."""
    places = np.stack([grid.reshape(-1) for grid in np.indices(size)], axis=1)
    distance = np.abs(places[:, None] - places[None]).sum(axis=2)
    near: Singles = np.power(neighbours, distance).astype(np.float32)
    return near
