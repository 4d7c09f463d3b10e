"""Which activation several links share, told by the shape of what they predict."""

from math import log

import numpy as np

from normcheck.norms.belonging.prediction import AS_GOOD, Prediction
from normcheck.norms.belonging.reaching import Hypothesis
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.link import Link
from normcheck.norms.layer import Confidence, Floats
from normcheck.norms.layer_numbers import median

AS_NEAR = 0.05
"""Difference of the logarithms of two factors that does not tell activations apart."""
FEWEST_TELLING = 3
AS_LIKELY = 0.2
"""Difference of the mean logarithm of what is missed that does not tell activations apart. Of 140
healthy networks of 16 styles the one that was there came within 0.21 of the best in all but one."""
ROUGHLY = 0.05
AS_ROUGH = 0.4
"""Share missed from which even the best fit is rough, as where means hardly differ from 0, and the
difference that does not tell activations apart then: what is missed is not the activation's."""
EXACT = 1e-3
"""Share missed below which nothing is told: the rounding of statistics that still move."""

HYPOTHESES = tuple(Hypothesis(name) for name in ACTIVATIONS)
PLACES = {hypothesis.activation: place for place, hypothesis in enumerate(HYPOTHESES)}


def is_certain(link: Link) -> bool:
    """Whether a link is as good as sure, as inside a block."""
    return link.recognition.confidence is Confidence.HIGH


def likeliest(each: list[Prediction]) -> int:
    """The place of the activation that several links share.

    By what they miss (1 minus the alignment), as the mean of its logarithm over the links: the
    likelihood of errors of unknown size. Of those that are about as likely, the one whose factor
    is nearest to 1: that is what tells a ReLU from a leaky one.
    """
    scores = np.array([prediction.scores for prediction in each])
    allowed = [PLACES[name] for name in _allowed(each)]
    middle = np.sort(scores, axis=0)[len(each) // 2]
    certain = sum(is_certain(prediction.link) for prediction in each) >= FEWEST_TELLING
    plain = [p for p in allowed if HYPOTHESES[p].activation != "sigmoid"]
    if not certain:
        others = [p for p in plain if HYPOTHESES[p].activation != "tanh"] or plain
        # Of small values a tanh is nearly none, but for a factor that nothing else explains.
        closest = max(others, key=lambda p: float(middle[p]))
        sure = all(is_certain(prediction.link) for prediction in each) and len(each) > 1
        plain = plain if sure and HYPOTHESES[closest].activation == "no activation" else others
    candidates = [
        p
        for p in allowed
        if p in plain
        or (HYPOTHESES[p].activation == "sigmoid" and _is_sigmoid(p, plain, each, scores, middle))
    ]
    # Links differ in how well any activation fits: what counts is by what factor one misses less.
    missed = np.log(np.maximum(1.0 - scores, EXACT)).mean(axis=0)
    least = min(float(missed[place]) for place in candidates)
    apart = AS_LIKELY if least < log(ROUGHLY) else AS_ROUGH
    equal = [place for place in candidates if missed[place] <= least + apart]
    if len(each) < FEWEST_TELLING:
        # What a link or two miss by chance differs by more than a factor.
        near = scores.mean(axis=0)
        most = max(float(near[place]) for place in candidates)
        equal = [p for p in candidates if p in equal or near[p] >= most - AS_GOOD]
    off_one = np.array([prediction.off_one for prediction in each])
    off = {place: median(off_one[:, place]) for place in equal}
    # The first, and simplest, of those whose factors are about as near.
    nearest = min(off.values())
    return min(place for place in equal if off[place] <= nearest + AS_NEAR)


def _allowed(each: list[Prediction]) -> tuple[str, ...]:
    """The activations that a module tree leaves for these links; all where there is none."""
    named = {prediction.link.among for prediction in each}
    among = named.pop() if len(named) == 1 else ()
    return among or tuple(ACTIVATIONS)


def _is_sigmoid(
    place: int, plain: list[int], each: list[Prediction], scores: Floats, middle: Floats
) -> bool:
    """Whether a sigmoid is likely: much better than all others, on certain links.

    Healthy ReLU networks with additions or max pooling fit a sigmoid about as well.
    """
    if not plain:
        return True
    certain = [i for i, prediction in enumerate(each) if is_certain(prediction.link)]
    if len(certain) < FEWEST_TELLING:
        return False
    other = float(max(middle[p] for p in plain))
    here = float(np.sort(scores[certain, place])[len(certain) // 2])
    much_better = here > 0.9 and middle[place] >= other + 0.05
    nearly_exact = here > 0.98 and 1 - middle[place] < (1 - other) / 3
    return bool(much_better or nearly_exact)


ABOUT_AS_WELL = 0.03
"""Alignment by which one activation may fit worse than another that is hardly more likely."""


def likely_factors(link: Link) -> dict[str, float]:
    """The factor of the means under each activation that fits about as well as the best."""
    prediction = Prediction(link, HYPOTHESES)
    if not prediction.finite:
        return {}
    least = float(prediction.scores.max()) - ABOUT_AS_WELL
    near = [place for place, score in enumerate(prediction.scores) if score >= least]
    return {HYPOTHESES[place].activation: prediction.fit(place).slope for place in near}
