"""How far stored statistics lie from those of the data, layer by layer, with bounds."""

from __future__ import annotations

from math import inf

import numpy as np

from normcheck.live.measurement import Drift
from normcheck.live.watching.input_moments import Collected, Moments, student_quantile
from normcheck.live.watching.seen import CallSite
from normcheck.norms.layer import Floats

ERROR_RATE = 0.01
"""Probability that any channel of a model whose statistics are right has a bound above 0."""
_CLIP = 25.0
"""Squared standard errors at which one channel's misfit is cut: what a few channels show alone is
told by their bounds."""
TRACE = 0.1
"""Lower bound of a shift in standard deviations, or of a log variance ratio, up to which no rule
speaks of a layer (``MATERIAL`` there)."""


def drifts_of(
    collected: Collected, evaluated: Collected, order: list[CallSite], norm_paths: frozenset[str]
) -> tuple[Drift, ...]:
    """Each layer's stored statistics against the moments of its inputs.

    Args:
        collected: The moments, under batch propagation.
        evaluated: What eval mode gives each norm.
        order: The norms in the order in which they run.
        norm_paths: Of the modules that are normalization layers.
    """
    channels = sum(len(evaluated.stored[place][0]) for place in order)
    return tuple(
        _drift(place, position, collected.moments[place], evaluated, channels, norm_paths)
        for position, place in enumerate(order)
        if place in collected.moments
    )


def _drift(
    place: CallSite,
    position: int,
    moments: Moments,
    evaluated: Collected,
    channels: int,
    norm_paths: frozenset[str],
) -> Drift:
    """One layer; the interval is corrected for looking at ``channels`` channels, twice each."""
    mean_r, var_r = (np.asarray(t.numpy(), dtype=np.float64) for t in evaluated.stored[place])
    eps = evaluated.eps[place]
    mean_d, var_d = (np.asarray(t.numpy(), dtype=np.float64) for t in moments.pooled())
    quantile = student_quantile(ERROR_RATE / (4 * channels), moments.samples - 1)
    with np.errstate(all="ignore"):
        deviation = np.sqrt(np.maximum(var_r, 0) + eps)
        shift = (mean_d - mean_r) / deviation
        margin = quantile * moments.mean_error() / deviation
        log_scale = np.log((var_d + eps) / (np.maximum(var_r, 0) + eps))
        log_error = moments.variance_error() / (var_d + eps)
        log_margin = quantile * log_error
    return Drift(
        path=place.path,
        turn=place.turn,
        position=position,
        samples=moments.samples,
        shift=shift,
        shift_bound=np.maximum(np.abs(shift) - margin, 0),
        log_scale=log_scale,
        log_scale_bound=np.maximum(np.abs(log_scale) - log_margin, 0),
        spread=moments.spread(),
        at_initial_values=bool(np.all(mean_r == 0) and np.all(var_r == 1)),
        norm_layer=place.path in norm_paths,
        worth=_worth(log_scale, log_error, moments.samples),
    )


def _worth(log_scale: Floats, error: Floats, samples: int) -> float:
    """Of how many samples variances may be that are off by so much, infinite for no misfit.

    Where variances of ``n`` samples are compared with the true ones, the mean of their squared
    misfits in squared standard errors is 1; with those of ``m`` others it is 1 + n / m. Running
    averages over batches of ``k`` at momentum 0.1 are worth 19 k, and less where weights still
    move.

    Args:
        log_scale: Logarithm of the ratio of the variances, for each channel.
        error: Its standard error.
        samples: ``n``.
    """
    with np.errstate(all="ignore"):
        squares = np.square(log_scale / error)
    squares = np.minimum(squares[~np.isnan(squares)], _CLIP)
    excess = float(squares.mean()) - 1 if squares.size else 0.0
    return samples / excess if excess > 0 else inf


def is_material(drift: Drift) -> bool:
    """Whether any channel lies off by more than a trace."""
    with np.errstate(invalid="ignore"):
        return bool(np.any((drift.shift_bound > TRACE) | (drift.log_scale_bound > TRACE)))
