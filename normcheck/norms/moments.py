"""Mean and variance of a normalised channel behind an activation.

Behind a normalization a channel is close to N(β, γ²) whatever the data is, because that is
what a normalization does. What an activation makes of it is an integral over one normal
distribution, taken here on a grid: 129 points over ±6 standard deviations, which is exact to
better than 10^-3 also for activations with a kink.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from math import erf

import numpy as np

from normcheck.norms.layer import Floats

_POINTS = 129
_REACH = 6.0
"""Standard deviations covered; what lies outside has a probability of 2e-9."""

_GRID = np.linspace(-_REACH, _REACH, _POINTS)
_DENSITY = np.exp(-0.5 * _GRID**2) / np.exp(-0.5 * _GRID**2).sum()


def _sigmoid(x: Floats) -> Floats:
    result: Floats = 1.0 / (1.0 + np.exp(-np.clip(x, -60.0, 60.0)))
    return result


def _leaky(slope: float) -> Callable[[Floats], Floats]:
    return lambda x: np.where(x > 0, x, slope * x)


def _gelu(x: Floats) -> Floats:
    # 0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), the approximation of Hendrycks & Gimpel.
    # Multiplied out: a power of floats is a logarithm and an exponential.
    inner = 0.7978845608028654 * x * (1.0 + 0.044715 * (x * x))
    result: Floats = 0.5 * x * (1.0 + np.tanh(inner))
    return result


def _elu(x: Floats) -> Floats:
    result: Floats = np.where(x > 0, x, np.expm1(np.minimum(x, 0.0)))
    return result


def _mish(x: Floats) -> Floats:
    result: Floats = x * np.tanh(np.logaddexp(0.0, x))
    return result


ACTIVATIONS: Mapping[str, Callable[[Floats], Floats]] = {
    "ReLU": lambda x: np.maximum(x, 0.0),
    "no activation": lambda x: x,
    "SiLU": lambda x: x * _sigmoid(x),
    "GELU": _gelu,
    "hardswish": lambda x: x * np.clip(x + 3.0, 0.0, 6.0) / 6.0,
    "ReLU6": lambda x: np.clip(x, 0.0, 6.0),
    "leaky ReLU 0.01": _leaky(0.01),
    "leaky ReLU 0.1": _leaky(0.1),
    "leaky ReLU 0.2": _leaky(0.2),
    "ELU": _elu,
    "Mish": _mish,
    "tanh": np.tanh,
    "sigmoid": _sigmoid,
}
"""The simplest first: among equally good ones the first is named."""

POOLS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 9.0)
"""Independent values that a max pooling chooses from; neighbours are alike, so that a window
of 2 × 2 acts like one of 1.5 to 4. 1 is no max pooling."""


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


def after_activation(
    gamma: Floats,
    beta: Floats,
    activation: Callable[[Floats], Floats],
    pools: tuple[float, ...] = (1.0,),
) -> tuple[Floats, Floats]:
    """Mean and variance of ``activation(y)``, y ~ N(beta, gamma²), perhaps max-pooled.

    Args:
        gamma: Scale of each channel, any sign.
        beta: Shift of each channel.
        activation: Applied element by element.
        pools: Members of ``POOLS``. Pooling and an increasing activation can change places,
            so the largest of the values is taken before the activation.

    Returns:
        Two arrays of shape (channels, pools).
    """
    values = activation(beta[:, None] + np.abs(gamma)[:, None] * _GRID)
    weights = _densities(pools)
    mean = values @ weights
    return mean, np.maximum(np.square(values) @ weights - np.square(mean), 0.0)


def after_prelu(gamma: Floats, beta: Floats, slopes: Floats) -> tuple[Floats, Floats]:
    """The same for PReLU with its own slopes, of shape (channels,) or (1,), without pooling."""
    column = np.broadcast_to(slopes, gamma.shape)[:, None]
    return after_activation(gamma, beta, lambda x: np.where(x > 0, x, column * x))
