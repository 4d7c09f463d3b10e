"""How much of its initial values an averaged copy still holds, told from the copy it follows.

An exponential average that starts at the initial values θ₀ and follows a model with decay d is,
after n steps, dⁿ·θ₀ and an average of where the model was. Initial values are known of norms: γ 1,
β 0, means 0 and variances 1. So where it holds much of them, each of these is, channel by channel,
one share of what the model has, and all four tell the same share.

Measured on networks of four styles, 100 and 400 steps, decays of 0.9 to 0.9999: the share that
variances tell is dⁿ to 0.01, those of means, γ and β lie 0.02 to 0.1 above it (the model was
elsewhere before); correlations are 0.975 at least, on labels that cannot be learned 0.89. After 200
steps at 0.9999 all but a few per cent is initial, and what little is not points anywhere (0.34). An
earlier state of the same model, which is no average, has variances of its own: their factor is
0.97 to 1.07, while γ and β tell 0.1 to 0.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer_numbers import median

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from normcheck.norms.layer import Floats, NormLayer, Values

CLOSE = 0.95
"""Correlation of the two deviations from initial values, the median over layers."""
ROUGHLY = 0.8
"""The same where variances tell the share: no other state of a model has variances like these."""
ALIKE = 0.15
"""How far the shares that two kinds of values tell may lie apart."""
EVEN = 0.1
"""Median distance of the layers' factors from their median."""
_MOVED = 1e-3
"""Root mean square of deviations from which a layer tells anything."""
_FEWEST_CHANNELS = 16
"""Of all layers together."""


@lazy_dataclass()
class InitialShare:
    """What is left of the initial values in an averaged copy."""

    share: float
    by_statistics: bool
    """Whether running statistics were averaged too, and tell it; else γ and β alone."""
    layers: int
    told_by: tuple[str, ...]


@lazy_dataclass()
class _Factor:
    """Of one kind of values: this copy's deviations over the other's."""

    factor: float
    correlation: float
    uneven: float
    layers: int
    distance: float
    """How far from initial values this copy is, by the length of its deviations over the other's:
    where it is next to nothing, it does not matter which way they point."""

    def sure(self, correlation: float) -> bool:
        follows = self.correlation >= correlation or self.distance <= ALIKE
        return follows and self.uneven <= EVEN


def initial_share(
    layers: Sequence[NormLayer], followed: Sequence[NormLayer]
) -> InitialShare | None:
    """The share of initial values in a copy of a model.

    Args:
        layers: Of the copy.
        followed: Of the other model, the same layers in the same order.

    Returns:
        None where the copy is no average of the other from the initial values on, or is exactly
        initial.
    """
    pairs = list(zip(layers, followed, strict=True))
    if sum(layer.features or 0 for layer in layers) < _FEWEST_CHANNELS:
        return None
    variances = _factor((a.running_var, b.running_var, 1.0) for a, b in pairs)
    means = _factor((a.running_mean, b.running_mean, 0.0) for a, b in pairs)
    gains = _factor((a.weight, b.weight, 0.0 if a.unit_offset else 1.0) for a, b in pairs)
    shifts = _factor((a.bias, b.bias, 0.0) for a, b in pairs)
    affine = [f for f in (gains, shifts) if f is not None]
    if variances is not None and means is not None and variances.factor > 0:
        found = [means, *affine]
        if all(
            f.sure(ROUGHLY) and abs(f.factor - variances.factor) <= ALIKE
            for f in (variances, *found)
        ):
            # What a copy lags behind a model that still moves looks the same; but for the rest of
            # an initial 1, which no variance lies below.
            lowest = min(a.running_var.lowest for a, _ in pairs if a.running_var is not None)
            return _told(variances, found, by_statistics=True, most=float(lowest))
    if any(not f.sure(CLOSE) for f in affine):
        return None
    copied = variances is None or abs(variances.factor - 1) < 0.01 or variances.factor == 0
    if affine and copied and abs(affine[0].factor - affine[-1].factor) <= ALIKE:
        return _told(max(affine, key=lambda f: f.factor), affine, by_statistics=False)
    return None


def _told(
    chief: _Factor, others: Sequence[_Factor], *, by_statistics: bool, most: float = 1.0
) -> InitialShare | None:
    share = min(1 - chief.factor, most)
    if not 0 < share < 1:
        return None
    names = ("variances", "means") if by_statistics else ()
    affine = len(others) - (1 if by_statistics else 0)
    return InitialShare(
        share,
        by_statistics,
        chief.layers,
        (*names, *(("γ", "β")[:affine] if affine != 1 else ("γ or β",))),
    )


def _factor(kinds: Iterator[tuple[Values | None, Values | None, float]]) -> _Factor | None:
    """The factor between two copies' deviations from one initial value; None where none tells."""
    factors, correlations, distances = [], [], []
    for ours, theirs, initial in kinds:
        if ours is None or theirs is None or ours.size != theirs.size or not theirs.size:
            continue
        a, b = ours.numbers - initial, theirs.numbers - initial
        told = _length(b)
        if not np.isfinite(a).all() or not told > _MOVED * np.sqrt(b.size):
            continue
        factors.append(float(a @ b) / told**2)
        length = _length(a)
        correlations.append(float(a @ b) / (told * length) if length > 0 else 1.0)
        distances.append(length / told)
    if not factors:
        return None
    middle = median(factors)
    uneven = median([abs(factor - middle) for factor in factors])
    return _Factor(middle, median(correlations), uneven, len(factors), median(distances))


def _length(values: Floats) -> float:
    """Euclidean length; NaN and infinity stay what they are."""
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.sqrt(values @ values))
