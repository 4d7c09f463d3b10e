"""Outputs against those that know nothing of the sample: what is left above guessing.

A model that learned nothing answers the same for every sample, or anything. For single decisions
a share of right answers shows it; masks and numbers need another measure, with samples as units.
"""

import torch
from torch import Tensor

from normcheck.live.hits import ONE_CLASS, Skill
from normcheck.live.watching import outputs
from normcheck.live.watching.forward import RegimeOutputs

_FEWEST = 4
"""Samples below which no interval is worth its name."""
_NEARLY_ALL = 2.58
"""Deviations of the interval's upper end, one-sided 0.5 %."""
_WORST = -10.0
"""Times the error of the constant up to which one sample counts against the outputs."""
_IGNORED = (-100, 255)
"""Labels that stand for no class, by custom."""


def skill(measured: RegimeOutputs) -> Skill | None:
    """How far outputs are above guessing; None without labels of numbers or of several decisions.

    Args:
        measured: Outputs and labels of all samples.
    """
    measured = measured.together()
    if len(measured.mains) != 1 or measured.labels[0] is None:
        return None
    main, labels = measured.mains[0], measured.labels[0]
    if len(main) < _FEWEST or not bool(main.isfinite().all()):
        return None
    found = outputs.decided(main, labels)
    if found is not None:
        return _of_places(*found) if found[0].numel() > len(main) else None
    if labels.numel() != main.numel() or not outputs.are_numbers(main, labels):
        return None
    wanted = labels.double().reshape(main.shape)
    return _of_numbers(main.double(), wanted) if bool(wanted.isfinite().all()) else None


def _of_places(chosen: Tensor, wanted: Tensor) -> Skill | None:
    """Cohen's kappa over all places of a sample, with samples as the units.

    Agreement that the model's own answers would reach if they were given to other samples, each at
    its place, is taken off (J. Cohen, A coefficient of agreement for nominal scales, 1960): what
    is known of the places (the sky is above, a mark is rare) is no knowledge of the sample.
    """
    rows, expected = chosen.reshape(len(chosen), -1), wanted.reshape(len(wanted), -1)
    counted = torch.ones_like(expected, dtype=torch.bool)
    for ignored in _IGNORED:
        counted &= expected != ignored
    each = counted.sum(dim=1).clamp_min(1).double()
    right = ((rows == expected) & counted).sum(dim=1) / each
    at_place = counted.sum(dim=0).clamp_min(1).double()
    classes = torch.unique(expected[counted]).tolist()
    dealt, largest = torch.zeros_like(right), 1.0 if not classes else 0.0
    for c in classes:
        there = (expected == c) & counted
        largest = max(largest, float(there.sum() / counted.sum()))
        dealt += (((rows == c) & counted) * (there.sum(dim=0) / at_place)).sum(dim=1) / each
    if largest > ONE_CLASS:
        return None
    # The other samples: without the one that is answered.
    gained = (right - dealt) * len(rows) / (len(rows) - 1)
    left = 1 - float(dealt.mean())
    share, most, t = _interval(gained / left if left > 0 else gained)
    return Skill("places", len(rows), share, most, t, float(dealt.mean()))


def _of_numbers(main: Tensor, wanted: Tensor) -> Skill | None:
    """The part of the error of one constant for all samples that is taken away (1 is perfect).

    By squares against the mean (then it is R squared) and by absolute values against the median,
    whichever speaks more for the model: numbers with long tails are predicted well by one and
    badly by the other. Each column counts the same, and each channel of an image.
    """
    axes = (0,) if main.ndim <= 2 else (0, *range(2, main.ndim))
    mean = wanted.mean(axes, keepdim=True)
    deviation = (wanted - mean).square().mean(axes, keepdim=True).sqrt()
    varies = deviation > 1e-12 * (1 + mean.abs())
    if not bool(varies.any()):
        return None
    y, f = ((x - mean) / deviation.clamp_min(1e-300) * varies for x in (wanted, main))
    columns = y.transpose(0, 1).flatten(1) if y.ndim > 1 else y.reshape(1, -1)
    middle = columns.median(dim=1).values.reshape(mean.shape)
    found = [
        _taken(y.square(), (f - y).square()),
        _taken((y - middle).abs(), (f - y).abs()),
    ]
    best = max(found, key=lambda part: part[1])
    t = max(part[2] for part in found)
    return Skill("numbers", len(y), found[0][0], best[1], t, 0.0, _correlation(f, y))


def _taken(constant: Tensor, left: Tensor) -> tuple[float, float, float]:
    rows = [x.reshape(len(x), -1).mean(dim=1) for x in (constant, left)]
    whole = float(rows[0].mean())
    return _interval(((rows[0] - rows[1]) / whole).clamp_min(_WORST)) if whole > 0 else (0, 0, 0)


def _interval(rows: Tensor) -> tuple[float, float, float]:
    """Mean, upper end, and mean over its standard error."""
    mean, error = float(rows.mean()), float(rows.std()) / len(rows) ** 0.5
    t = mean / error if error > 0 else (float("inf") if mean > 0 else 0.0)
    return mean, mean + _NEARLY_ALL * error, t


def _correlation(f: Tensor, y: Tensor) -> float:
    a, b = f - f.mean(), y - y.mean()
    size = float(a.norm() * b.norm())
    return float((a * b).sum()) / size if size > 0 else 0.0
