"""What the weights of a link predict for the statistics behind them.

For a link A → φ → W → B the mean of B's input follows from A's γ and β, φ and W alone:

    m_i = E[φ(y)],  v_i = Var[φ(y)],  y ~ N(β_i, γ_i²)
    mean_o = b_o + Σ_taps c(tap) Σ_i W[o, i, tap] m_i
    variance_o ≈ Σ W² v   (inputs taken as independent)

See ``weighted.py`` for c(tap), which depends on a border f. φ, f and the strength of a max
pooling are not in a state dict; of a few values the best-fitting is taken, which cannot make
unrelated statistics fit: there are hundreds of channels and a handful of choices.
"""

from collections.abc import Sequence
from copy import copy
from itertools import groupby
from math import exp, inf, log, prod
from typing import TYPE_CHECKING

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.activation_moments import ACTIVATIONS, POOLS, Normals, after_prelu
from normcheck.norms.belonging.links import Link, WeightStructure
from normcheck.norms.belonging.weighted_sums import behind_weights, shares_seen
from normcheck.norms.layer import Floats
from normcheck.norms.layer_numbers import median

if TYPE_CHECKING:
    from normcheck.norms.belonging.inflow import Inflow

_TOGETHER = 256
"""Channels that are taken together: a quarter of a megabyte for one activation, which fits the
processor's cache."""
AS_GOOD = 0.006
"""Difference of alignments that does not tell hypotheses apart."""
USUAL_BORDERS = 4
"""Of ``BORDERS``: images of 8 pixels or more."""
SAME_LIKELIHOOD = 4.0
"""n log(missed / least missed) up to which a border is as likely as the best: two standard
deviations of a single parameter."""
MOST_OF_A_CHANNEL = 25.0
"""Bound on (mean / standard deviation)² of one channel, so that a nearly constant channel
does not decide for its layer."""


@lazy_dataclass()
class Hypothesis:
    """What may stand between a norm and the weights."""

    activation: str
    pool: float = 1.0
    """Values that a max pooling chooses from; 1 is none."""


@lazy_dataclass(eq=False)
class Fit:
    """How well one link's prediction agrees with the stored statistics of its target."""

    link: Link
    activation: str
    pool: float
    predicted_mean: Floats
    predicted_variance: Floats
    stored_mean: Floats
    stored_variance: Floats
    explained: float
    """1 - Σ((mean - stored)/σ)² / Σ(stored/σ)²: 1 is perfect, 0 as good as predicting zero."""
    alignment: float
    """The same with the best common factor left free: (pᵀWs)² / (pᵀWp · sᵀWs), W = 1/σ², with the
    sign of the factor. What stands between norm and weights is chosen by it: with the factor held
    at 1 a wrong activation would hide statistics in other units."""
    energy: float
    """Mean of (stored mean / σ)²: where it is small, means say little."""
    correlation: float
    """Of predicted and stored means over the channels."""
    slope: float
    """Stored means per predicted mean: the factor between them. 0.92 to 1.06 in healthy models,
    whatever their data."""
    log_scale: float
    """Median of log(stored variance / predicted variance)."""
    scale_correlation: float
    """Of the logarithms of predicted and stored variances over the channels."""


class Prediction:
    """One link under several hypotheses, each with every border.

    Args:
        link: What is predicted.
        hypotheses: Ignored for a PReLU, whose slopes are known; of them only the strength of
            a max pooling counts where a graph shows what reaches the weights.
        inputs: Mean and variance of what reaches the weights under each hypothesis, if known.
    """

    def __init__(
        self,
        link: Link,
        hypotheses: Sequence[Hypothesis],
        inputs: tuple[Floats, Floats] | None = None,
    ) -> None:
        """Read the weights and predict."""
        self.link = link
        if link.inflow is not None:
            # A graph is followed only where there is one: the module imports a good deal.
            from normcheck.norms.belonging.inflow import Pooled, activation_of, contains

            name, pooled = activation_of(link.inflow), contains(link.inflow, Pooled)
            pools = POOLS if pooled else (1.0,)
            self.hypotheses = tuple(Hypothesis(name, pool) for pool in pools)
        elif link.slopes is not None:
            self.hypotheses = (Hypothesis("PReLU"),)
        else:
            self.hypotheses = tuple(hypotheses)
        means, variances = inputs or _inputs(link, self.hypotheses)
        # One mean for each channel, hypothesis and border.
        mean, self.variance = behind_weights(link, means, variances)
        bias: Floats = np.zeros((1, 1, 1))
        if link.bias is not None and link.bias.readable:
            bias = np.asarray(link.bias.values(), dtype=np.float64).reshape(-1, 1, 1)
        stored, weight = self._stored = _weighted(link)
        self._borderless = prod(link.weights.shape[2:]) == 1
        self._own = max(float((stored * stored) @ weight), 1e-12)
        self.mean = mean + bias
        self.measure()
        for share in shares_seen(link)[1:]:
            other = copy(self)
            other.mean, other.variance = mean * share + bias, self.variance * share
            other.measure()
            if other.suits_better_than(self):
                self.__dict__ |= other.__dict__

    def measure(self) -> None:
        """Hold the means against the stored ones, under each hypothesis and border."""
        self._borders: list[int] | None = None
        stored, weight = self._stored
        flat = self.mean.reshape(stored.size, -1)
        weighted = flat * weight[:, None]
        predicted = np.einsum("ij,ij->j", flat, weighted).reshape(self.mean.shape[1:])
        both = (stored @ weighted).reshape(self.mean.shape[1:])
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

    @property
    def finite(self) -> bool:
        """Whether the weights predict numbers."""
        # A mean that is no number makes none of what is explained.
        return bool(np.isfinite(self.explained).all() and np.isfinite(self.variance).all())

    @property
    def scores(self) -> Floats:
        """The best alignment of each hypothesis."""
        best: Floats = self.alignment.max(axis=1)
        return best

    @property
    def energy(self) -> float:
        """Mean of (stored mean / σ)²."""
        return self._own / self._stored[0].size

    def slope_of(self, hypothesis: int) -> float:
        """The factor under one hypothesis, with the border that suits it best."""
        return float(self.slopes[hypothesis, self.border_of(hypothesis)])

    def border_of(self, hypothesis: int) -> int:
        """The place of the border that suits a hypothesis best.

        By shape. Of those that the channels do not tell apart (a ratio of likelihoods within
        ``SAME_LIKELIHOOD``), the one whose factor is nearest to 1; but an image of few pixels
        is not assumed for that alone, as with it nearly every factor could be explained.
        """
        if self._borderless:
            return 0
        if self._borders is None:
            # Of all at once: most are asked for, and a call takes longer than its numbers.
            missed = np.maximum(1.0 - self.alignment, 1e-12)
            least = missed.min(axis=1, keepdims=True)
            likely = missed <= least * exp(SAME_LIKELIHOOD / self._stored[0].size)
            usual = likely[:, :USUAL_BORDERS].any(axis=1)
            likely[usual, USUAL_BORDERS:] = False
            off = np.abs(np.log(np.maximum(self.slopes, 1e-300)))
            self._borders = np.where(likely, off, np.inf).argmin(axis=1).tolist()
        return self._borders[hypothesis]

    def fit(self, hypothesis: int) -> Fit:
        """The fit under one hypothesis, with the border that suits it best."""
        border = self.border_of(hypothesis)
        mean, variance = self.mean[:, hypothesis, border], self.variance[:, hypothesis]
        stored, weight = self._stored
        target = self.link.target
        assert target.running_var is not None  # noqa: S101  (links have both statistics)
        stored_variance = target.running_var.numbers
        both = (stored_variance > 0) & (variance > 0)
        logs = np.log(stored_variance[both]), np.log(variance[both])
        return Fit(
            link=self.link,
            activation=self.hypotheses[hypothesis].activation,
            pool=self.hypotheses[hypothesis].pool,
            predicted_mean=mean,
            predicted_variance=variance,
            stored_mean=stored,
            stored_variance=stored_variance,
            explained=float(self.explained[hypothesis, border]),
            correlation=_correlation(mean, stored, weight),
            alignment=float(self.alignment[hypothesis, border]),
            energy=self.energy,
            slope=float(self.slopes[hypothesis, border]),
            log_scale=median(logs[0] - logs[1]) if both.any() else 0.0,
            scale_correlation=_correlation(*logs, np.ones(int(both.sum()))),
        )


def off_one(slope: float) -> float:
    """How far a factor is from 1, up or down; infinite where it is no factor."""
    return abs(log(slope)) if slope > 0 else inf


def _inputs(link: Link, hypotheses: Sequence[Hypothesis]) -> tuple[Floats, Floats]:
    """Means and variances that reach the weights, of shape (channels, hypotheses)."""
    if link.inflow is not None:
        return _from_graph(link, link.inflow, hypotheses)
    gamma, beta = _affine(link)
    if link.slopes is not None:
        slopes = np.asarray(link.slopes.values(), dtype=np.float64).reshape(-1)
        return after_prelu(gamma, beta, slopes)
    return _under(gamma, beta, hypotheses)


def _affine(link: Link) -> tuple[Floats, Floats]:
    """Scale and shift of the norm that a link begins at."""
    source = link.source
    channels = source.features or 0
    gamma = source.weight.numbers if source.weight else np.ones(channels)
    beta = source.bias.numbers if source.bias else np.zeros(channels)
    return gamma, beta


def _under(gamma: Floats, beta: Floats, hypotheses: Sequence[Hypothesis]) -> tuple[Floats, Floats]:
    """Means and variances behind an activation, of shape (channels, hypotheses)."""
    mean, variance = np.empty((2, gamma.size, len(hypotheses)))
    groups = [(name, tuple(group)) for name, group in groupby(hypotheses, lambda h: h.activation)]
    for start in range(0, gamma.size, _TOGETHER):
        some = slice(start, start + _TOGETHER)
        channels, column = Normals(gamma[some], beta[some]), 0
        for name, group in groups:
            columns = slice(column, column + len(group))
            mean[some, columns], variance[some, columns] = channels.after(
                ACTIVATIONS[name], tuple(h.pool for h in group)
            )
            column += len(group)
    return mean, variance


def predictions(links: Sequence[Link], hypotheses: Sequence[Hypothesis]) -> list[Prediction]:
    """Several plain links under the same hypotheses.

    What activations make of their channels is worked out for all together: for small layers the
    calls take longer than the numbers.

    Args:
        links: Without a graph and without slopes.
        hypotheses: As for ``Prediction``.
    """
    if not links:
        return []
    affine = [_affine(link) for link in links]
    gamma, beta = (np.concatenate(parts) for parts in zip(*affine, strict=True))
    means, variances = _under(gamma, beta, hypotheses)
    ends = np.cumsum([scale.size for scale, _ in affine])[:-1]
    inputs = zip(np.split(means, ends), np.split(variances, ends), strict=True)
    return [Prediction(link, hypotheses, each) for link, each in zip(links, inputs, strict=True)]


def _from_graph(
    link: Link, inflow: "Inflow", hypotheses: Sequence[Hypothesis]
) -> tuple[Floats, Floats]:
    from normcheck.norms.belonging.inflow import moments

    each = [moments(inflow, hypothesis.pool) for hypothesis in hypotheses]
    mean = np.stack([m for m, _ in each], axis=1)
    variance = np.stack([v for _, v in each], axis=1)
    taken = link.weights.shape[0 if link.kind is WeightStructure.TRANSPOSED else 1]
    if link.kind is WeightStructure.LINEAR and taken % mean.shape[0] == 0:
        # Flattened: the positions of a channel lie side by side.
        return np.repeat(mean, taken // mean.shape[0], 0), np.repeat(
            variance, taken // mean.shape[0], 0
        )
    return mean, variance


def _weighted(link: Link) -> tuple[Floats, Floats]:
    """Stored means, and the weight of each channel: 1/σ², bounded."""
    mean, variance = link.target.running_mean, link.target.running_var
    assert mean is not None  # noqa: S101  (links have both statistics)
    assert variance is not None  # noqa: S101
    positive = np.maximum(variance.numbers, 0.0)
    # A thousandth of the usual variance: a constant channel has no unit of its own.
    floor = 1e-3 * float(np.sort(positive)[positive.size // 2]) + 1e-12
    weight = 1.0 / (positive + floor)
    bound = MOST_OF_A_CHANNEL / np.maximum(mean.numbers**2, 1e-300)
    return mean.numbers, np.minimum(weight, bound)


def _correlation(a: Floats, b: Floats, weight: Floats) -> float:
    total = float(weight.sum())
    if a.size < 2 or total <= 0:
        return 0.0
    da, db = a - (a @ weight) / total, b - (b @ weight) / total
    weighted = da * weight
    spread = float(np.sqrt((da @ weighted) * ((db * db) @ weight)))
    return float(db @ weighted) / spread if spread > 0 else 0.0
