"""Is a norm folded into weights? Computed from the source, and held against what is stored.

    W' = W γ / √(running_var + eps),   b' = (b - running_mean) γ / √(running_var + eps) + β

per output, wherever the operator has its outputs (see :mod:`normcheck.norms.weight_layout`).
"""

from collections.abc import Iterator

import numpy as np

from normcheck.compare.exports.export_match import Fate, NormMatch
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer import Floats, NormLayer
from normcheck.norms.layer_numbers import median
from normcheck.norms.weight_layout import Layout, possible
from normcheck.saved.dtypes import Array
from normcheck.saved.tensors import TensorRef
from normcheck.wording import percent

USUAL_EPS = (1e-5, 1e-3, 1e-6)
"""Tried where the source is a state dict, which has no eps: torch's, TensorFlow's, others."""
FITS = 1e-4
FITS_HALF = 2e-2
"""Largest relative deviation of folded weights that rounding explains."""
_SLACK = 4.0
"""A direction is rounded relative to its own length, which may be shorter than the longest."""
_EPS_ROUNDING = 1e-4
_FEW = 4
"""Channels from which a common eps is told."""
_TELLING = 64
_EXACT = 0.9999
"""Resemblance below which weights of few numbers are not told by it."""


@lazy_dataclass(eq=False)
class Weighted:
    """A layer with weights, of either file."""

    path: str
    weights: TensorRef
    bias: TensorRef | None
    layout: Layout | None
    """None where a state dict does not tell it."""
    name: str
    """Of the tensor of weights, in its own file."""
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
        least = FITS_HALF if self.weights.dtype.itemsize <= 2 else FITS
        return max(least, self.weights.rounding)


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

    def fate(what: Fate, text: str = "", *, scaled: bool = False) -> NormMatch:
        words = (text,) if text else ()
        return NormMatch(layer.path, what, words, path, candidate.name, deviation, scaled)

    if deviation <= fits:
        return fate(Fate.FOLDED)
    as_before = _apart(theirs, plain) <= fits
    if as_before and _apart(moved_by, shift) <= fits:
        return fate(Fate.DROPPED)
    if _apart(theirs, plain * best[:, None]) <= fits:
        gap = np.abs(moved_by - ((shift - mean) * best + beta))
        text = f"the weights as they should be, the bias up to {float(gap.max()):.3g} apart"
        return fate(Fate.FOLDED_OTHERWISE, text, scaled=True)
    wanted = found[0]
    turned = _apart(_directions(theirs), np.sign(wanted)[:, None] * _directions(plain))
    if turned > _SLACK * fits:
        should = plain * wanted[:, None]
        with np.errstate(all="ignore"):
            apart = float(np.linalg.norm(theirs - should) / np.linalg.norm(should))
        text = f"weights {percent(apart)} apart" if np.isfinite(apart) else "not finite"
        return fate(Fate.FOLDED_OTHERWISE, text)
    scaled = plain.shape[1] > 1 and not as_before
    return fate(Fate.FOLDED_OTHERWISE, _factor(layer, plain, theirs, wanted), scaled=scaled)


def _factor(layer: NormLayer, plain: Array, theirs: Array, wanted: Floats) -> str:
    """By which other factor weights were folded, in words."""
    with np.errstate(all="ignore"):
        factor = np.linalg.norm(theirs, axis=1) / np.linalg.norm(plain, axis=1)
        eps = _eps(layer, factor)
        if eps is not None:
            return f"as with eps {eps:.2g}, not {layer.eps:g}"
        ratio = factor / np.abs(wanted)
    finite = ratio[np.isfinite(ratio)]
    return f"weights {median(finite):.3g} times as large" if finite.size else "weights not finite"


def _eps(layer: NormLayer, factor: Floats) -> float | None:
    """The eps that explains a factor in all channels."""
    variance, eps = layer.running_var, layer.eps
    assert variance is not None  # noqa: S101  (asked before)
    gamma = layer.weight.numbers if layer.weight else np.ones(variance.size)
    implied = (gamma / factor) ** 2 - variance.numbers
    # Where the variance is large, eps is within its rounding.
    unsure = _EPS_ROUNDING * variance.numbers
    if eps is None or not np.isfinite(implied).all() or implied.size < _FEW:
        return None
    sure = int(np.argmin(unsure))
    found = float(implied[sure])
    same = bool((np.abs(implied - found) <= unsure + unsure[sure] + 0.02 * abs(found)).all())
    other = abs(found - eps) > max(0.1 * eps, float(unsure[sure]))
    return found if same and other and found > 0 else None


def resemblance(layer: NormLayer, source: Weighted, candidate: Weighted) -> float | None:
    """How alike the weights are in direction, output by output: 1 up to a factor each.

    A folding leaves the direction of an output's weights as it is, training on little changed.
    None where outputs have one weight each and so no direction, or the layouts do not fit.
    """
    assert layer.running_mean is not None  # noqa: S101  (asked before)
    best: float | None = None
    theirs = list(candidate.matrices(layer.running_mean.size))
    for plain in source.matrices(layer.running_mean.size):
        for matrix in theirs:
            if matrix.shape != plain.shape or plain.shape[1] < 2 or plain.shape[0] < 2:
                continue
            cosines = np.abs((_directions(plain) * _directions(matrix)).sum(axis=1))
            alike = median(cosines)
            if plain.size < _TELLING and alike < _EXACT:
                continue  # so few numbers resemble others by chance
            best = alike if best is None else max(best, alike)
    return best


def _directions(rows: Array) -> Array:
    """Each row by its length; rows of zeros stay."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    with np.errstate(all="ignore"):
        return np.asarray(np.nan_to_num(np.where(lengths > 0, rows / lengths, 0.0)))


def _apart(a: Array, b: Array) -> float:
    """Largest difference relative to the largest value; infinite where one is not finite."""
    largest = float(max(np.abs(b).max(initial=0.0), 1e-30))
    gap = float(np.abs(a - b).max(initial=0.0)) / largest
    return gap if np.isfinite(gap) else float("inf")
