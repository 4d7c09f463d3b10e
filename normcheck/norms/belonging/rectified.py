"""Norms behind a ReLU: what their statistics tell of the values before it.

A norm that stands behind its activation (weights → ReLU → norm) stores means and variances of
rectified values. Values before a ReLU are sums of many inputs, so close to N(μ, σ²), and the two
moments behind it determine both (Owen 1980, "A table of normal integrals", truncated moments):

    m = σ (z Φ(z) + φ(z)),    m² + v = σ² ((z² + 1) Φ(z) + z φ(z)),    z = μ/σ

m²/(m² + v) rises with z alone. So such statistics are put back before the ReLU and held against the
weights like any others, which see the norm before them without an activation between.
"""

from dataclasses import replace
from functools import lru_cache
from math import erf, exp, pi, sqrt

import numpy as np

from normcheck.norms.belonging.structure.link import Link
from normcheck.norms.layer import Confidence, Floats, NormLayer, Recognition, Values

FEWEST_CHANNELS = 16
"""Below this all means of a norm may be above 0 by chance."""
FEWEST_NORMS = 2
NO_ACTIVATION = "no activation"
_UNTOUCHED = 5.0
"""z from which a ReLU leaves a channel as it is."""
_LOWEST, _HIGHEST, _STEP = -6.0, 6.0, 0.01
"""Range of z that is told apart: from a channel that one value in a thousand million wakes up to
one that the ReLU leaves as it is."""


def is_rectified(layer: NormLayer) -> bool:
    """Whether all means of a norm are those of values that are nowhere below 0."""
    mean, variance = layer.running_mean, layer.running_var
    return (
        mean is not None
        and variance is not None
        and all(values.lowest >= 0 for values in (mean, variance) if values.size)
    )


def before_rectifying(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of normal values, by those that they have behind a ReLU.

    Args:
        mean: Of each channel behind it, at least 0.
        variance: Likewise.

    Returns:
        Two arrays of the same shape; a channel that is always 0 behind it comes out at 0.
    """
    places, shares, scales = _table()
    second = np.square(mean) + variance
    alive = second > 0
    share = np.divide(np.square(mean), second, out=np.zeros_like(mean), where=alive)
    z = np.interp(share, shares, places)
    # Behind the ReLU the root of the second moment is σ times a known function of z.
    deviation = np.sqrt(second) / np.interp(z, places, scales)
    untouched = z >= _UNTOUCHED
    return (
        np.where(untouched, mean, z * deviation),
        np.where(untouched, variance, np.square(deviation)),
    )


def behind_rectifying(mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Mean and variance that normal values have behind a ReLU: the other way round.

    Args:
        mean: Of each channel before it.
        variance: Likewise.

    Returns:
        Two arrays of the same shape.
    """
    deviation = np.sqrt(np.maximum(variance, 0.0))
    z = np.divide(mean, deviation, out=np.zeros_like(mean), where=deviation > 0)
    below = np.array([0.5 * (1 + erf(one / sqrt(2))) for one in z])
    density = np.exp(-np.square(z) / 2) / sqrt(2 * pi)
    first = deviation * (z * below + density)
    second = np.square(deviation) * ((np.square(z) + 1) * below + z * density)
    untouched = z >= _UNTOUCHED
    return (
        np.where(untouched, mean, first),
        np.where(untouched, variance, np.maximum(second - np.square(first), 0.0)),
    )


def put_before(links: list[Link]) -> dict[int, Link]:
    """The links whose targets stand behind a ReLU, with statistics as they are before it.

    A graph shows which do. Without one a norm alone may have means above 0 by chance: of several
    the most must have them.

    Args:
        links: Of one model, whose targets have finite statistics.

    Returns:
        The changed links by the place of the original.
    """
    shown = {place: _before(link) for place, link in enumerate(links) if link.rectified}
    found = {
        place: link
        for place, link in enumerate(links)
        if not link.rectified
        and is_rectified(link.target)
        and (link.target.features or 0) >= FEWEST_CHANNELS
    }
    if (
        len(found) < FEWEST_NORMS
        or 2 * len(found) <= len(links)
        or any(link.slopes is not None or link.inflow is not None for link in found.values())
    ):
        return shown
    return shown | {place: _before(link) for place, link in found.items()}


def _before(link: Link) -> Link:
    mean, variance = link.target.running_mean, link.target.running_var
    assert mean is not None  # noqa: S101  (rectified statistics are there)
    assert variance is not None  # noqa: S101
    before = before_rectifying(mean.numbers, variance.numbers)
    target = replace(
        link.target,
        running_mean=Values(before[0], mean.dtype),
        running_var=Values(before[1], variance.dtype),
    )
    return replace(
        link,
        target=target,
        rectified=True,
        among=link.among if link.inflow is not None else (NO_ACTIVATION,),
        recognition=link.recognition if link.inflow is not None else _certainty(link),
    )


def _certainty(link: Link) -> Recognition:
    """In a Sequential an activation takes the place between weights and norm."""
    parts = [path.rpartition(".") for path in (link.source.path, link.weights_path,
                                               link.target.path)]  # fmt: skip
    if len({parent for parent, _, _ in parts}) == 1 and all(n.isdecimal() for _, _, n in parts):
        first, middle, end = (int(number) for _, _, number in parts)
        if middle - first == 1 and end - middle == 2:
            return Recognition(
                Confidence.HIGH, "neighbours in one Sequential, each norm behind its activation"
            )
    return link.recognition


@lru_cache(maxsize=1)
def _table() -> tuple[Floats, Floats, Floats]:
    """z, m²/(m² + v), and the root of the second moment in units of σ."""
    places = np.arange(_LOWEST, _HIGHEST + _STEP / 2, _STEP)
    below = np.array([0.5 * (1 + erf(z / sqrt(2))) for z in places])
    density = np.array([exp(-z * z / 2) / sqrt(2 * pi) for z in places])
    first = places * below + density
    second = (np.square(places) + 1) * below + places * density
    return places, np.square(first) / second, np.sqrt(second)
