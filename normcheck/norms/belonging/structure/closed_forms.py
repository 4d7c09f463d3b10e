"""What activations with kinks make of normal values, in closed form.

For y ~ N(β, γ²), a cut c and x = (β - c) / γ, with Φ and φ of the standard normal distribution,
what lies above the cut has the moments M_k = E[yᵏ; y > c]:

    M_0 = Φ(x),   M_1 = β M_0 + γ φ(x),   M_k = β M_{k-1} + (k - 1) γ² M_{k-2} + γ φ(x) cᵏ⁻¹

An activation of pieces that are polynomials is a sum of these, and so is its square. Its covariance
with (y - β) / γ is γ times the mean of its slope (Stein 1981, "Estimation of the mean of a
multivariate normal distribution").
"""

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from math import pi, sqrt

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.structure.activations import (
    SLOPES,
    Activation,
    clipped,
    elu,
    hardswish,
)
from normcheck.norms.layer import Floats

_LEAST = 1e-12
"""In place of a deviation of 0."""
_SCALE = 0.3275911 / sqrt(2.0)
_FACTORS = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
"""Abramowitz & Stegun 7.1.26, whose error is 1.5e-7 at most; the highest power first."""
_CUTS = np.array([[0.0], [6.0], [-3.0], [3.0]])
"""Where pieces meet."""
_POWERS = tuple(_CUTS**k for k in range(4))
_ZERO, _SIX, _LOW, _HIGH = range(4)
"""Their places; ``_LOW`` and ``_HIGH`` are those of hardswish."""


class CutNormals:
    """Channels that are N(β, γ²) each, and what of them lies above the cuts.

    Args:
        beta: Means, of shape (channels,).
        gamma: Deviations, none below 0, of shape (channels,).
    """

    def __init__(self, beta: Floats, gamma: Floats) -> None:
        """See the class."""
        self.beta = beta
        self.gamma = gamma = np.maximum(gamma, _LEAST)
        apart = (beta - _CUTS) / gamma
        density = np.exp(-0.5 * np.square(apart))
        share = _share(apart, density)
        self._bell: Floats = density[_ZERO]
        self._border: Floats = density * (gamma / sqrt(2.0 * pi))
        self._moments: list[Floats] = [share, beta * share + self._border]

    def above(self, power: int, cut: int) -> Floats:
        """M_power above one of the cuts, of shape (channels,)."""
        for k in range(len(self._moments), power + 1):
            grown = (k - 1) * np.square(self.gamma) * self._moments[-2]
            grown += self._border * _POWERS[k - 1]
            self._moments.append(self.beta * self._moments[-1] + grown)
        made: Floats = self._moments[power][cut]
        return made

    @cached_property
    def all_squares(self) -> Floats:
        """E[y²]."""
        return np.square(self.beta) + np.square(self.gamma)

    def exponential(self, power: float) -> Floats:
        """E[exp(power · y); y < 0], of shape (channels,).

        It is exp(kβ + k²γ²/2) Φ(-w) with w = β/γ + kγ; where w is large, the first is too large for
        a number and the second too small.
        """
        reach = self.beta / self.gamma + power * self.gamma
        tail = _scaled_tail(np.abs(reach)) * self._bell
        whole = np.exp(np.minimum(power * self.beta + 0.5 * np.square(power * self.gamma), 0.0))
        made: Floats = np.where(reach > 0, tail, whole - tail)
        return made


Form = Callable[[CutNormals], Floats]
"""Of shape (channels,)."""


@lazy_dataclass(eq=False)
class ClosedForm:
    """An activation f of normal values."""

    mean: Form
    """E[f(y)]."""
    square: Form
    """E[f(y)²]."""
    slope: Form
    """E[f'(y)]."""


def sloped_mean(of: CutNormals, slopes: Floats | float) -> Floats:
    """E[f(y)] where f has these slopes below 0 and 1 above; of the shape of both together."""
    return slopes * of.beta + (1.0 - slopes) * of.above(1, _ZERO)


def sloped_square(of: CutNormals, slopes: Floats | float) -> Floats:
    """E[f(y)²], likewise."""
    share = np.square(slopes)
    made: Floats = share * of.all_squares + (1.0 - share) * of.above(2, _ZERO)
    return made


def _sloped_slope(of: CutNormals, slopes: float) -> Floats:
    return slopes + (1.0 - slopes) * of.above(0, _ZERO)


def _sloped(slope: float) -> ClosedForm:
    forms = (partial(form, slopes=slope) for form in (sloped_mean, sloped_square, _sloped_slope))
    return ClosedForm(*forms)


def _clipped_mean(of: CutNormals) -> Floats:
    return of.above(1, _ZERO) - of.above(1, _SIX) + 6.0 * of.above(0, _SIX)


def _clipped_square(of: CutNormals) -> Floats:
    return of.above(2, _ZERO) - of.above(2, _SIX) + 36.0 * of.above(0, _SIX)


def _clipped_slope(of: CutNormals) -> Floats:
    return of.above(0, _ZERO) - of.above(0, _SIX)


def _elu_mean(of: CutNormals) -> Floats:
    return of.above(1, _ZERO) + of.exponential(1) - (1.0 - of.above(0, _ZERO))


def _elu_square(of: CutNormals) -> Floats:
    below = of.exponential(2) - 2.0 * of.exponential(1) + (1.0 - of.above(0, _ZERO))
    return of.above(2, _ZERO) + below


def _elu_slope(of: CutNormals) -> Floats:
    return of.above(0, _ZERO) + of.exponential(1)


# y (y + 3) / 6 from -3 on, and from 3 on less than that by y (y - 3) / 6.


def _hardswish_mean(of: CutNormals) -> Floats:
    grown = of.above(2, _LOW) - of.above(2, _HIGH)
    return (grown + 3.0 * (of.above(1, _LOW) + of.above(1, _HIGH))) / 6.0


def _hardswish_square(of: CutNormals) -> Floats:
    low, high = (
        of.above(4, cut) + 6.0 * of.above(3, cut) + 9.0 * of.above(2, cut) for cut in (_LOW, _HIGH)
    )
    return (low - high) / 36.0 + of.above(2, _HIGH)


def _hardswish_slope(of: CutNormals) -> Floats:
    grown = of.above(1, _LOW) - of.above(1, _HIGH)
    return (2.0 * grown + 3.0 * (of.above(0, _LOW) + of.above(0, _HIGH))) / 6.0


CLOSED: Mapping[Activation, ClosedForm] = {
    **{activation: _sloped(slope) for activation, slope in SLOPES.items()},
    clipped: ClosedForm(_clipped_mean, _clipped_square, _clipped_slope),
    elu: ClosedForm(_elu_mean, _elu_square, _elu_slope),
    hardswish: ClosedForm(_hardswish_mean, _hardswish_square, _hardswish_slope),
}


def normal_share(x: Floats) -> Floats:
    """Φ(x)."""
    return _share(x, np.exp(-0.5 * np.square(x)))


def _share(x: Floats, density: Floats) -> Floats:
    """The same, of √(2π) φ(x)."""
    tail = _scaled_tail(np.abs(x)) * density
    share: Floats = np.where(x > 0, 1.0 - tail, tail)
    return share


def _scaled_tail(x: Floats) -> Floats:
    """exp(x²/2) Φ(-x), for x from 0."""
    inverse = 1.0 / (1.0 + _SCALE * x)
    result: Floats = _FACTORS[0] * inverse
    for factor in _FACTORS[1:]:
        result += factor
        result *= inverse
    result *= 0.5
    return result
