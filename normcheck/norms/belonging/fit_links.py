"""Predict the targets of a model's links, and compare."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.fit_places import (
    SAMPLED,
    exceptions,
    fit_all,
    usual_activation,
)
from normcheck.norms.belonging.likeliest_activation import is_certain
from normcheck.norms.belonging.pooled import missed, put_before_pooling
from normcheck.norms.belonging.prediction import Known, Prediction
from normcheck.norms.belonging.reaching import Hypothesis
from normcheck.norms.belonging.rectified import is_rectified, put_before
from normcheck.norms.belonging.small_maps import on_small_maps
from normcheck.norms.belonging.structure.link import Link, WeightStructure
from normcheck.norms.layer import NormLayer, Values
from normcheck.norms.layer_numbers import median
from normcheck.norms.weights_budget import BEYOND, within_budget
from normcheck.saved.prefetch import fetch_ahead

FEWEST_CHANNELS = 8
"""Below this a good fit can be chance."""
FITS_AS_IT_IS = 0.6
CLEARLY_TURNED = 0.1
"""Alignment from which square weights are read as a convolution's, and the gain for which they
are read as a transposed one's."""
RECTIFIED = "its means are those of rectified values: the norm stands behind the activation"
NOT_FED = "no norm feeds it directly"
NOTHING = 1e-6
"""(stored mean / σ)² up to which a channel's mean is rounding."""


def agreement_of(
    links: tuple[Link, ...], norms: tuple[str, ...], budget: int | None = None
) -> Agreement:
    """Predict the target of every link and compare.

    Args:
        links: Of one model.
        norms: Paths of its norms with statistics, for the list of those not judged.
        budget: Bytes of weights that are read; None for the usual number.
    """
    reasons = dict.fromkeys(norms, NOT_FED)
    usable = []
    sound = []
    for link in links:
        reason = cannot_judge(link)
        if reason:
            reasons[link.target.path] = reason
        else:
            sound.append(link)
    before = put_before(sound)
    for place, link in enumerate(sound):
        if place in before:
            usable.append(before[place])
        elif is_rectified(link.target) and link.grown is None:
            reasons[link.target.path] = RECTIFIED
        else:
            usable.append(link)
    chosen = within_budget(usable, budget)
    reasons |= {link.target.path: BEYOND for i, link in enumerate(usable) if i not in chosen}
    read = [usable[i] for i in sorted(chosen)]
    fetch_ahead(link.weights for link in read)
    # Weights of a model that diverged overflow on the way; their links are left out below.
    with np.errstate(over="ignore", invalid="ignore"):
        known: Known = {}
        usual = usual_activation(read, known)
        if any(link.either_way for link in read) and _misses(known):
            turned = _turned(read)
            if turned is not read:
                read, known = turned, {}
                usual = usual_activation(read, known)
        fits = fit_all(read, usual, known)
        apart = exceptions(fits, known)
        if apart:
            rest = [link for link in read if id(link) not in apart]
            known = {key: prediction for key, prediction in known.items() if key not in apart}
            fits = [*fit_all(rest, usual_activation(rest, known), known), *apart.values()]
        fits = _behind_poolings(on_small_maps(fits))
    order = {link.target.path: i for i, link in enumerate(links)}
    fits.sort(key=lambda fit: order[fit.link.target.path])
    judged = {fit.link.target.path for fit in fits}
    named = [
        "ReLU before the norm" if fit.link.rectified else fit.activation
        for fit in fits
        if fit.explained > 0.5
    ]
    common = max(set(named), key=lambda name: (named.count(name), name)) if named else ""
    return Agreement(
        tuple(fits), common, tuple((p, r) for p, r in reasons.items() if p not in judged)
    )


def _behind_poolings(fits: list[Fit]) -> list[Fit]:
    """The fits, of norms that seem to stand behind a pooling with statistics as before it.

    What stands before the weights was chosen under statistics behind it, so it is asked again.
    """
    before = put_before_pooling(fits)
    if not before:
        return fits
    known: Known = {}
    links = [before.get(id(fit.link), fit.link) for fit in fits]
    again = {
        fit.link.target.path: fit
        for fit in on_small_maps(fit_all(links, usual_activation(links, known), known))
    }
    found = []
    for fit in fits:
        other = again.get(fit.link.target.path) if id(fit.link) in before else None
        found.append(fit if other is None or missed(other) >= missed(fit) else other)
    return found


def agreement_with(
    links: Callable[[], tuple[Link, ...]], layers: Sequence[NormLayer], budget: int | None
) -> Agreement | None:
    """How the running statistics fit the weights; None where there are none, or no link.

    Args:
        links: Finds the links of the model; not asked where no layer has statistics.
        layers: Of the model.
        budget: Bytes of weights that are read; None for the usual number.
    """
    stored = tuple(layer.path for layer in layers if layer.has_statistics)
    if not stored:
        return None
    found = links()
    return agreement_of(found, stored, budget) if found else None


def cannot_judge(link: Link) -> str:
    """Why numbers at the ends of a link allow no judgement; empty where they do."""
    target = link.target
    mean, variance = target.running_mean, target.running_var
    if mean is None or variance is None or mean.size < FEWEST_CHANNELS:
        return f"fewer than {FEWEST_CHANNELS} channels"
    if mean.size != variance.size:
        return "its mean and variance are not of one length"
    if not (mean.finite and variance.finite):
        return "its statistics are not finite"
    if any(
        stored is not None and not stored.finite
        for stored in (link.source.weight, link.source.bias)
    ):
        return "the scale or shift before it is not finite"
    if _practically_0(mean, variance):
        return "its means are practically 0: nothing is there to be predicted"
    return ""


def _practically_0(mean: Values, variance: Values) -> bool:
    """Whether no mean is more than rounding beside its deviation; both finite."""
    if not mean.size:
        return True
    largest, most = (max(-each.ends[0], each.ends[1]) for each in (mean, variance))
    if largest * largest > NOTHING * most:
        return False  # as nearly always: the largest of them is more than that beside any
    return bool((np.square(mean.numbers) <= NOTHING * np.abs(variance.numbers)).all())


def _misses(known: Known) -> bool:
    """Whether the links that were sampled fit under no activation."""
    best = [float(p.scores.max()) for p in known.values() if p.finite]
    return bool(best) and median(best) < FITS_AS_IT_IS


def _turned(links: list[Link]) -> list[Link]:
    """The links with square weights read the other way, where that is clearly right.

    A transposed convolution stores its inputs first. Told from a few links of the model that fit
    as badly one way as the other fits well.
    """
    open_ones = [link for link in links if link.either_way]
    sample = sorted(open_ones, key=lambda link: not is_certain(link))[:SAMPLED]
    plain = [Hypothesis("ReLU"), Hypothesis("no activation"), Hypothesis("leaky ReLU 0.2")]
    here = [max(p.scores) for link in sample if (p := Prediction(link, plain)).finite]
    if not here or median(here) >= FITS_AS_IT_IS:
        return links
    turned = [replace(link, kind=WeightStructure.TRANSPOSED, either_way=False) for link in sample]
    there = [max(p.scores) for link in turned if (p := Prediction(link, plain)).finite]
    if len(there) < len(here) or median(there) < max(FITS_AS_IT_IS, median(here) + CLEARLY_TURNED):
        return links
    return [
        replace(link, kind=WeightStructure.TRANSPOSED, either_way=False)
        if link.either_way
        else link
        for link in links
    ]
