"""Activations by name, and what is known of their shapes."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Reals = NDArray[np.floating[Any]]
"""In single or in double precision."""
Activation = Callable[[Any], Any]
"""Makes numbers of numbers, in the precision in which it gets them."""


def no_activation(x: Reals) -> Reals:
    """What it is given."""
    return x


def _leaky(slope: float) -> Activation:
    # Slopes are below 1: the greater of the two is the right one.
    return lambda x: np.maximum(x, slope * x)


def sigmoid(x: Reals) -> Reals:
    """By the tangent, which does not overflow."""
    result: Reals = np.tanh(0.5 * x)
    result += 1.0
    result *= 0.5
    return result


def silu(x: Reals) -> Reals:
    """X sigmoid(x)."""
    return x * sigmoid(x)


def gelu(x: Reals) -> Reals:
    """0.5 x (1 + tanh(√(2/π) (x + 0.044715 x³))), the approximation of Hendrycks & Gimpel."""
    # Multiplied out: a power of floats is a logarithm and an exponential.
    inner = 0.7978845608028654 * x * (1.0 + 0.044715 * (x * x))
    result: Reals = 0.5 * x * (1.0 + np.tanh(inner))
    return result


def elu(x: Reals) -> Reals:
    """eˣ - 1 below 0."""
    # Of numbers of about 1 the exponential is exact enough, and four times as fast as expm1.
    result: Reals = np.exp(np.minimum(x, 0.0))
    result -= 1.0
    result += np.maximum(x, 0.0)
    return result


def clipped(x: Reals) -> Reals:
    """Between 0 and 6."""
    # Two comparisons take a fraction of the time of np.clip.
    result: Reals = np.maximum(x, 0.0)
    return np.minimum(result, 6.0, out=result)


def hardswish(x: Reals) -> Reals:
    """X ReLU6(x + 3) / 6."""
    result = clipped(x + 3.0)
    result *= x
    result /= 6.0
    return result


def mish(x: Reals) -> Reals:
    """X tanh(log(1 + eˣ))."""
    # Multiplied out; beyond 20 the fraction is 1 to the last digit.
    grown = np.exp(np.minimum(x, 20.0))
    grown *= grown + 2.0
    result: Reals = x * (grown / (grown + 2.0))
    return result


_LEAKY = {"leaky ReLU 0.01": 0.01, "leaky ReLU 0.1": 0.1, "leaky ReLU 0.2": 0.2}
"""Their slopes below 0."""
ACTIVATIONS: Mapping[str, Activation] = {
    "ReLU": lambda x: np.maximum(x, 0.0),
    "no activation": no_activation,
    "SiLU": silu,
    "GELU": gelu,
    "hardswish": hardswish,
    "ReLU6": clipped,
    **{name: _leaky(slope) for name, slope in _LEAKY.items()},
    "ELU": elu,
    "Mish": mish,
    "tanh": np.tanh,
    "sigmoid": sigmoid,
}
"""The simplest first: among equally good ones the first is named."""
SMOOTH = frozenset((silu, gelu, mish, np.tanh, sigmoid))
"""Those without a kink."""
SLOPES = {
    ACTIVATIONS[name]: slope
    for name, slope in {"ReLU": 0.0, "no activation": 1.0, **_LEAKY}.items()
}
"""Of those that have one slope below 0 and 1 above."""
