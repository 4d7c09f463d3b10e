"""Norms behind a pooling: what their statistics tell of the values before it.

A max pooling of k values that correlate by ρ, each N(μ, σ²), raises the mean and narrows what is
left (Clark 1961, "The greatest of a finite set of random variables"; for two by two of them, with
the expectation e = 1.029 and the variance u = 0.492 of the largest of four):

    m = μ + e σ √(1 - ρ),    v = σ² (1 - (1 - u)(1 - ρ))

ρ is that of neighbouring pixels, which the channels of a layer about share, and so is the rise in
stored deviations, δ = (m - μ)/√v, from 0 to 1.47. A ReLU and a max pooling change places without
changing anything. An average pooling leaves means as they are and divides variances by what the
channels share as well; behind a ReLU that changes what the two moments tell of the values before.

So each layer has a single unknown, which is the one that leaves least. It cannot make unrelated
statistics fit: means that are put back by a share of their own deviations differ as before.
"""

from collections.abc import Sequence
from dataclasses import replace
from math import sqrt

import numpy as np

from normcheck.norms.belonging.fit import Fit, weighted_means
from normcheck.norms.belonging.rectified import before_rectifying, behind_rectifying
from normcheck.norms.belonging.structure.first_weights import modules_between
from normcheck.norms.belonging.structure.link import Link
from normcheck.norms.layer import Confidence, Floats, Values
from normcheck.saved.tensors import TensorRef

EXPECTATION, VARIANCE = 1.0294, 0.4917
"""Of the largest of four independent standard normal values."""
MOST_RAISED = EXPECTATION / sqrt(VARIANCE)
LEAST_RAISED = 0.15
"""In deviations: less is what healthy links miss without a pooling."""
NARROWED = (0.7, 0.5, 0.35, 0.25)
"""What an average pooling leaves of variances: all of it where pixels are alike, a quarter where
two by two of them have nothing in common."""
TELLING = 0.25
"""Root mean square of what is missed, in deviations, from which a pooling is thought of."""
MOST_POOLINGS = 5
"""Of two by two in one network: they make 7 pixels of 224."""
CLEARLY = 0.5
"""Share of the squares that may be left where there is one."""


def put_before_pooling(fits: Sequence[Fit]) -> dict[int, Link]:
    """The links whose targets seem to stand behind a pooling, with statistics as before it.

    Args:
        fits: Of one model.

    Returns:
        The changed links by the identity of the original.
    """
    return {
        id(fit.link): link
        for fit in fits
        if has_room(fit.link) and missed(fit) > TELLING and (link := _before(fit)) is not None
    }


def missed(fit: Fit) -> float:
    """Root mean square of what is not predicted, in stored deviations."""
    return sqrt(max((1.0 - fit.explained) * fit.energy, 0.0))


def has_room(link: Link) -> bool:
    """Whether a pooling may stand between a link's weights and their norm; a graph shows it."""
    return (
        link.inflow is None
        and link.grown is None
        and link.recognition.confidence is not Confidence.LOW
        and may_stand_between(link.weights_path, link.weights, link.target.path, link.rectified)
    )


def may_stand_between(path: str, weights: TensorRef, norm: str, others: int = 0) -> bool:
    """Whether a pooling may stand between weights and their norm, by their names and shape.

    Only maps are pooled. In a Sequential each module has a number; what a forward calls in other
    modules no name tells.

    Args:
        path: Of the weights.
        weights: As stored.
        norm: Path of the norm behind them.
        others: Modules known to stand between.
    """
    if weights.ndim < 3:
        return False
    between = modules_between(path, norm)
    return between is None or between > others


def _before(fit: Fit) -> Link | None:
    """The link with statistics before the pooling that leaves least; None where none is clear."""
    raised = _raised(fit)
    options = [] if raised is None else [raised]
    if fit.link.rectified:
        options += [_widened(fit.link, share) for share in NARROWED]
    left = [_left(fit, link) for link in options]
    least = min(left, default=np.inf)
    return options[left.index(least)] if least <= CLEARLY * missed(fit) ** 2 else None


def _raised(fit: Fit) -> Link | None:
    """Before a max pooling: means lower by one share of their deviations, which are wider."""
    mean, variance = _stored(fit.link)
    stored, weight = weighted_means(fit.link)
    deviation = np.sqrt(np.maximum(variance, 0.0))
    rise = rise_of(stored - fit.predicted_mean, deviation, weight)
    if not rise >= LEAST_RAISED:
        return None
    apart = rise**2 / (EXPECTATION**2 + (1.0 - VARIANCE) * rise**2)
    return _with(
        fit.link, mean - rise * deviation, variance / (1.0 - (1.0 - VARIANCE) * min(apart, 1.0))
    )


def rise_of(apart: Floats, deviation: Floats, weight: Floats) -> float:
    """The share of their deviations by which means are raised, at most that of a pooling.

    Args:
        apart: Stored means less expected ones, of shape (channels,).
        deviation: Stored ones.
        weight: Of each channel.
    """
    own = max(float(weight @ np.square(deviation)), 1e-300)
    return min(float((weight * deviation) @ apart) / own, MOST_RAISED)


def _widened(link: Link, share: float) -> Link:
    """Before a ReLU and an average pooling that left so much of the variances behind the ReLU."""
    mean, variance = behind_rectifying(*_stored(link))
    return _with(link, *before_rectifying(mean, variance / share))


def _left(fit: Fit, link: Link) -> float:
    """Mean square of what the prediction misses of other statistics, in their deviations."""
    stored, weight = weighted_means(link)
    return float(np.square(stored - fit.predicted_mean) @ weight) / stored.size


def _stored(link: Link) -> tuple[Floats, Floats]:
    mean, variance = link.target.running_mean, link.target.running_var
    assert mean is not None  # noqa: S101  (links have both statistics)
    assert variance is not None  # noqa: S101
    return mean.numbers, variance.numbers


def _with(link: Link, mean: Floats, variance: Floats) -> Link:
    stored, width = link.target.running_mean, link.target.running_var
    assert stored is not None  # noqa: S101  (links have both statistics)
    assert width is not None  # noqa: S101
    target = replace(
        link.target,
        running_mean=Values(mean, stored.dtype),
        running_var=Values(variance, width.dtype),
    )
    return replace(link, target=target)
