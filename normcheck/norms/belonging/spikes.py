"""Networks of spiking neurons: what stands behind a norm there is no function of its output.

A neuron adds up what it is given over the time steps, leaks, and fires 0 or 1. The distribution of
its input does not give that of its output, so that no link through one predicts statistics.
"""

from collections.abc import Sequence
from functools import lru_cache
from math import log

import numpy as np

from normcheck.lazy_pattern import lazy_pattern
from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.fit_places import CONVINCING, LARGEST_FACTOR
from normcheck.norms.belonging.likeliest_activation import AS_ROUGH, EXACT, HYPOTHESES, is_certain
from normcheck.norms.belonging.prediction import Prediction
from normcheck.norms.belonging.reaching import Hypothesis, Reaching
from normcheck.norms.belonging.structure.closed_forms import normal_share
from normcheck.norms.belonging.structure.link import Link
from normcheck.norms.layer import Floats, NormLayer
from normcheck.norms.layer_numbers import median, ones
from normcheck.saved.checkpoint import SavedModel

WHY = "spikes reach its weights, and no norm foretells how many"
_LIBRARIES = lazy_pattern(
    r"^(?:spikingjelly\.activation_based\.(?:neuron|auto_cuda|cuda_kernel)\.|snntorch\.|norse\.|sinabs\.)"
)
"""Packages whose modules are neurons."""
_NEURONS = lazy_pattern(r"IFNode$|IFNeuron$|IFCell$|SpikingNeuron$|^P?LIF$|^IF$|LIFSpike$")
"""Classes of neurons in projects of their own."""
_OF_SNNTORCH = ("graded_spikes_factor", "reset_mechanism_val")
"""Buffers of a neuron of snntorch, which a state dict holds."""
_KINDS = ("temporal-effective BatchNorm", "threshold-dependent BatchNorm")
_THRESHOLDS = (0.5, 1.0, 1.5, 2.0)
"""Of a neuron that forgets at once, in whose place others stand: most fire at 1, and leak."""
_STEPS = (2, 4, 8, 16)
"""Time steps that a neuron without a leak is followed for; networks of such have 2 to 16."""
_PATHS, _FEW_PATHS = 256, 32
"""Inputs of a neuron that are followed, and as many as tell roughly."""
_ROUGHLY = 0.3
"""How far the few may be off, in alignments and in logarithms."""
_NEVER = 1e-9
"""In place of an input up to 0, which fills no membrane within any of these steps."""
_PRIMES = (2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53)
"""Their roots are independent of one another: multiples of them fill a cube evenly."""
_SAMPLED = 8
_FEWEST = 2
CLEARLY = 1.0
"""Difference of the mean logarithm of what is missed that tells spikes from an activation."""
_NO_FACTOR = 1e-9
_ALIKE = 0.6
"""Alignment from which spikes explain means: 16 channels reach it by chance in one of a hundred."""


def has_neurons(model: SavedModel, layers: Sequence[NormLayer]) -> bool:
    """Whether modules, names or kinds of norms tell a spiking network."""
    if any(layer.kind.name in _KINDS for layer in layers):
        return True
    if model.modules is not None:
        return any(
            _LIBRARIES.search(module.class_path) or _NEURONS.search(module.class_name)
            for module in model.modules
        )
    return any(name.endswith(_OF_SNNTORCH) for name in model.tensors)


def explain(agreement: Agreement) -> bool:
    """Whether spikes explain means that no activation does, as in a state dict without names.

    Statistics that do not belong to the weights follow neither.
    """
    fits = [fit for fit in agreement.fits if _is_open(fit.link)]
    links = [fit.link for fit in fits[:_SAMPLED]]
    if len(links) < _FEWEST or len(fits) < len(agreement.likely) / 2:
        return False
    follow = sum(fit.alignment for fit in fits) >= CONVINCING * len(fits)
    if follow and abs(log(max(median([fit.slope for fit in fits]), _NO_FACTOR))) <= LARGEST_FACTOR:
        return False  # as of nearly every model, without reading its weights again
    # Few paths tell roughly, which is enough for most networks that are none of spikes.
    rough = _missed_by_spikes(links, _FEW_PATHS, _ROUGHLY)
    if rough is None:
        return False
    usual = np.array([Prediction(link, HYPOTHESES).scores for link in links])
    if not np.isfinite(usual).all():
        return False
    # Where an activation explains much, up to a factor, spikes must leave out a third of the rest.
    better = CLEARLY if float(usual.mean(axis=0).max()) >= CONVINCING else AS_ROUGH
    most = float(_missed(usual).min()) - better
    if rough > most + _ROUGHLY:
        return False
    missed = _missed_by_spikes(links, _PATHS, 0.0)
    return missed is not None and missed <= most


def _missed_by_spikes(links: Sequence[Link], paths: int, room: float) -> float | None:
    """What spikes leave unexplained at least, as by ``_missed``; None where they explain little.

    Args:
        links: At least one.
        paths: Inputs of a neuron that are followed.
        room: What alignments and factors may be off by.
    """
    spiking = [_of_spikes(link, paths) for link in links]
    scores = np.array([prediction.scores for prediction in spiking])
    if not np.isfinite(scores).all():
        return None
    missed = _missed(scores)
    best = int(missed.argmin())
    factor = median([float(prediction.off_one[best]) for prediction in spiking])
    if median(scores[:, best]) < _ALIKE - room or factor > LARGEST_FACTOR + room:
        return None
    return float(missed[best])


def _missed(scores: Floats) -> Floats:
    """What each hypothesis misses, as the mean logarithm over the links."""
    logs: Floats = np.log(np.maximum(1 - scores, EXACT)).mean(axis=0)
    return logs


def unjudged(layers: Sequence[NormLayer]) -> Agreement:
    """That nothing is told by weights of a spiking network."""
    stored = tuple((layer.path, WHY) for layer in layers if layer.has_statistics)
    return Agreement((), "", stored)


def _is_open(link: Link) -> bool:
    plain = link.slopes is None and link.inflow is None and not link.rectified
    return plain and is_certain(link) and link.source.features is not None


def _of_spikes(link: Link, paths: int) -> Prediction:
    """Under a step at each threshold: the mean is how often N(β, γ²) is above it."""
    source = link.source
    channels = source.features or 0
    gamma = np.abs(source.weight.numbers) if source.weight else np.ones(channels)
    beta = source.bias.numbers if source.bias else np.zeros(channels)
    forgetting = normal_share(
        (beta[:, None] - np.array(_THRESHOLDS)) / np.maximum(gamma, 1e-12)[:, None]
    )
    rate = np.concatenate((forgetting, _adding_up(gamma, beta, paths)), axis=1)
    return Prediction(link, _hypotheses(rate.shape[1]), Reaching(rate, rate * (1.0 - rate)))


@lru_cache(maxsize=1)
def _hypotheses(count: int) -> tuple[Hypothesis, ...]:
    return tuple(Hypothesis(f"spikes {number}") for number in range(count))


def _adding_up(gamma: Floats, beta: Floats, paths: int) -> Floats:
    """How often neurons fire, at 1, that add up what they are given and leak nothing.

    Over a few steps their membrane does not settle, so they are followed from 0. Their inputs are
    N(β, γ²), either the same at all steps, as of an image that is shown throughout, or another one
    at each. They are set back to 0, or by the threshold.

    Args:
        gamma: Of each channel, at least 0.
        beta: Likewise.
        paths: Inputs that are followed.

    Returns:
        Of shape (channels, hypotheses).
    """
    shown, anew = _places(paths)
    given = np.clip(beta[:, None] + gamma[:, None] * shown, _NEVER, 1.0)
    # Set back to 0, a neuron is full again after as many steps as before; by the threshold, it has
    # fired as often as the threshold fits into what it was given.
    full = np.ceil(1.0 / given)
    # Sums as products: numpy's own mean takes three times as long for a few dozen numbers.
    each = ones(paths, np.dtype(np.float64))
    rates = [np.floor(steps / full) @ each / (paths * steps) for steps in _STEPS]
    rates += [np.floor(steps * given) @ each / (paths * steps) for steps in _STEPS]
    # In single precision: the membranes of a wide layer are larger than a processor's cache.
    membranes = np.zeros((2, gamma.size, paths), np.float32)
    counts = np.zeros(membranes.shape, np.uint8)
    middle, spread = (each.astype(np.float32)[:, None] for each in (beta, gamma))
    anew_rates = []
    for step, values in enumerate(anew.astype(np.float32), 1):
        membranes += middle + spread * values
        fires = membranes >= 1.0
        counts += fires.view(np.uint8)
        membranes[0] *= ~fires[0]
        membranes[1] -= fires[1]
        if step in _STEPS:
            anew_rates.append((counts @ each) / (paths * step))
    return np.stack([*rates, *(rate[way] for way in (0, 1) for rate in anew_rates)], axis=1)


@lru_cache(maxsize=2)
def _places(paths: int) -> tuple[Floats, Floats]:
    """Normal values of a low discrepancy: for the whole of the steps, and a row for each."""
    roots = np.sqrt(np.array(_PRIMES, dtype=np.float64))[: max(_STEPS), None]
    anew = _quantiles(np.mod(np.arange(paths) * roots + 0.5 / paths, 1.0))
    return anew[0], anew


def _quantiles(shares: Floats) -> Floats:
    """Normal values, by the share that lies below them."""
    grid = np.linspace(-5.0, 5.0, 1001)
    return np.interp(shares, normal_share(grid), grid)
