"""Networks of spiking neurons: what stands behind a norm there is no function of its output.

A neuron adds up what it is given over the time steps, leaks, and fires 0 or 1. The distribution of
its input does not give that of its output, so that no link through one predicts statistics.
"""

from collections.abc import Sequence
from math import erf, sqrt

import numpy as np

from normcheck.lazy_pattern import lazy_pattern
from normcheck.norms.belonging.agreement import CONVINCING, Agreement
from normcheck.norms.belonging.likeliest_activation import AS_ROUGH, EXACT, HYPOTHESES, is_certain
from normcheck.norms.belonging.links import Link
from normcheck.norms.belonging.prediction import Prediction
from normcheck.norms.belonging.reaching import Hypothesis, Reaching
from normcheck.norms.layer import Floats, NormLayer
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
_SAMPLED = 8
_FEWEST = 2
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
    if sum(fit.alignment for fit in fits) >= CONVINCING * len(fits):
        return False  # as of nearly every model, without reading its weights again
    usual = np.array([Prediction(link, HYPOTHESES).scores for link in links])
    if float(usual.mean(axis=0).max()) >= CONVINCING:
        return False
    spiking = np.array([_of_spikes(link).scores for link in links])
    if not (np.isfinite(usual).all() and np.isfinite(spiking).all()):
        return False
    missed, other = (np.log(np.maximum(1 - each, EXACT)).mean(axis=0) for each in (spiking, usual))
    best = int(missed.argmin())
    near = float(np.median(spiking[:, best]))
    return near >= _ALIKE and float(missed[best]) <= float(other.min()) - AS_ROUGH


def unjudged(layers: Sequence[NormLayer]) -> Agreement:
    """That nothing is told by weights of a spiking network."""
    stored = tuple((layer.path, WHY) for layer in layers if layer.has_statistics)
    return Agreement((), "", stored)


def _is_open(link: Link) -> bool:
    plain = link.slopes is None and link.inflow is None and not link.rectified
    return plain and is_certain(link) and link.source.features is not None


def _of_spikes(link: Link) -> Prediction:
    """Under a step at each threshold: the mean is how often N(β, γ²) is above it."""
    source = link.source
    channels = source.features or 0
    gamma = np.abs(source.weight.numbers) if source.weight else np.ones(channels)
    beta = source.bias.numbers if source.bias else np.zeros(channels)
    above = (beta[:, None] - np.array(_THRESHOLDS)) / np.maximum(gamma, 1e-12)[:, None]
    rate: Floats = 0.5 * (1.0 + np.vectorize(erf)(above / sqrt(2.0)))
    hypotheses = [Hypothesis(f"spikes at {threshold:g}") for threshold in _THRESHOLDS]
    return Prediction(link, hypotheses, Reaching(rate, rate * (1.0 - rate)))
