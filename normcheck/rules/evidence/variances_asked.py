"""Which links of a model are asked for variances, which are predicted through two layers.

Reading the weights of a link once more takes longer than all else that is asked of it.
"""

from collections.abc import Sequence

from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.fit import Fit, off_one
from normcheck.norms.belonging.fit_places import LARGEST_FACTOR
from normcheck.norms.belonging.likeliest_activation import is_certain
from normcheck.norms.belonging.two_layers import is_told
from normcheck.norms.layer_numbers import median

FEWEST_TOLD = 2
FEWEST_LINKS = 3
"""Links from which a spread is told, and certain ones from which no others are asked: of two, a
healthy network's was 0.62 of the predicted one."""
USUAL_SIZE = (-0.15, 1.25)
"""Logarithm of stored variances over those of independent inputs, the median over the links, from
noise to images of few pixels. Of two links, which tell no spread, no size is asked there: weights
would be read for nothing."""
CLOSELY = 0.97
FEWEST_CHANNELS = 16
"""Alignment of so many means from which a link that names make likely is there: unrelated means of
16 channels reach it under none of thirteen activations."""
MOST_LINKS, MOST_CHANNELS = 3, 24
"""Links of one model, and channels of each, that are read once more for this: a spread needs no
more."""
MOST_PROVEN = 6
"""The former where names alone do not prove them: of three in a healthy published network with
poolings between its blocks the spread was 0.57 of the predicted one, of all its links 0.82."""


def asked(agreement: Agreement) -> list[Fit]:
    """Links whose weights before the source are known: certain ones, or those that means prove."""
    known = [fit for fit in agreement.likely if is_told(fit)]
    certain = [fit for fit in known if is_certain(fit.link)]
    if len(certain) >= FEWEST_LINKS:
        return certain
    # Behind a sum or a max pooling one part alone may follow the means closely, up to a factor, but
    # not the variances.
    summed = {fit.link.target.path for fit in agreement.by_sums}
    return [
        fit
        for fit in known
        if is_certain(fit.link)
        or (
            fit.alignment >= CLOSELY
            and off_one(fit.slope) <= LARGEST_FACTOR
            and fit.stored_mean.size >= FEWEST_CHANNELS
            and fit.link.target.path not in summed
        )
    ]


def usual(known: Sequence[Fit]) -> bool:
    """Whether variances have the size that inputs usually give them, by one layer of weights."""
    least, most = USUAL_SIZE
    return least <= median([fit.log_scale for fit in known]) <= most


def chosen_of(known: Sequence[Fit], links: int) -> list[Fit]:
    """So many links, from the beginning of a model to its end."""
    # Not every second one: blocks have links of two kinds in turn.
    count, last = min(len(known), links), len(known) - 1
    return [known[round(last * place / (count - 1))] for place in range(count)]
