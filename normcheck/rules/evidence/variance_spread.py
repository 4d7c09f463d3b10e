"""What variances show beside those that two layers of weights make.

Their spread: a deviation in the place of a variance halves the spread of logarithms, an inverse
turns their order round, and a rest of the initial value 1 flattens small ones. Their size: those of
another unit are off by its square, in every layer, also where another activation explains the size
of the means.
"""

from collections.abc import Collection, Iterable, Sequence
from math import exp, log

from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.likeliest_activation import is_certain, likely_factors
from normcheck.norms.belonging.pooled import MOST_POOLINGS, has_room
from normcheck.norms.belonging.two_kernels import INPUTS, USUAL
from normcheck.norms.belonging.two_layers import Spread, TwoLayers, two_layers
from normcheck.norms.layer_numbers import median
from normcheck.rules.evidence.evidence_apart import Indication
from normcheck.rules.evidence.variances_asked import (
    FEWEST_CHANNELS,
    FEWEST_LINKS,
    FEWEST_TOLD,
    MOST_CHANNELS,
    MOST_LINKS,
    MOST_PROVEN,
    asked,
    chosen_of,
    usual,
)

VARIED = 0.1
"""Standard deviation of predicted log variances from which stored ones can follow them."""
FOLLOW = 0.4
"""Correlation from which they do, up or down."""
TOGETHER = 25.0
"""Channels of perfect evidence: n r² / (1 - r²) of all links, those that fall taken away from those
that rise."""
_EXACT = 0.05
LEAST = 0.70
"""Ratio of stored to predicted spread below which they are no variances. Of 66 healthy networks one
reaches 0.75, of GELUs, in one of the states that its training went through."""
PLAINLY = 0.9
"""Ratio of stored to predicted spread at which nothing else is tried."""
SMALLEST, LARGEST = 0.35, 1.05
"""Logarithm by which variances may be smaller and larger than predicted: -0.14 to 0.81 by the
median over the links of a model, in 92 small networks of two seeds and 37 published ones. The
largest are of tables, whose features go together more than any input that is tried."""
SMALLEST_OF_TWO, LARGEST_OF_TWO = 1.0, 2.0
"""The same of two links, of which the first stands behind the input: channels of smooth images go
together more than any input that is tried, and wide kernels add them up or take them away. Of
healthy networks for patches of photographs one in seven has more than 1.05 there, up to 1.5."""
ROOM = 0.35
"""The same more where the spread already speaks."""
REST = 0.7
"""Logarithm of the variance below which a quarter lie, up to which a rest of the initial 1 may have
flattened them."""
WEAKENED = 1.5
"""The smallest where an average pooling may stand before the norms, which leaves a quarter, or
gates that are half open, which leave as much."""
LESS = 0.75
"""Factor of means behind a ReLU below which inputs may have heavy tails: 0.6 in one layer of a
healthy published network, whose variances are 9 times those predicted through two layers."""
FOLLOWS = 0.8
"""Alignment from which means follow the weights, so that variances have a size to have."""


def of_variances(agreement: Agreement) -> list[Indication]:
    """How stored variances lie beside what two layers of weights predict.

    Args:
        agreement: Of one model, whose file is still open.
    """
    known = asked(agreement)
    if len(known) < FEWEST_TOLD or (len(known) < FEWEST_LINKS and usual(known)):
        return []
    # A size needs no more than the mean of some channels; links that no name proves, more of them.
    channels = MOST_CHANNELS if len(known) >= FEWEST_LINKS else FEWEST_CHANNELS
    links = MOST_LINKS if all(is_certain(fit.link) for fit in known) else MOST_PROVEN
    chosen = chosen_of(known, links)
    follow = {f.link.target.path for f in agreement.likely if f.alignment > FOLLOWS and f.slope > 0}
    others = two_layers(chosen[1:], channels)
    if len(chosen) == FEWEST_LINKS and _settled(others, follow):
        return []
    first = two_layers(chosen[:1], channels)
    each = [link for link in (*first, *others) if link is not None]
    spread = _of_spread(each) if len(known) >= FEWEST_LINKS else []
    sizes = _of_size(each, follow, weakened=_may_be_weakened(agreement, chosen))
    return [*spread, *(one for one in sizes if not one.speaks or _not_of_tails(one, agreement))]


def _of_spread(each: Sequence[TwoLayers]) -> list[Indication]:
    """Whether variances spread as they are predicted to."""
    found = None
    for inputs in (USUAL, INPUTS):
        found = _pooled(each, inputs)
        if found is not None and found[0] > PLAINLY:
            break
    if found is None:
        return []
    ratio, told = found
    paths = tuple(one.path for one in told)
    if not _explained(ratio, [link for link in each if link.path in paths]):
        return []
    return [
        Indication(
            "spread of variances",
            1 - ratio,
            1 - LEAST,
            "Variances do not spread as two layers of weights make them, but as deviations (1/2 "
            "off), inverses (2 off) or what a rest of the initial 1 has flattened: 1 minus the "
            "ratio of their logarithms' spread",
            paths,
        )
    ]


def _explained(ratio: float, told: Sequence[TwoLayers]) -> bool:
    """Whether what would spread variances so would make them as large as they are.

    Their size tells it where they are not about 1: deviations are smaller than the predicted
    variances by their own logarithm, inverses larger by twice theirs and those of deviations by
    thrice, and a rest of the initial 1 shows where variances are no larger. Healthy variances of
    time series spread by 0.54 to 0.59 of the predicted ones, as inputs go together over time.

    Args:
        ratio: Stored over predicted spread, below 0 where stored ones fall.
        told: Links that tell it.
    """
    known = [(sizes, *link.stored()) for link in told if (sizes := link.sizes()) is not None]
    if not known or (ratio > 0 and median([quarter for *_, quarter in known]) <= REST):
        return True
    times = (1,) if ratio > 0 else (-2, -3)  # deviations; inverses, and those of deviations
    return any(
        median([low + k * middle for (low, _), middle, _ in known]) <= LARGEST + ROOM
        and median([high + k * middle for (_, high), middle, _ in known]) >= -SMALLEST - ROOM
        for k in times
    )


def _of_size(
    each: Sequence[TwoLayers], follow: Collection[str], *, weakened: bool
) -> list[Indication]:
    """Whether variances have the size that they are predicted to have.

    Args:
        each: Links that were read.
        follow: Paths of the norms whose means follow the weights.
        weakened: Whether an average pooling or gates may stand before some norms.
    """
    sizes = [
        (scale, one.path)
        for one in each
        if one.path in follow and (scale := one.scale()) is not None
    ]
    if len(sizes) < FEWEST_TOLD:
        return []
    paths = tuple(path for _, path in sizes)
    of_two = len(sizes) < FEWEST_LINKS
    size = median([scale for scale, _ in sizes])
    if size >= 0:
        return [
            Indication(
                "variances too large",
                size,
                LARGEST_OF_TWO if of_two else LARGEST,
                "Variances are larger than two layers of weights make them, under any input that "
                "suits their shape, by the median so much of a logarithm",
                paths,
            )
        ]
    return [
        Indication(
            "variances too small",
            -size,
            WEAKENED if weakened else SMALLEST_OF_TWO if of_two else SMALLEST,
            "Variances are smaller than two layers of weights make them, under any input that "
            "suits their shape, by the median so much of a logarithm",
            paths,
        )
    ]


def _not_of_tails(found: Indication, agreement: Agreement) -> bool:
    """Whether large variances are none of inputs with heavy tails, such as spectrograms of calls.

    These make means behind a ReLU smaller than predicted, as a SiLU does, and variances larger.
    Other units make means larger, too.
    """
    # All layers have that input: those tell of it, too, whose variances are not known.
    told = [fit for fit in agreement.likely if fit.alignment > FOLLOWS and fit.slope > 0]
    if found.key != "variances too large" or any(
        fit.link.among or fit.link.inflow is not None or fit.link.slopes is not None for fit in told
    ):
        return True
    some = chosen_of(told, MOST_PROVEN) if len(told) > 1 else told
    return min(likely_factors(fit.link).get("ReLU", 1.0) for fit in some) >= LESS


def _may_be_weakened(agreement: Agreement, chosen: Sequence[Fit]) -> bool:
    """Whether average poolings or gates may stand before norms, which leave less of variances.

    Poolings before all norms behind which names leave room, gates where the file has some of as
    many channels.
    """
    if any(fit.link.source.features in agreement.gated for fit in chosen):
        return True
    return 0 < sum(has_room(fit.link) for fit in agreement.likely) <= MOST_POOLINGS


def _settled(others: Sequence[TwoLayers | None], follow: Collection[str]) -> bool:
    """Whether two of three links show that variances are as they should be.

    The median of three then is, too, whatever the first of them says, and its weights need not be
    read. Where neither of the two tells a spread, the first alone tells none.
    """
    telling = []
    for link in others:
        if link is None or link.path not in follow:
            return False
        spread, size = link.spread(), link.scale()
        if spread is None or size is None or not -SMALLEST <= size <= LARGEST:
            return False
        if _tells(spread):
            telling.append(spread.correlation > 0 and spread.ratio >= LEAST)
    return len(telling) != 1 and all(telling)


def _tells(spread: Spread) -> bool:
    """Whether stored variances follow the predicted ones, up or down."""
    return spread.varied > VARIED and abs(spread.correlation) > FOLLOW


def _pooled(
    links: Sequence[TwoLayers], inputs: Iterable[tuple[float, float]]
) -> tuple[float, list[Spread]] | None:
    """Stored over predicted spread of all links, below 0 where they fall, and who tells it."""
    spreads = [one for link in links if (one := link.spread(inputs)) is not None]
    told = [one for one in spreads if _tells(one)]
    weights = [_weight(one) for one in told]
    way = sum(w if one.correlation > 0 else -w for w, one in zip(weights, told, strict=True))
    if len(told) < FEWEST_TOLD or abs(way) < TOGETHER:
        return None
    logs = [log(one.ratio) for one in told]
    mean = sum(w * one for w, one in zip(weights, logs, strict=True)) / sum(weights)
    # The milder of two ways to average: one link with a ratio of its own accuses nobody.
    ratio = exp(max(mean, median(logs)))
    return (ratio if way > 0 else -ratio), told


def _weight(spread: Spread) -> float:
    """What it tells of a ratio: the reciprocal of the variance of its logarithm, about."""
    shared = spread.correlation**2
    return spread.channels * shared / (1 - shared + _EXACT)
