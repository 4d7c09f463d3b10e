"""Evidence apart from links between two norms: the first norm, copies, rectified values.

The thresholds lie above what healthy models of two dozen families reach.
"""

from collections.abc import Sequence
from math import log

from normcheck.norms.belonging.first_norm import FirstNorm
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.fit_places import FAINT
from normcheck.norms.belonging.pooled import missed
from normcheck.norms.layer import Confidence
from normcheck.norms.layer_numbers import median
from normcheck.often_made import often_made
from normcheck.rules.evidence.mismatch_causes import ONE_FACTOR
from normcheck.wording import number

MOSTLY = 0.9
"""Of the first norm's means, what an input explains where the rest is that of the input: means of
many deviations leave many. Generated images differ by the place on their grid, which a stride
meets differently, and left 0.64 deviations of 2.5."""
MOST_INPUTS = 4
"""Channels of an input that may be taken to vary alike: those of images and sounds."""
LOOSE = 0.4
"""How loosely the variances of the first norm follow its weights where these are others: at most
0.14 in 92 healthy small networks and 37 published ones, 0.44 to 0.89 where its channels are in
another order or weights have moved by as much as they are."""
FEWEST_RECTIFIED = 3
"""Norms behind activations that speak together."""
FEWEST_FOLLOWING = 2
FOLLOWS = 0.85
"""Alignment from which such norms follow their weights well enough to tell a factor. Where values
are not normal before the ReLU, their moments tell them wrongly, and nothing is aligned so well."""
OTHER_UNITS = 1.4
"""A factor that all of them have, up or down, from which statistics are in other units."""


@often_made()
class Indication:
    """One number that may speak against statistics."""

    key: str
    value: float
    threshold: float
    """Above it, it speaks against them."""
    says: str
    """What it means, in a sentence without its number."""
    layers: tuple[str, ...]

    @property
    def speaks(self) -> bool:
        """Whether it does."""
        return self.value > self.threshold

    @property
    def sentence(self) -> str:
        """With its number, and what healthy models reach."""
        return f"{self.says} ({number(self.value)}, at most {number(self.threshold)} elsewhere)."


def of_first(first: FirstNorm) -> list[Indication]:
    """What the first norm shows, whose weights the input reaches."""
    found = [
        Indication(
            "first norm",
            first.leftover if first.explained < MOSTLY else 0.0,
            0.55,
            "No input explains the means of the first norm, by so many of its deviations",
            (first.path,),
        )
    ]
    if first.taps > 1 and len(first.means) <= MOST_INPUTS and _are_together(first):
        found.append(
            Indication(
                "first variances apart",
                first.loose,
                LOOSE,
                "The variances of the first norm follow its weights under no input: 1 minus the "
                "correlation of their logarithms",
                (first.path,),
            )
        )
    # Signals over time go together more than any input that is tried, by as much as deviations in
    # place of variances would make it: of a healthy network of them the slope was 0.38.
    if first.spread is not None and not (first.signal and first.spread > 0):
        found.append(
            Indication(
                "first variances",
                # Nothing that is stored in place of a variance varies more than it; an input whose
                # pixels or channels go together otherwise than any of those tried can make it so.
                1 - first.spread,
                0.45,
                "The variances of the first norm do not follow its weights as variances do, but as "
                "deviations (slope 1/2), inverses (slope -1) or what a rest of the initial 1 "
                "has flattened do: the slope of their logarithms misses 1 by so much",
                (first.path,),
            )
        )
    return found


def _are_together(first: FirstNorm) -> bool:
    """Whether names put the first norm with its weights, as ``conv1`` and ``bn1`` in one block.

    Of norms that were registered before the weights that they follow, the first one in a file
    stands beside weights of another block.
    """
    block, _, weights = first.weights.rpartition(".")
    of_norm, _, norm = first.path.rpartition(".")
    numbers = [name[len(name.rstrip("0123456789")) :] for name in (weights, norm)]
    numbered = weights.isdecimal() and norm.isdecimal()
    return block == of_norm and (numbered or "" in numbers or numbers[0] == numbers[1])


def of_growth(fits: Sequence[Fit]) -> list[Indication]:
    """Norms that share channels by concatenation: the one whose statistics differ most."""
    shared = [(f.link.grown.apart, f.link) for f in fits if f.link.grown is not None]
    if not shared:
        return []
    apart, link = max(shared, key=lambda pair: pair[0])
    of = link.grown.of if link.grown is not None else ""
    return [
        Indication(
            "shared channels",
            apart,
            0.28,
            "Two norms over the same values, as channels grow by concatenation, store different "
            "statistics: means or deviations are apart by so many deviations",
            (of, link.target.path),
        )
    ]


def behind_activations(fits: Sequence[Fit]) -> list[Indication]:
    """Norms behind a ReLU: mean and variance of rectified values are tied to each other."""
    found = _factor_behind(fits)
    if len(fits) >= FEWEST_RECTIFIED:
        found.append(
            Indication(
                "rectified",
                median([missed(f) for f in fits]),
                0.8,
                "Behind a ReLU a mean and a variance tell the values before it; these lie off what "
                "the weights predict, by the median so many deviations",
                tuple(f.link.target.path for f in fits),
            )
        )
    return found


def _factor_behind(fits: Sequence[Fit]) -> list[Indication]:
    """One factor between the weights and what moments tell of the values before a ReLU."""
    told = [
        f
        for f in fits
        if f.link.recognition.confidence is Confidence.HIGH
        and f.alignment > FOLLOWS
        and f.slope > 0
        and f.energy > FAINT
    ]
    logs = sorted(log(f.slope) for f in told)
    if len(told) < FEWEST_FOLLOWING or logs[-1] - logs[0] > log(ONE_FACTOR):
        return []
    return [
        Indication(
            "one factor",
            max(logs[0], -logs[-1]),
            log(OTHER_UNITS),
            "Behind a ReLU a mean and a variance tell the values before it; these follow the "
            "weights, but by one factor that is off 1 in every layer, by so much of a logarithm at "
            "least",
            tuple(f.link.target.path for f in told),
        )
    ]
