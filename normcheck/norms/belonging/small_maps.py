"""Which taps of a kernel meet the image where the image is hardly larger than the kernel.

Of a 3 × 3 kernel on a map of one pixel only the middle sees it, the rest sees the zeros around.
Deep networks on small images end on maps of 4, 2 and 1 pixels, and depthwise kernels, over whose
taps no sum of inputs evens out, show it most. For a map of n pixels, stride s and zero padding

    c(tap) = share of output positions at which the tap lies inside the image
    mean_o = b_o + Σ_taps c(tap) Σ_i W[o, i, tap] m_i
    variance_o ≈ Σ_taps c(tap) Σ_i W[o, i, tap]² v_i + variance over positions of the mean there

A state dict has neither n nor s. Of the maps that are possible the one is taken whose means have
the likeliest shape, whatever their factor.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from math import exp

import numpy as np

from normcheck.norms.belonging.fit import (
    Fit,
    HeldAgainst,
    Predicted,
    fit_of,
    off_one,
    weighted_means,
)
from normcheck.norms.belonging.prediction import SAME_LIKELIHOOD, USUAL_BORDERS
from normcheck.norms.belonging.reaching import Hypothesis, reaching
from normcheck.norms.belonging.structure.link import WeightStructure
from normcheck.norms.belonging.weighted_sums import BORDERS, by_tap
from normcheck.norms.layer import Confidence, Floats

ALIGNED = 0.9
"""Alignment from which the borders of larger images explain a link."""
FOLLOWS_NONE = 0.5
"""Alignment below which a depthwise convolution's means follow none that is expected there."""
_WIDEST = 8
"""Pixels up to which a map is small."""
_NARROW = (1, 2, 4)
"""Pixels across a map that is long the other way, as a spectrogram behind its last pooling."""


def on_small_maps(fits: Sequence[Fit]) -> list[Fit]:
    """The fits, on small maps where no large one explains the means."""
    found = [on_small_map(fit) if may_be_small(fit) else fit for fit in fits]
    few = {
        fit.link.target.path
        for fit in found
        if fit.link.kind is WeightStructure.DEPTHWISE
        and (fit.small_map or fit.alignment < FOLLOWS_NONE)
    }
    if not few:
        return found
    return [
        replace(fit, skewed=True) if not fit.skewed and fit.link.source.path in few else fit
        for fit in found
    ]


def may_be_small(fit: Fit) -> bool:
    """Whether a small map is to be thought of: where no large one explains the means.

    Across blocks, where a sum is likelier, only of depthwise convolutions, before which none is.
    """
    link = fit.link
    return (
        not fit.small_map
        and (fit.alignment < ALIGNED or fit.border >= BORDERS[USUAL_BORDERS])
        and (
            link.kind is WeightStructure.DEPTHWISE or link.recognition.confidence is Confidence.HIGH
        )
        and link.recognition.confidence is not Confidence.LOW
        and link.kind not in (WeightStructure.TRANSPOSED, WeightStructure.SEPARABLE)
        and link.taps > 1
    )


def on_small_map(fit: Fit) -> Fit:
    """The fit on the small map that suits its link best; as it is where none suits better.

    Statistics that have nothing to do with the weights fit on none: there are some thirty maps
    for as many channels as a norm has.
    """
    link = fit.link
    hypothesis = Hypothesis(fit.activation, fit.pool)
    found = reaching(link, (hypothesis,))
    means, variances = by_tap(link, found.means, found.variance_under(0))
    bias: Floats = np.zeros(1)
    if link.bias is not None and link.bias.readable:
        bias = np.asarray(link.bias.values(), dtype=np.float64).reshape(-1)
    stored, weight = weighted_means(link)
    shares, maps = _maps(link.weights.shape[2:])
    predicted = means @ shares + bias[:, None]
    weighted = predicted * weight[:, None]
    own = max(float((stored * stored) @ weight), 1e-12)
    both, square = stored @ weighted, np.einsum("ij,ij->j", predicted, weighted)
    slopes = both / np.maximum(square, 1e-12)
    alignment = np.abs(both) * slopes / own
    missed = np.maximum(1.0 - alignment, 1e-12)
    if not np.isfinite(missed).all():
        return fit
    likely = missed.min() * exp(SAME_LIKELIHOOD / stored.size)
    if fit.border < BORDERS[USUAL_BORDERS] and 1.0 - fit.alignment <= likely:
        return fit
    best = min(np.flatnonzero(missed <= likely), key=lambda place: off_one(float(slopes[place])))
    explained = 1.0 - (float(square[best]) - 2.0 * float(both[best]) + own) / own
    variance = variances @ shares[:, best] + (means @ maps[best]).var(axis=1)
    return fit_of(
        Predicted(
            link,
            hypothesis,
            predicted[:, best],
            variance,
            (stored, weight),
            HeldAgainst(explained, float(alignment[best]), float(slopes[best])),
            fit.border,
            small_map=True,
        )
    )


@lru_cache(maxsize=64)
def _maps(kernel: tuple[int, ...]) -> tuple[Floats, tuple[Floats, ...]]:
    """The small maps that differ in what the taps of a kernel see.

    Returns:
        The share of positions at which each tap meets the image, of shape (taps, maps), and for
        each map where that is, 1 or 0, of shape (taps, positions).
    """
    found: dict[bytes, Floats] = {}
    for step in (1, 2):
        for pixels in range(1, _WIDEST + 1):
            for turned in (False, True):
                ways = [_seen(length, pixels, step, turned=turned) for length in kernel]
                places = [ways]
                if pixels in _NARROW and step == 1 and len(kernel) > 1:
                    long = [np.ones((length, 1)) for length in kernel]
                    places += [[*long[:axis], ways[axis], *long[axis + 1 :]]
                               for axis in range(len(kernel))]  # fmt: skip
                for each in places:
                    whole = _all_axes(each)
                    found.setdefault(whole.mean(axis=1).tobytes(), whole)
    maps = tuple(found.values())
    return np.stack([seen.mean(axis=1) for seen in maps], axis=1), maps


def _seen(length: int, pixels: int, stride: int, *, turned: bool) -> Floats:
    """Where each tap along one axis meets the image, of shape (taps, positions).

    Args:
        length: Of the kernel, padded by half of it.
        pixels: Of the image.
        stride: Steps of the kernel.
        turned: Whether the larger half of an uneven padding comes behind, as TensorFlow's does.
    """
    ahead = (length - 1) // 2
    last = max(pixels + 2 * ahead - length, 0) // stride
    places = np.arange(last + 1) * stride + np.arange(length)[:, None] - ahead
    inside = ((places >= 0) & (places < pixels)).astype(np.float64)
    return inside[::-1] if turned else inside


def _all_axes(axes: list[Floats]) -> Floats:
    """Of all taps at all positions, by those along each axis."""
    whole = axes[0]
    for axis in axes[1:]:
        taps, places = whole.shape[0] * axis.shape[0], whole.shape[1] * axis.shape[1]
        whole = np.einsum("ap,bq->abpq", whole, axis).reshape(taps, places)
    return whole
