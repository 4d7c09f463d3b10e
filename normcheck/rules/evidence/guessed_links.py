"""What links that are guesses would say if they were certain.

A link that is a guess is held against nobody: statistics that it does not explain may be right, and
the link wrong. Where it explains means closely, it is there; what certain links would then read
beside the means (variances that do not follow, one factor in all layers) keeps it from vouching.
"""

from dataclasses import replace
from math import log

from normcheck.norms.belonging.agreement import FEWEST_LEVEL, Agreement
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.fit_places import CONVINCING
from normcheck.norms.layer import Confidence, Recognition
from normcheck.norms.layer_numbers import median
from normcheck.rules.evidence.belonging_evidence import PROVEN_FACTOR, readings

UNLIKE = "their means fit, by links that are guesses, but what else these predict does not"


def doubted_guesses(agreement: Agreement | None) -> dict[str, str]:
    """Norms that only guesses vouch for, and that these would accuse if they were certain.

    Args:
        agreement: Of one model; None where nothing was judged.

    Returns:
        Why each is not vouched for, by its path.
    """
    if agreement is None:
        return {}
    sums = {id(fit) for fit in agreement.by_sums}
    vouching = [fit for fit in agreement.agreeing if _is_guess(fit) and id(fit) not in sums]
    if not vouching:
        return {}
    level = median([log(fit.slope) for fit in vouching])
    if len(vouching) >= FEWEST_LEVEL and abs(level) > PROVEN_FACTOR:
        return {fit.link.target.path: UNLIKE for fit in vouching}
    taken = tuple(
        replace(fit, link=replace(fit.link, recognition=_CERTAIN))
        for fit in agreement.fits
        if _is_guess(fit) and fit.alignment >= CONVINCING
    )
    against = readings(Agreement(taken, agreement.activation, ()), None)
    accused = {path for reading in against if reading.speaks for path in reading.layers}
    guessed = {fit.link.target.path for fit in vouching}
    return dict.fromkeys(sorted(accused & guessed), UNLIKE)


def _is_guess(fit: Fit) -> bool:
    return fit.link.recognition.confidence is Confidence.LOW


_CERTAIN = Recognition(Confidence.HIGH, "a guess, taken for certain")
