"""Is a norm folded into weights? Computed from the source, and held against what is stored.

    W' = W γ / √(running_var + eps),   b' = (b - running_mean) γ / √(running_var + eps) + β

per output, wherever the operator has its outputs (see :mod:`normcheck.norms.weight_layout`).
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from normcheck.compare.export_match import Fate, NormMatch
from normcheck.norms.layer import Floats, NormLayer
from normcheck.norms.layer_numbers import median
from normcheck.norms.weight_layout import Layout, possible
from normcheck.saved.dtypes import Array
from normcheck.saved.tensors import TensorRef

USUAL_EPS = (1e-5, 1e-3, 1e-6)
"""Tried where the source is a state dict, which has no eps: torch's, TensorFlow's, others."""
FITS = 1e-4
FITS_HALF = 2e-2
"""Largest relative deviation of folded weights that rounding explains."""


@dataclass(frozen=True, slots=True, eq=False)
class Weighted:
    """A layer with weights, of either file."""

    path: str
    weights: TensorRef
    bias: TensorRef | None
    layout: Layout | None
    """None where a state dict does not tell it."""
    named: bool = True
    """Whether its name or place says that it is the one before the norm."""

    def matrices(self, outputs: int) -> Iterator[Array]:
        """The weights with a row for each output, under every layout that they may have."""
        shape = self.weights.shape
        known = self.layout
        layouts = possible(shape, outputs) if known is None else iter((known,))
        for layout in layouts:
            if layout.fits(shape) and layout.outputs(shape) == outputs:
                yield layout.rows(np.asarray(self.weights.values(), dtype=np.float64))

    def shift(self, outputs: int) -> Floats | None:
        """The bias, 0 where there is none; None where it cannot be read or is of another size."""
        if self.bias is None:
            return np.zeros(outputs)
        if not self.bias.readable or self.bias.numel != outputs:
            return None
        return np.asarray(self.bias.values(), dtype=np.float64).reshape(-1)

    @property
    def fits(self) -> float:
        """Largest relative deviation that the rounding of its element type explains."""
        return FITS_HALF if self.weights.dtype.itemsize <= 2 else FITS


def factors(layer: NormLayer) -> Iterator[tuple[float, Floats]]:
    """Each eps that the norm may have, with the factor γ / √(running_var + eps) per channel."""
    assert layer.running_var is not None  # noqa: S101  (asked before)
    variance = layer.running_var.numbers
    gamma = layer.weight.numbers if layer.weight else np.ones(variance.size)
    for eps in (layer.eps,) if layer.eps is not None else USUAL_EPS:
        with np.errstate(all="ignore"):
            yield eps, gamma / np.sqrt(variance + eps)


def held(layer: NormLayer, source: Weighted, candidate: Weighted) -> NormMatch | None:
    """The candidate's weights against the source's, folded and not.

    Args:
        layer: With statistics.
        source: What stands before the norm.
        candidate: Of the other file.

    Returns:
        What became of the norm if the candidate is what became of the weights; None where the
        two cannot be the same layer.
    """
    mean = layer.running_mean
    assert mean is not None  # noqa: S101  (asked before)
    outputs = mean.size
    beta = layer.bias.numbers if layer.bias else np.zeros(outputs)
    shift, moved_by = source.shift(outputs), candidate.shift(outputs)
    if shift is None or moved_by is None:
        return None
    best: NormMatch | None = None
    theirs = list(candidate.matrices(outputs))
    for plain in source.matrices(outputs):
        for matrix in theirs:
            if matrix.shape != plain.shape:
                continue
            found = _verdict(layer, plain, shift, matrix, moved_by, (mean.numbers, beta), candidate)
            if found.fate is not Fate.FOLDED_OTHERWISE:
                return found
            if best is None or found.deviation < best.deviation:
                best = found
    return best


def _verdict(
    layer: NormLayer,
    plain: Array,
    shift: Floats,
    theirs: Array,
    moved_by: Floats,
    centre: tuple[Floats, Floats],
    candidate: Weighted,
) -> NormMatch:
    mean, beta = centre
    found = [factor for _, factor in factors(layer)]
    best, deviation = found[0], float("inf")
    with np.errstate(all="ignore"):
        for factor in found:
            apart = max(
                _apart(theirs, plain * factor[:, None]),
                _apart(moved_by, (shift - mean) * factor + beta),
            )
            if apart < deviation:
                best, deviation = factor, apart
    path, fits = candidate.path, candidate.fits
    if deviation <= fits:
        return NormMatch(layer.path, Fate.FOLDED, (), path, deviation)
    if _apart(theirs, plain) <= fits and _apart(moved_by, shift) <= fits:
        return NormMatch(layer.path, Fate.DROPPED, (), path, deviation)
    with np.errstate(all="ignore"):
        ratio = np.linalg.norm(theirs, axis=1) / np.linalg.norm(plain * found[0][:, None], axis=1)
        only_bias = _apart(theirs, plain * best[:, None]) <= fits
    finite = ratio[np.isfinite(ratio)]
    text = f"weights {median(finite):.3g} times as large" if finite.size else "weights not finite"
    if only_bias:
        gap = np.abs(moved_by - ((shift - mean) * best + beta))
        text = f"the weights as they should be, the bias up to {float(gap.max()):.3g} apart"
    return NormMatch(layer.path, Fate.FOLDED_OTHERWISE, (text,), path, deviation)


def _apart(a: Array, b: Array) -> float:
    """Largest difference relative to the largest value; infinite where one is not finite."""
    largest = float(max(np.abs(b).max(initial=0.0), 1e-30))
    gap = float(np.abs(a - b).max(initial=0.0)) / largest
    return gap if np.isfinite(gap) else float("inf")
