"""The first norm against its own weights, and what it tells of the training input.

No norm precedes it, so what reaches its weights is not known. But there are few unknowns, the means
of one to a few input channels, and one equation for each output channel:

    mean_o = b_o + Σ_i S[o, i] m_i,    S[o, i] = Σ_taps W[o, i, tap]

So the stored means determine m, and what is left over tells whether they belong to these weights.
The variances tell the deviation of the input the same way, for a stationary input whose neighbours
correlate by ρ and whose channels by c: the ρ and c that fit best.
"""

from functools import lru_cache
from math import exp

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.fit import weights_of
from normcheck.norms.belonging.pooled import CLEARLY, LEAST_RAISED, may_stand_between, rise_of
from normcheck.norms.belonging.structure.first_weights import Placed, first_norm
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.two_layers import SIGNAL
from normcheck.norms.layer import Floats, NormLayer, Values
from normcheck.norms.layer_numbers import median
from normcheck.saved.checkpoint import SavedModel

FEWEST_CHANNELS = 16
EQUATIONS = 3
"""Output channels for each input channel, at least: fewer would fit anything."""
NEIGHBOURS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98)
CHANNELS = (0.0, 0.5, 0.9)
"""Correlations of neighbouring pixels, and of the channels of one, that are tried."""
TOLD = 0.9
"""Correlation of logarithms from which the variances tell the input's deviation."""
VARIED = 0.25
"""Standard deviation of logarithms from which variances can follow anything."""
VARIED_WELL = 0.6
"""The same from which it shows in full whether they do."""
POSITIVE = 0.85
"""Share of positive means from which they are of values behind an activation, leaky ones included:
weights make means of both signs, 0.72 of one at most in a hundred published networks."""
_LARGEST = 1 << 20
"""Weights of a first layer; real ones have a few thousand."""
_MOST_TAPS = 256
"""Taps of a kernel up to which the variances are asked, each with each."""


@lazy_dataclass()
class FirstNorm:
    """What the first norm of a model tells."""

    path: str
    weights: str
    leftover: float
    """Root mean square, in stored deviations, of what no input explains of the means. 0.004 by the
    median over healthy models, 0.33 at most (behind a max pooling)."""
    explained: float
    """1 - Σ(leftover/σ)² / Σ(mean/σ)²: what an input explains of the means, from 0 to 1."""
    means: tuple[float, ...]
    """Of the input's channels, as the running means have it."""
    deviation: float | None
    """Of the input; None where the variances do not tell it."""
    spread: float | None
    """Slope of the logarithms of stored variances over those that the weights make of the input:
    1 for variances, 1/2 for deviations in their place, -1 for inverses; None where the variances
    do not follow the weights closely enough to tell."""
    channels: int
    loose: float
    """How little its variances follow the weights, from 0 to 1: 1 minus the correlation of their
    logarithms, less where predicted ones hardly vary. At most 0.2 in 160 healthy small networks."""
    taps: int
    """Of a kernel of its weights."""
    signal: bool = False
    """Whether these run over time."""


def read_first_norm(
    model: SavedModel, layers: tuple[NormLayer, ...], steps: list[ModuleStep] | None = None
) -> FirstNorm | None:
    """Hold the first norm of a model against the weights before it.

    Args:
        model: Of a file that is open, its order kept.
        layers: Its norms.
        steps: What ``steps_of`` makes of both, where it is there already.

    Returns:
        None where there is no such norm, or too few channels for its inputs.
    """
    found = first_norm(model, layers, steps)
    return held_against_weights(found) if found is not None else None


def held_against_weights(first: Placed) -> FirstNorm | None:
    """A norm right behind weights that the input reaches, held against them.

    Args:
        first: The norm, the path of the weights, the weights (outputs first) and their bias.

    Returns:
        None where there are too few channels for its inputs, or no numbers to judge.
    """
    norm, path, weights, bias = first
    mean, variance = norm.running_mean, norm.running_var
    if mean is None or variance is None or weights.numel > _LARGEST:
        return None
    makes, takes = weights.shape[:2]
    if makes != mean.size or makes < max(FEWEST_CHANNELS, EQUATIONS * takes):
        return None
    lowest = mean.ordered[int((1 - POSITIVE) * mean.size)]
    if lowest > 0 or (lowest == 0 and mean.ordered[-1] > 0):
        return None  # as of rectified values: the norm stands behind an activation
    if not (mean.finite and variance.finite) or not variance.size or variance.ordered[-1] <= 0:
        return None
    kernel = np.asarray(weights.values(), dtype=np.float64).reshape(makes, takes, -1)
    shift = np.zeros(makes)
    if bias is not None and bias.readable and bias.numel == makes:
        shift = np.asarray(bias.values(), dtype=np.float64).reshape(-1)
    if not (np.isfinite(kernel).all() and np.isfinite(shift).all()):
        return None
    sums = kernel.sum(axis=2)
    stored = mean.numbers - shift
    unit = np.sqrt(weights_of(stored, variance))
    inputs = np.linalg.lstsq(sums * unit[:, None], stored * unit, rcond=1e-6)[0]
    left = (stored - sums @ inputs) * unit
    if may_stand_between(path, weights, norm.path):
        # Variances a rounding below 0 are those of constant channels.
        deviation = np.sqrt(np.maximum(variance.numbers, 0.0))
        left = _before_pooling(left, sums * unit[:, None], deviation * unit)
    told, loose = _variances(kernel, weights.shape[2:], variance)
    return FirstNorm(
        path=norm.path,
        weights=path,
        leftover=float(np.sqrt((left @ left) / (makes - takes))),
        explained=1.0 - float(left @ left) / max(float((stored * unit) @ (stored * unit)), 1e-300),
        means=tuple(float(m) for m in inputs),
        deviation=told.deviation if told is not None and told.spread > 0 else None,
        spread=told.spread if told is not None else None,
        channels=makes,
        loose=loose,
        taps=kernel.shape[2],
        signal=weights.ndim == SIGNAL and kernel.shape[2] > 1,
    )


def _before_pooling(left: Floats, sums: Floats, deviation: Floats) -> Floats:
    """What no input explains, less the rise of a max pooling between, where there clearly is one.

    Args:
        left: Without it, of shape (channels,).
        sums: What each input channel's mean adds, of shape (channels, input channels).
        deviation: What a rise by one deviation adds; all three weighted alike.
    """
    raised = deviation - sums @ np.linalg.lstsq(sums, deviation, rcond=1e-6)[0]
    rise = rise_of(left, raised, np.ones_like(left))
    rest: Floats = left - rise * raised
    clearly = rise >= LEAST_RAISED and rest @ rest <= CLEARLY * (left @ left)
    return rest if clearly else left


@lazy_dataclass()
class _Told:
    """As in ``FirstNorm``."""

    deviation: float
    spread: float


def _variances(
    kernel: Floats, shape: tuple[int, ...], variances: Values
) -> tuple[_Told | None, float]:
    """What the variances tell of the input, if anything, and how loosely they follow.

    Under the correlations with which stored variances rise, or fall, with predicted ones most
    closely.
    """
    if kernel.shape[2] > _MOST_TAPS:
        return None, 0.0
    alive = variances.numbers > 1e-6 * float(variances.ordered[variances.size // 2])
    logs = np.log(variances.numbers[alive])
    centred = logs - logs.mean()
    unit = _made_of_noise(kernel[alive], shape)
    unit = unit[(unit > 0).all(axis=1)]
    made = np.log(unit)
    other = made - made.mean(axis=1, keepdims=True)
    squares = np.einsum("ij,ij->i", other, other)
    both = other @ centred
    own = float(centred @ centred)
    closely = np.abs(both) / np.maximum(np.sqrt(squares * own), 1e-12)
    varied = np.sqrt(squares / logs.size)
    # Weights that make about the same variance everywhere under one correlation say little.
    loose = (
        float(((1.0 - closely) * np.minimum(1.0, varied / VARIED_WELL)).min())
        if logs.size and len(unit)
        else 0.0
    )
    closely[varied < VARIED] = 0.0  # they follow anything
    best = int(closely.argmax()) if closely.size else -1
    if best < 0 or closely[best] < TOLD:
        return None, loose
    return _Told(exp(median(logs - made[best]) / 2), float(both[best] / squares[best])), loose


def _made_of_noise(kernel: Floats, shape: tuple[int, ...]) -> Floats:
    """Variances of the outputs for inputs of variance 1, under each correlation that is tried.

    Args:
        kernel: Of shape (out channels, in channels, taps).
        shape: Of the taps.

    Returns:
        Of shape (correlations, out channels).
    """
    # A single tap has no neighbours, and a single channel no other.
    near = _nearness(shape) if kernel.shape[2] > 1 else np.ones((1, 1, 1))
    apart: Floats = np.einsum("noit,oit->no", kernel @ near[:, None], kernel)
    if kernel.shape[1] == 1:
        return apart
    total = kernel.sum(axis=1)
    together = np.einsum("not,ot->no", total @ near, total)
    share = np.array(CHANNELS)[:, None]
    made: Floats = (1.0 - share) * apart[:, None] + share * together[:, None]
    return made.reshape(-1, len(kernel))


@lru_cache(maxsize=16)
def _nearness(shape: tuple[int, ...]) -> Floats:
    """Correlation of every two taps under each of ``NEIGHBOURS``: it falls with their distance.

    Args:
        shape: Of the kernel, of at least one dimension.

    Returns:
        Of shape (neighbours, taps, taps).
    """
    grids = np.meshgrid(*map(np.arange, shape), indexing="ij")
    places = np.stack([grid.reshape(-1) for grid in grids], axis=1)
    distance = np.abs(places[:, None] - places[None]).sum(axis=2)
    farthest = np.arange(distance.max() + 1)
    return np.stack([np.power(neighbour, farthest)[distance] for neighbour in NEIGHBOURS])
