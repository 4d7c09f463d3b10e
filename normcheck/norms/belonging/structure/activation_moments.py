"""Mean and variance of a normalised channel behind an activation.

Behind a normalization a channel is close to N(β, γ²) whatever the data is, because that is
what a normalization does. What an activation makes of it is an integral over one normal
distribution. With a kink it has a closed form (see ``closed_forms.py``); others are taken on a grid
over ±6 standard deviations, where the trapezoidal rule converges faster than any power of the
distance (Trefethen & Weideman 2014): 43 points are exact to 10^-5 up to a γ of 3, and to 10^-3 of
it up to one of 10. The largest of several values, as a max pooling leaves it, is taken on 129
points: behind a kink they are exact to better than 10^-3.
"""

from collections.abc import Sequence
from functools import cached_property, lru_cache
from math import erf

import numpy as np

from normcheck.norms.belonging.structure.activations import (
    ACTIVATIONS,
    SLOPES,
    SMOOTH,
    Activation,
    Reals,
    no_activation,
    sigmoid,
)
from normcheck.norms.belonging.structure.closed_forms import (
    CLOSED,
    CutNormals,
    sloped_mean,
    sloped_square,
)
from normcheck.norms.layer import Floats

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
_COARSE_GRID_SINGLE, _COARSE_DENSITY_SINGLE = (
    each.astype(np.float32) for each in (_COARSE_GRID, _COARSE_DENSITY)
)
"""For means alone, which then meet weights in single precision: in double precision numpy has no
vectorised exponential without AVX512, and all else takes twice as long. Variances are differences
of squares, of which single precision leaves too little."""


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

    @cached_property
    def _cut(self) -> CutNormals:
        return CutNormals(self._beta, self._gamma)

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
            if activation is no_activation:
                return self._beta[:, None], np.square(self._gamma)[:, None]
            if activation in CLOSED:
                form = CLOSED[activation]
                return _spread_of(form.mean(self._cut), form.square(self._cut))
            if activation in SMOOTH:
                return _moments(activation(self._coarse), _COARSE_DENSITY[:, None])
        return _moments(activation(self._fine), _densities(pools))

    def after_slopes(self, slopes: Floats) -> tuple[Floats, Floats]:
        """The same without pooling, of activations that are straight above 0 and below.

        Args:
            slopes: Below 0, of shape (channels,) or (1,); above 0 it is 1.
        """
        return _spread_of(sloped_mean(self._cut, slopes), sloped_square(self._cut, slopes))

    def in_parts(self, activation: Activation) -> tuple[Floats, Floats]:
        """Covariance of ``activation(β + |γ| z)`` with z, and its variance: (channels,) each."""
        if activation is no_activation:
            return self._gamma, np.square(self._gamma)
        if activation in CLOSED:
            linear = self._gamma * CLOSED[activation].slope(self._cut)
            return linear, self.after(activation)[1][:, 0]
        values = activation(self._coarse)
        return values @ (_COARSE_DENSITY * _COARSE_GRID), _moments(values, _COARSE_DENSITY)[1]

    def means(self, activations: Sequence[str]) -> Floats:
        """Means alone, which are all that activations are told apart by.

        Args:
            activations: Names in ``ACTIVATIONS``.

        Returns:
            An array of shape (channels, activations), to single precision.
        """
        result: Floats = np.empty((self._beta.size, len(activations)))
        columns, slopes = _sloped(tuple(activations))
        result[:, columns] = sloped_mean(self._cut, slopes).T
        for column, name in enumerate(activations):
            activation = ACTIVATIONS[name]
            if activation in SLOPES:
                continue
            if activation in CLOSED:
                result[:, column] = CLOSED[activation].mean(self._cut)
            elif name == "sigmoid":
                result[:, column] = self._squashed @ _COARSE_DENSITY_SINGLE
            elif name == "SiLU":
                result[:, column] = (self._coarse_single * self._squashed) @ _COARSE_DENSITY_SINGLE
            else:
                result[:, column] = activation(self._coarse_single) @ _COARSE_DENSITY_SINGLE
        return result

    @cached_property
    def _coarse_single(self) -> Reals:
        gamma, beta = (each.astype(np.float32)[:, None] for each in (self._gamma, self._beta))
        values: Reals = gamma * _COARSE_GRID_SINGLE
        values += beta
        return values

    @cached_property
    def _squashed(self) -> Reals:
        """Values behind a sigmoid, which make a SiLU, too."""
        return sigmoid(self._coarse_single)


@lru_cache(maxsize=16)
def _sloped(activations: tuple[str, ...]) -> tuple[list[int], Floats]:
    """Which of them have a slope below 0 and 1 above, and these, of shape (activations, 1)."""
    known = [SLOPES.get(ACTIVATIONS[name]) for name in activations]
    columns = [column for column, slope in enumerate(known) if slope is not None]
    slopes = np.array([known[column] for column in columns], dtype=np.float64)
    return columns, slopes[:, None]


def _spread_of(mean: Floats, square: Floats) -> tuple[Floats, Floats]:
    """Means and variances of shape (channels, 1), by those of squares."""
    return mean[:, None], np.maximum(square - np.square(mean), 0.0)[:, None]


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
    return Normals(gamma, beta).after_slopes(slopes)
