"""Whether a layer, or anything in a file, was trained for a step.

β is the witness: every initialisation in use sets it to 0, and a step of training moves it in
every channel. γ starts at one value in most libraries, but not in all: PyTorch before 1.2 drew it
between 0 and 1 (torch/nn/modules/batchnorm.py, ``init.uniform_``), DCGAN and its many descendants
from a normal distribution around 1 with a deviation of 0.02.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from normcheck.norms.layer import Floats, NormLayer
    from normcheck.rules.rule import Subject

DRAWN = 1.63
"""Of the Kolmogorov-Smirnov statistic times √n: 1 % of true samples lie above (Smirnov 1948)."""

FEWEST = 16
"""Channels below which a few numbers between 0 and 1 may as well have been trained."""


def affine_untouched(layer: NormLayer) -> bool:
    """Whether γ and β show no training: β 0 everywhere, γ one value in all channels or as drawn.

    Training moves every channel by another amount. The one value need not be 1: the last
    norm of a residual block starts at 0, and weight decay shrinks all channels alike. A γ
    that varies beside a β of 0 is no sign by itself, as β may be frozen at 0 (the last norm of
    models that tell persons apart): only one that a known initialisation would draw counts.
    """
    if layer.weight is None:
        return layer.bias is not None and layer.bias.all_are(0.0)
    if layer.weight.size == 0 or not (layer.bias is None or layer.bias.all_are(0.0)):
        return False
    if layer.weight.constant:
        return True
    return layer.bias is not None and affine_as_drawn(layer)


def affine_as_drawn(layer: NormLayer) -> bool:
    """Whether γ reads as drawn from U(0, 1) or N(1, 0.02²) and never moved since."""
    if layer.weight is None or layer.weight.size < FEWEST or not layer.weight.finite:
        return False
    gamma = layer.weight.ordered
    uniform = bool(gamma[0] >= 0 and gamma[-1] <= 1) and _follows(gamma, lambda x: x)
    return uniform or _follows(gamma, _normal)


def _normal(x: float) -> float:
    return 0.5 * (1 + math.erf((x - 1.0) / (0.02 * math.sqrt(2))))


def _follows(ordered: Floats, distribution: Callable[[float], float]) -> bool:
    """Kolmogorov's test of numbers in ascending order against a distribution function."""
    n = len(ordered)
    there = np.array([distribution(float(x)) for x in ordered])
    steps = np.arange(n + 1) / n
    off = max(float(np.max(steps[1:] - there)), float(np.max(there - steps[:-1])))
    return off * math.sqrt(n) < DRAWN


def never_trained(subject: Subject) -> bool:
    """Whether nothing in the file shows a step of training.

    Where a norm has a β, that is the witness; γ may be drawn at random (PyTorch before 1.2,
    DCGAN, quantization-aware training) or pruned.
    """
    if subject.optimizer_steps or subject.clocks:
        return False
    affine = [n for n in subject.layers if n.weight is not None]
    if not affine:
        tracked = subject.with_statistics()
        return bool(tracked) and all(n.at_initial_values for n in tracked)
    return all(affine_untouched(n) if n.bias is None else n.bias.all_are(0.0) for n in affine)
