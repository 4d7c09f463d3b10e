"""Mean and variance of a normalised channel behind an activation.

Behind a normalization a channel is close to N(β, γ²) whatever the data is, because that is
what a normalization does. What an activation makes of it is an integral over one normal
distribution, taken here on a grid over ±6 standard deviations: 129 points are exact to better
than 10^-3 for activations with a kink. For those without one the trapezoidal rule converges
faster than any power of the distance (Trefethen & Weideman 2014): 43 points are exact to 10^-5
up to a γ of 3, and to 10^-3 of it up to one of 10.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from math import erf
from typing import Any

import numpy as np
from numpy.typing import NDArray

from normcheck.norms.layer import Floats

Reals = NDArray[np.floating[Any]]
"""In single or in double precision."""
Activation = Callable[[Any], Any]
"""Makes numbers of numbers, in the precision in which it gets them."""
_POINTS = 129
_SMOOTH_POINTS = 43
_REACH = 6.0
"""Standard deviations covered; what lies outside has a probability of 2e-9."""


def _grid(points: int) -> tuple[Floats, Floats]:
    """Places, and how probable each is."""
    places = np.linspace(-_REACH, _REACH, points)
    density = np.exp(-0.5 * places**2)
    return places, density / density.sum()


_GRID, _DENSITY = _grid(_POINTS)
_COARSE_GRID, _COARSE_DENSITY = _grid(_SMOOTH_POINTS)
_GRID_SINGLE, _DENSITY_SINGLE, _COARSE_GRID_SINGLE, _COARSE_DENSITY_SINGLE = (
    each.astype(np.float32) for each in (_GRID, _DENSITY, _COARSE_GRID, _COARSE_DENSITY)
)
"""For means alone, which then meet weights in single precision: in double precision numpy has no
vectorised exponential without AVX512, and all else takes twice as long. Variances are differences
of squares, of which single precision leaves too little."""


def _no_activation(x: Reals) -> Reals:
    return x


def _leaky(slope: float) -> Activation:
    # Slopes are below 1: the greater of the two is the right one.
    return lambda x: np.maximum(x, slope * x)


def _sigmoid(x: Reals) -> Reals:
    # By the tangent, which does not overflow.
    result: Reals = np.tanh(0.5 * x)
    result += 1.0
    result *= 0.5
    return result


def _silu(x: Reals) -> Reals:
    return x * _sigmoid(x)


def _gelu(x: Reals) -> Reals:
    # 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), the approximation of Hendrycks & Gimpel.
    # Multiplied out: a power of floats is a logarithm and an exponential.
    inner = 0.7978845608028654 * x * (1.0 + 0.044715 * (x * x))
    result: Reals = 0.5 * x * (1.0 + np.tanh(inner))
    return result


def _elu(x: Reals) -> Reals:
    # Of numbers of about 1 the exponential is exact enough, and four times as fast as expm1.
    result: Reals = np.exp(np.minimum(x, 0.0))
    result -= 1.0
    result += np.maximum(x, 0.0)
    return result


def _clipped(x: Reals) -> Reals:
    # Two comparisons take a fraction of the time of np.clip.
    result: Reals = np.maximum(x, 0.0)
    return np.minimum(result, 6.0, out=result)


def _hardswish(x: Reals) -> Reals:
    result = _clipped(x + 3.0)
    result *= x
    result /= 6.0
    return result


def _mish(x: Reals) -> Reals:
    # x tanh(log(1 + eˣ)), multiplied out; beyond 20 the fraction is 1 to the last digit.
    grown = np.exp(np.minimum(x, 20.0))
    grown *= grown + 2.0
    result: Reals = x * (grown / (grown + 2.0))
    return result


_LEAKY = {"leaky ReLU 0.01": 0.01, "leaky ReLU 0.1": 0.1, "leaky ReLU 0.2": 0.2}
"""Slopes of those that are so much of no activation, and the rest of a ReLU: their means, too."""
ACTIVATIONS: Mapping[str, Activation] = {
    "ReLU": lambda x: np.maximum(x, 0.0),
    "no activation": _no_activation,
    "SiLU": _silu,
    "GELU": _gelu,
    "hardswish": _hardswish,
    "ReLU6": _clipped,
    **{name: _leaky(slope) for name, slope in _LEAKY.items()},
    "ELU": _elu,
    "Mish": _mish,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
}
"""The simplest first: among equally good ones the first is named."""
_SMOOTH = frozenset((_silu, _gelu, _mish, np.tanh, _sigmoid))
"""Those that need no more than the coarse grid."""

POOLS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0)
"""Independent values that a max pooling chooses from; neighbours are alike, so that a window
of 2 × 2 acts like one of 1.5 to 4. 1 is no max pooling."""
_NO_POOL = (1.0,)


def pools_under(window: int) -> tuple[float, ...]:
    """How many independent values a max pooling may act like that chooses from so many.

    Not like none: it would take a rest of the initial value in the means for that.
    """
    return tuple(pool for pool in POOLS[1:] if pool <= window) or _NO_POOL


def _pool_density(pool: float) -> Floats:
    """Weights on the grid of the largest of ``pool`` independent normal values."""
    if pool == 1.0:
        return np.asarray(_DENSITY)
    edges = np.concatenate(([-np.inf], (_GRID[1:] + _GRID[:-1]) / 2, [np.inf]))
    below: Floats = np.array([0.5 * (1.0 + erf(edge / np.sqrt(2.0))) for edge in edges])
    density: Floats = np.diff(below**pool)
    return density


_DENSITIES = {pool: _pool_density(pool) for pool in POOLS}


@lru_cache(maxsize=16)
def _densities(pools: tuple[float, ...]) -> Floats:
    """Of shape (points, pools)."""
    return np.stack([_DENSITIES[pool] for pool in pools], axis=1)


class Normals:
    """Channels that are N(β, γ²) each.

    Args:
        gamma: Scale of each channel, any sign.
        beta: Shift of each channel.
    """

    def __init__(self, gamma: Floats, beta: Floats) -> None:
        """See the class."""
        self._gamma = np.abs(gamma)
        self._beta = beta

    @cached_property
    def _fine(self) -> Floats:
        return self._beta[:, None] + self._gamma[:, None] * _GRID

    @cached_property
    def _coarse(self) -> Floats:
        return self._beta[:, None] + self._gamma[:, None] * _COARSE_GRID

    def after(
        self, activation: Activation, pools: tuple[float, ...] = _NO_POOL
    ) -> tuple[Floats, Floats]:
        """Mean and variance of ``activation(y)``, y ~ N(β, γ²), perhaps max-pooled.

        Args:
            activation: Applied element by element; leaves what it is given as it is.
            pools: Members of ``POOLS``. Pooling and an increasing activation can change places,
                so the largest of the values is taken before the activation.

        Returns:
            Two arrays of shape (channels, pools).
        """
        if pools == _NO_POOL:
            if activation is _no_activation:
                return self._beta[:, None], np.square(self._gamma)[:, None]
            if activation in _SMOOTH:
                return _moments(activation(self._coarse), _COARSE_DENSITY[:, None])
        return _moments(activation(self._fine), _densities(pools))

    def in_parts(self, activation: Activation) -> tuple[Floats, Floats]:
        """Covariance of ``activation(β + |γ| z)`` with z, and its variance: (channels,) each."""
        if activation in _SMOOTH:
            values, grid, density = activation(self._coarse), _COARSE_GRID, _COARSE_DENSITY
        else:
            values, grid, density = activation(self._fine), _GRID, _DENSITY
        return values @ (density * grid), _moments(values, density)[1]

    def means(self, activations: Sequence[str]) -> Floats:
        """Means alone, which are all that activations are told apart by.

        Args:
            activations: Names in ``ACTIVATIONS``.

        Returns:
            An array of shape (channels, activations), that of ``after`` to single precision.
        """
        result: Floats = np.empty((self._beta.size, len(activations)))
        for column, name in enumerate(activations):
            slope = _LEAKY.get(name)
            if slope is not None:
                result[:, column] = slope * self._beta + (1.0 - slope) * self._rectified
            elif name == "ReLU":
                result[:, column] = self._rectified
            elif name == "no activation":
                result[:, column] = self._beta
            elif name == "sigmoid":
                result[:, column] = self._squashed @ _COARSE_DENSITY_SINGLE
            elif name == "SiLU":
                result[:, column] = (self._coarse_single * self._squashed) @ _COARSE_DENSITY_SINGLE
            elif ACTIVATIONS[name] in _SMOOTH:
                result[:, column] = ACTIVATIONS[name](self._coarse_single) @ _COARSE_DENSITY_SINGLE
            else:
                result[:, column] = ACTIVATIONS[name](self._fine_single) @ _DENSITY_SINGLE
        return result

    @cached_property
    def _fine_single(self) -> Reals:
        return self._singles(_GRID_SINGLE)

    @cached_property
    def _coarse_single(self) -> Reals:
        return self._singles(_COARSE_GRID_SINGLE)

    def _singles(self, grid: Reals) -> Reals:
        gamma, beta = (each.astype(np.float32)[:, None] for each in (self._gamma, self._beta))
        values: Reals = gamma * grid
        values += beta
        return values

    @cached_property
    def _squashed(self) -> Reals:
        """Values behind a sigmoid, which make a SiLU, too."""
        return _sigmoid(self._coarse_single)

    @cached_property
    def _rectified(self) -> Reals:
        """Means behind a ReLU."""
        means: Reals = np.maximum(self._fine_single, 0.0) @ _DENSITY_SINGLE
        return means


def _moments(values: Reals, weights: Floats) -> tuple[Floats, Floats]:
    mean = values @ weights
    return mean, np.maximum(np.square(values) @ weights - np.square(mean), 0.0)


def after_activation(
    gamma: Floats,
    beta: Floats,
    activation: Activation,
    pools: tuple[float, ...] = _NO_POOL,
) -> tuple[Floats, Floats]:
    """``Normals.after`` of one activation."""
    return Normals(gamma, beta).after(activation, pools)


def after_prelu(gamma: Floats, beta: Floats, slopes: Floats) -> tuple[Floats, Floats]:
    """The same for PReLU with its own slopes, of shape (channels,) or (1,), without pooling."""
    column = np.broadcast_to(slopes, gamma.shape)[:, None]
    return after_activation(gamma, beta, lambda x: np.where(x > 0, x, column * x))
