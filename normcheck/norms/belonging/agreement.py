"""Do running statistics belong to the weights before them? What fits, and under what.

Prediction and stored statistics are compared link by link; see ``prediction.py`` for how a
link predicts.
"""

from collections.abc import Sequence
from functools import cached_property
from math import log

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.fit import Fit, beyond_none, off_one
from normcheck.norms.belonging.fit_places import (
    AGREES,
    CONVINCING,
    LARGEST_FACTOR,
    MISSES,
)
from normcheck.norms.belonging.max_pooled import has_room_for_pooling
from normcheck.norms.layer import Confidence
from normcheck.norms.layer_numbers import median

FEWEST_LEVEL = 3
SAME_LEVEL = 0.2
"""Layers that tell the model's common factor between means and weights, and the logarithm by which
one that is vouched for may differ from it: of a quarter of the initial value it is 0.29, and nine
in ten layers of published models are within 0.1."""
LIKE_RELU = frozenset(("ReLU", "ReLU6", "leaky ReLU 0.01", "leaky ReLU 0.1"))
"""Activations whose means differ by less than the factor for which another one is chosen."""
PART_OF_A_SUM = "a residual sum reaches it, of which one part alone explains its means"
OWN_ACTIVATION = "its means fit under an activation that no other layer has"
OTHER_LEVEL = "its means fit, but by another factor than those of the other layers"
OTHER_SIZE = "its means follow the weights, but are of another size than these predict"
AS_POOLED = (
    "its means follow the weights, but are larger than these predict, as behind a max pooling, "
    "which a file of weights does not show"
)
BEYOND_CHANCE = 3.0
"""Standard errors by which means correlate with predicted ones at least where they vouch: of 1,161
links of published models that agree none has fewer than 4, permuted channels that are still
explained, for all of their means are about alike, 1.4 at most."""
ALIKE = "its means are explained, but in any order of its channels: they are about alike"
ROUGHLY = "it stands behind its activation, where the weights tell means but roughly"


@lazy_dataclass(eq=False)
class Agreement:
    """The fits of a model, and what could not be judged."""

    fits: tuple[Fit, ...]
    activation: str
    """The activation that most links are consistent with."""
    unjudged: tuple[tuple[str, str], ...]
    """Norms with statistics that no link predicts, and why."""
    by_sums: tuple[Fit, ...] = ()
    """Agreeing fits of norms that none of the others explains, by what residual sums hand on:
    see ``residual_sums.py``. They speak for a layer, never against one."""
    behind_sums: frozenset[str] = frozenset()
    """Norms that these sums reach, where they are clearly there: no link that leaves the sum out
    vouches for them."""
    gated: frozenset[int] = frozenset()
    """Numbers of channels that gates may weaken on their way, as those of squeeze-and-excitation
    do."""

    @cached_property
    def likely(self) -> tuple[Fit, ...]:
        """The fits whose links probably exist: only these can speak against a model.

        Without those behind a ReLU, whose means the weights predict but roughly.
        """
        return tuple(
            f
            for f in self.fits
            if f.link.recognition.confidence is not Confidence.LOW and not f.link.rectified
        )

    @property
    def rectified(self) -> tuple[Fit, ...]:
        """The fits of norms that stand behind a ReLU."""
        return tuple(f for f in self.fits if f.link.rectified)

    @property
    def misses(self) -> bool:
        """Whether by the median nothing fits, whatever the factor: by these links at least."""
        return bool(self.likely) and median([f.alignment for f in self.likely]) < MISSES

    @cached_property
    def agreeing(self) -> tuple[Fit, ...]:
        """The fits in which prediction and statistics agree, by whatever link."""
        sure = [fit for fit in self._following if not self._doubt(fit)]
        if (level := _level(sure)) is not None:
            sure = [fit for fit in sure if abs(log(fit.slope) - level) <= SAME_LEVEL]
        return (*sure, *self.by_sums)

    @property
    def doubted(self) -> dict[str, str]:
        """Norms whose means follow the weights, which do not vouch for them, and why not."""
        vouched = {fit.link.target.path for fit in self.agreeing}
        each = {f.link.target.path: _size(f) for f in self.fits if f.alignment >= CONVINCING}
        each |= {fit.link.target.path: self._doubt(fit) or OTHER_LEVEL for fit in self._following}
        return {path: why for path, why in each.items() if path not in vouched}

    @cached_property
    def _following(self) -> list[Fit]:
        """The plain fits in which prediction and statistics agree, taken alone."""
        return [
            fit
            for fit in self.fits
            if fit.explained >= AGREES and off_one(fit.slope) <= LARGEST_FACTOR
        ]

    def _doubt(self, fit: Fit) -> str:
        """What a link by itself leaves open; empty where nothing."""
        if fit.link.target.path in self.behind_sums:
            return PART_OF_A_SUM
        if beyond_none(fit) < BEYOND_CHANCE:
            return ALIKE
        return "" if self._is_shared(fit) else OWN_ACTIVATION

    def _is_shared(self, fit: Fit) -> bool:
        """Whether a fit's activation is the model's, or at least that of another of its links.

        One that a single link has alone was chosen by its very means: half of a ReLU's are those
        of a SiLU, and vouch for nothing.
        """
        if len(fit.link.among) == 1 or fit.link.slopes is not None or fit.link.inflow is not None:
            return True
        alike = {fit.activation} if fit.activation not in LIKE_RELU else LIKE_RELU
        return self.activation in alike or sum(f.activation in alike for f in self.fits) > 1


def _size(fit: Fit) -> str:
    """Why a fit vouches for nothing that follows, but by a factor."""
    return AS_POOLED if fit.slope > 1 and has_room_for_pooling(fit.link) else OTHER_SIZE


def _level(fits: Sequence[Fit]) -> float | None:
    """Logarithm of the factor that most layers have; None where too few tell one."""
    return median([log(fit.slope) for fit in fits]) if len(fits) >= FEWEST_LEVEL else None
