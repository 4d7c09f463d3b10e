"""Slips that mix up what is stored: told by putting the values back and seeing everything fit.

A mean and a variance, a mean and a β in each other's place, a sign, a deviation stored as a
variance: each is one change, after which the weights must explain what they did not before.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from normcheck.findings import Severity
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.fit_links import agreement_of
from normcheck.norms.belonging.structure.link import Link
from normcheck.norms.belonging.sums.residual_sums import agrees
from normcheck.norms.layer import Floats, NormLayer, Values
from normcheck.norms.layer_numbers import median
from normcheck.rules.evidence.cause import Cause

FITS = 0.85
"""Median alignment from which values that were put back fit."""
MISSES = 0.5
"""Median alignment as stored, above which nothing is put back."""
FEWEST_LINKS = 3
INVERSE = -0.6
"""Correlation of logarithms of stored and predicted variances below which one is the other's
inverse. Unrelated ones stay within ±0.3."""


def exchanged(fits: Sequence[Fit]) -> Cause | None:
    """The slip that explains why statistics do not fit; None where none does."""
    if not fits:
        return None
    if median([f.alignment for f in fits]) >= MISSES:
        return _inverse(fits)  # which leaves the means as they are
    return _with_variance(fits) or _with_bias(fits) or _negated(fits) or _inverse(fits)


def _with_variance(fits: Sequence[Fit]) -> Cause | None:
    if not any((f.stored_variance < 0).any() for f in fits):
        return None
    then = _after(fits, lambda f: with_statistics(f, f.stored_variance, f.stored_mean))
    if then is None:
        return None
    return Cause(
        "swapped",
        "running_mean and running_var are swapped",
        f"The weights predict what is stored as running_var ({then:.2f} of 1), and not what is "
        "stored as running_mean.",
        "Eval mode subtracts variances and divides by means: predictions are wrong or NaN.",
        Severity.ERROR,
    )


def _with_bias(fits: Sequence[Fit]) -> Cause | None:
    if any(f.link.target.bias is None or f.link.source.bias is None for f in fits):
        return None
    then = _after(fits, lambda f: _both_ends(f.link))
    if then is None:
        return None
    return Cause(
        "mean and bias",
        "running_mean and bias are swapped",
        f"With both put back, the weights predict the means ({then:.2f} of 1).",
        "Eval mode subtracts β and adds the means: predictions are wrong.",
        Severity.ERROR,
    )


def _negated(fits: Sequence[Fit]) -> Cause | None:
    then = _after(fits, lambda f: with_statistics(f, -f.stored_mean, f.stored_variance))
    if then is None:
        return None
    return Cause(
        "sign",
        "the running means have the wrong sign",
        f"The weights predict the means with their sign changed ({then:.2f} of 1).",
        "Eval mode moves activations away from their mean instead of towards it.",
        Severity.ERROR,
    )


def _inverse(fits: Sequence[Fit]) -> Cause | None:
    if len(fits) < FEWEST_LINKS or median([f.scale_correlation for f in fits]) > INVERSE:
        return None
    return Cause(
        "inverse",
        "running_var holds inverses",
        "Stored variances fall where the weights predict that they rise: 1/variance or "
        "1/deviation, as other frameworks and fused kernels keep it, was stored in their place.",
        "Eval mode multiplies where it should divide: predictions are wrong.",
        Severity.ERROR,
    )


def _after(fits: Sequence[Fit], change: Callable[[Fit], Link | None]) -> float | None:
    """Median alignment once values were put back, where that is convincing."""
    # The weights of a model that ran in a process of its own are not here to be read again.
    there = (fit for fit in fits if fit.link.weights.readable)
    links = [link for fit in there if (link := change(fit)) is not None]
    if len(links) < min(FEWEST_LINKS, len(fits)):
        return None
    found = agreement_of(tuple(links), ()).fits
    if len(found) < len(links) / 2 or not found:
        return None
    if len(links) < FEWEST_LINKS and not all(map(agrees, found)):
        return None  # of a link or two each has to follow the weights beyond chance
    then = median([f.alignment for f in found])
    return then if then >= FITS else None


def with_statistics(fit: Fit, mean: Floats, variance: Floats) -> Link:
    """The link of a fit with other statistics at its target."""
    stored = fit.link.target.running_mean
    assert stored is not None  # noqa: S101  (fits have statistics)
    target = replace(
        fit.link.target,
        running_mean=Values(mean, stored.dtype),
        running_var=Values(variance, stored.dtype),
    )
    return replace(fit.link, target=target)


def _both_ends(link: Link) -> Link | None:
    source, target = _turned(link.source), _turned(link.target)
    return None if source is None or target is None else replace(link, source=source, target=target)


def _turned(layer: NormLayer) -> NormLayer | None:
    """A layer with mean and β in each other's place."""
    if layer.running_mean is None or layer.bias is None:
        return None
    return replace(layer, running_mean=layer.bias, bias=layer.running_mean)
