"""What the weights of a link predict for the statistics behind them.

For a link A → φ → W → B the mean of B's input follows from A's γ and β, φ and W alone:

    m_i = E[φ(y)],  v_i = Var[φ(y)],  y ~ N(β_i, γ_i²)
    mean_o = b_o + Σ_taps c(tap) Σ_i W[o, i, tap] m_i
    variance_o ≈ Σ W² v   (inputs taken as independent)

See ``weighted_sums.py`` for c(tap), which depends on a border f. φ, f and the strength of a max
pooling are not in a state dict; of a few values the best-fitting is taken, which cannot make
unrelated statistics fit: there are hundreds of channels and a handful of choices.
"""

from collections.abc import Sequence
from copy import copy
from functools import cached_property
from math import exp

import numpy as np
from numpy.typing import NDArray

from normcheck.norms.belonging.fit import (
    LEAST_ENERGY,
    Fit,
    HeldAgainst,
    Predicted,
    fit_of,
    off_one,
    weighted_at_once,
    weighted_means,
)
from normcheck.norms.belonging.reaching import Channels, Hypothesis, Reaching, reaching
from normcheck.norms.belonging.structure.link import Link
from normcheck.norms.belonging.weighted_sums import (
    BORDERS,
    behind_weights,
    shares_seen,
    variances_behind,
)
from normcheck.norms.layer import Floats

AS_GOOD = 0.006
"""Difference of alignments that does not tell hypotheses apart."""
_LARGE = 1e30
"""Far below what is too large for a number in single precision."""
_NO_FACTOR = 690.0
"""Logarithm of a factor beyond what any is."""
USUAL_BORDERS = 4
"""Of ``BORDERS``: images of 8 pixels or more."""
_ALIKE = np.ones(len(BORDERS))
"""What stands for all borders where they are alike."""
SAME_LIKELIHOOD = 4.0
"""n log(missed / least missed) up to which a border is as likely as the best: two standard
deviations of a single parameter."""


class Prediction:
    """One link under several hypotheses, each with every border.

    Args:
        link: What is predicted.
        hypotheses: Ignored for a PReLU, whose slopes are known; of them only the strength of
            a max pooling counts where a graph shows what reaches the weights.
        inputs: What reaches the weights under each hypothesis, if known.
        weighted: As :func:`weighted_means` gives them, if known.
    """

    def __init__(
        self,
        link: Link,
        hypotheses: Sequence[Hypothesis],
        inputs: Reaching | None = None,
        weighted: tuple[Floats, Floats] | None = None,
    ) -> None:
        """Read the weights and predict."""
        self.link = link
        if link.inflow is not None:
            # A graph is followed only where there is one: the module imports a good deal.
            from normcheck.norms.belonging.structure.inflow import activation_of, pools_of

            name = activation_of(link.inflow)
            self.hypotheses = tuple(Hypothesis(name, pool) for pool in pools_of(link.inflow))
        elif link.slopes is not None:
            self.hypotheses = (Hypothesis("PReLU"),)
        else:
            self.hypotheses = tuple(hypotheses)
        self._reaching = inputs or reaching(link, self.hypotheses)
        # One mean for each channel, hypothesis and border.
        mean, behind = behind_weights(link, self._reaching.means, self._reaching.variances)
        at_once = self._reaching.variances is not None
        self._variances: Floats | None = behind if at_once else None
        self._squares: Floats | None = None if at_once else behind
        self.share = 1.0
        bias: Floats | None = None
        if link.bias is not None and link.bias.readable:
            bias = np.asarray(link.bias.values(), dtype=np.float64).reshape(-1, 1, 1)
        stored, weight = self._stored = weighted or weighted_means(link)
        self._borderless = link.taps == 1
        self._own = max(float((stored * stored) @ weight), LEAST_ENERGY)
        self.mean = mean if bias is None else mean + bias
        self.measure()
        for share in shares_seen(link)[1:]:
            other = copy(self)
            other.mean, other.share = mean * share + (0.0 if bias is None else bias), share
            other.measure()
            if other.suits_better_than(self):
                self.__dict__ |= other.__dict__

    def measure(self) -> None:
        """Hold the means against the stored ones, under each hypothesis and border."""
        stored, weight = self._stored
        # Of a single tap all borders are alike.
        flat = (self.mean[:, :, 0] if self._borderless else self.mean).reshape(stored.size, -1)
        shape = (self.mean.shape[1], -1)
        predicted = (weight @ np.square(flat)).reshape(shape)
        both = ((stored * weight) @ flat).reshape(shape)
        if self._borderless:
            predicted, both = predicted * _ALIKE, both * _ALIKE
        self.explained = 1.0 - (predicted - 2.0 * both + self._own) / self._own
        self.slopes = both / np.maximum(predicted, 1e-12)
        self.alignment = np.abs(both) * self.slopes / self._own

    def suits_better_than(self, other: "Prediction") -> bool:
        """Whether this share of taps is the likelier: by shape, of equals by the factor."""
        place, there = (
            np.unravel_index(np.argmax(p.alignment), p.alignment.shape) for p in (self, other)
        )
        gain = float(self.alignment[place] - other.alignment[there])
        if abs(gain) > AS_GOOD:
            return gain > 0
        return off_one(float(self.slopes[place])) < off_one(float(other.slopes[there]))

    @cached_property
    def finite(self) -> bool:
        """Whether the weights predict numbers."""
        # A mean that is no number makes none of what is explained.
        return _all_finite(self.explained) and (
            self._far_from_infinite() or _all_finite(self._most_variance())
        )

    def _far_from_infinite(self) -> bool:
        """Whether no variance can be too large for a number, told without a product."""
        if self._squares is None:
            return False
        most = float(self._reaching.most_variance().max())
        return float(np.add.reduce(self._squares, axis=None)) * most < _LARGE

    def _most_variance(self) -> Floats:
        """Variances under every hypothesis, or what none of them exceeds."""
        if self._squares is None:
            assert self._variances is not None  # noqa: S101  (one of the two is there)
            return self._variances
        return variances_behind(self._squares, self._reaching.most_variance())

    def variance_of(self, hypothesis: int) -> Floats:
        """Variances of the output channels under one hypothesis."""
        if self._squares is None:
            assert self._variances is not None  # noqa: S101  (one of the two is there)
            return self._variances[:, hypothesis] * self.share
        reaching = self._reaching.variance_under(hypothesis)
        return variances_behind(self._squares, reaching)[:, 0] * self.share

    @property
    def scores(self) -> Floats:
        """The best alignment of each hypothesis."""
        best: Floats = self.alignment.max(axis=1)
        return best

    @property
    def energy(self) -> float:
        """Mean of (stored mean / σ)²."""
        return self._own / self._stored[0].size

    @property
    def off_one(self) -> Floats:
        """How far the factor is from 1 under each hypothesis, with the border that suits it best.

        Infinite where it is no factor, that is not above 0.
        """
        off: Floats = self._bordered[1].copy()
        off[off >= _NO_FACTOR] = np.inf
        return off

    def border_of(self, hypothesis: int) -> int:
        """The place of the border that suits a hypothesis best.

        By shape. Of those that the channels do not tell apart (a ratio of likelihoods within
        ``SAME_LIKELIHOOD``), the one whose factor is nearest to 1; but an image of few pixels
        is not assumed for that alone, as with it nearly every factor could be explained.
        """
        return 0 if self._borderless else int(self._bordered[0][hypothesis])

    @cached_property
    def _bordered(self) -> tuple[NDArray[np.intp], Floats]:
        """For every hypothesis the border, and how far its factor is from 1."""
        # Of all at once: most are asked for, and a call takes longer than its numbers.
        return _borders(self.slopes, self.alignment, np.array(self.as_likely))

    @property
    def as_likely(self) -> float:
        """What is missed, in parts of the least, up to which a border is as likely."""
        return exp(SAME_LIKELIHOOD / self._stored[0].size)

    @staticmethod
    def find_borders(each: "Sequence[Prediction]") -> None:
        """Find the borders of several predictions under as many hypotheses, in a call for all."""
        shape = (len(each), -1, len(BORDERS))
        places, off = _borders(
            np.concatenate([prediction.slopes for prediction in each]).reshape(shape),
            np.concatenate([prediction.alignment for prediction in each]).reshape(shape),
            np.array([prediction.as_likely for prediction in each]),
        )
        for prediction, *bordered in zip(each, places, off, strict=True):
            prediction.__dict__["_bordered"] = tuple(bordered)

    def fit(self, hypothesis: int) -> Fit:
        """The fit under one hypothesis, with the border that suits it best."""
        return fit_of(self.under(hypothesis))

    def under(self, hypothesis: int) -> Predicted:
        """What is predicted under one hypothesis, with the border that suits it best."""
        border = self.border_of(hypothesis)
        return Predicted(
            self.link,
            self.hypotheses[hypothesis],
            self.mean[:, hypothesis, border],
            self.variance_of(hypothesis),
            self._stored,
            HeldAgainst(
                float(self.explained[hypothesis, border]),
                float(self.alignment[hypothesis, border]),
                float(self.slopes[hypothesis, border]),
            ),
            BORDERS[border],
            reaching=self._reaching,
        )


def _all_finite(numbers: Floats) -> bool:
    # To count takes a third of what ``all`` does, which is written in Python.
    return bool(np.count_nonzero(np.isfinite(numbers)) == numbers.size)


Known = dict[int, Prediction]
"""Predictions under all activations by the link's identity: weights are read once for them."""


def _borders(
    slopes: Floats, alignment: Floats, as_likely: Floats
) -> tuple[NDArray[np.intp], Floats]:
    """The border that suits each hypothesis best, and how far its factor is from 1.

    Args:
        slopes: Of shape (…, hypotheses, borders).
        alignment: Likewise.
        as_likely: What is missed, in parts of the least, up to which a border is as likely; of
            the shape that is left out above.

    Returns:
        Two arrays of shape (…, hypotheses).
    """
    off: Floats = np.abs(np.log(np.maximum(slopes, exp(-_NO_FACTOR))))
    missed = np.maximum(1.0 - alignment, 1e-12)
    likely = missed <= missed.min(axis=-1, keepdims=True) * as_likely[..., None, None]
    usual = likely[..., :USUAL_BORDERS].any(axis=-1, keepdims=True)
    likely[..., USUAL_BORDERS:] &= ~usual
    off = np.where(likely, off, np.inf)
    return off.argmin(axis=-1), off.min(axis=-1)


def predictions(links: Sequence[Link], hypotheses: Sequence[Hypothesis]) -> list[Prediction]:
    """Several plain links under the same hypotheses.

    Args:
        links: Without a graph and without slopes.
        hypotheses: Without a pooling.
    """
    if not links:
        return []
    each = Channels(links, hypotheses).each()
    found = [
        Prediction(link, hypotheses, inputs, weighted)
        for link, inputs, weighted in zip(links, each, weighted_at_once(links), strict=True)
    ]
    Prediction.find_borders(found)
    return found
