"""What reaches the weights of links, under one hypothesis or several of what stands before them."""

from collections.abc import Sequence
from dataclasses import field
from itertools import groupby
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.structure.activation_moments import Normals, after_prelu
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.link import Link, WeightStructure
from normcheck.norms.layer import Floats
from normcheck.often_made import often_made

if TYPE_CHECKING:
    from normcheck.norms.belonging.structure.inflow import Inflow

MUCH_MORE = 1e3
"""Times eps: what it takes from larger variances does not show."""
_TOGETHER = 256
"""Channels that are taken together: a quarter of a megabyte for one activation, which fits the
processor's cache."""
Parts = tuple[Floats, Floats]
"""What is linear, and the variance beside it; of shape (channels,) each."""
_KEPT = 1 << 18
"""Squares of weights that are kept until a hypothesis is chosen: of larger layers the variances
under all of them take less memory."""


@lazy_dataclass()
class Hypothesis:
    """What may stand between a norm and the weights."""

    activation: str
    pool: float = 1.0
    """Values that a max pooling chooses from; 1 is none."""


@often_made(eq=False)
class Reaching:
    """Means and variances that reach the weights of one link."""

    means: Floats
    """Of shape (channels, hypotheses)."""
    variances: Floats | None
    """Likewise; None where each is worked out when it is asked for: means choose among
    hypotheses, and of one alone the variance is then wanted."""
    channels: "Channels | None" = None
    """Where they come from then."""
    some: slice = field(default_factory=lambda: slice(None))
    """The link's channels among these."""

    def variance_under(self, hypothesis: int) -> Floats:
        """Of shape (channels, 1)."""
        if self.channels is None:
            assert self.variances is not None  # noqa: S101  (one of the two is there)
            return self.variances[:, hypothesis : hypothesis + 1]
        return self.channels.variance_under(hypothesis)[self.some]

    def most_variance(self) -> Floats:
        """What the variance of no hypothesis exceeds; of shape (channels, hypotheses or 1)."""
        if self.channels is None:
            assert self.variances is not None  # noqa: S101  (one of the two is there)
            return self.variances
        return self.channels.most_variance[self.some]


class Channels:
    """The channels of several plain links, under activations without a pooling.

    What activations make of them is worked out for all together: for small layers the calls take
    longer than the numbers.

    Args:
        links: At least one, without a graph and without slopes.
        hypotheses: Without a pooling.
    """

    def __init__(self, links: Sequence[Link], hypotheses: Sequence[Hypothesis]) -> None:
        """Work out the means."""
        self._links, self._hypotheses = links, hypotheses
        affine = [affine_of(link) for link in links]
        self._sizes = [gamma.size for gamma, _ in affine]
        self._gamma, self._beta = (np.concatenate(parts) for parts in zip(*affine, strict=True))
        names = [hypothesis.activation for hypothesis in hypotheses]
        pieces = _pieces(self._gamma.size)
        parts = [Normals(self._gamma[some], self._beta[some]) for some in pieces]
        self._means = np.concatenate([part.means(names) for part in parts])
        # Most models are of one piece; of others the grids would take more memory than is meant.
        self.whole = parts[0] if len(parts) == 1 else None
        self._variances: dict[int, Floats] = {}
        self._parts: dict[str, Parts] = {}
        # No activation makes a value larger, but for a sigmoid, which ends at 1.
        most = np.square(self._gamma) + np.square(self._beta) + 1.0
        self.most_variance: Floats = most[:, None]

    def each(self) -> list[Reaching]:
        """What reaches the weights of every link."""
        found, start = [], 0
        for link, size in zip(self._links, self._sizes, strict=True):
            some, start = slice(start, start + size), start + size
            variances = None
            if link.weights.numel > _KEPT * prod(link.weights.shape[2:]):
                variances = _under(self._gamma[some], self._beta[some], self._hypotheses)[1]
            channels = self if variances is None else None
            found.append(Reaching(self._means[some], variances, channels, some))
        return found

    def variance_under(self, hypothesis: int) -> Floats:
        """Of all channels, of shape (channels, 1)."""
        if hypothesis not in self._variances:
            one = self._hypotheses[hypothesis]
            self._variances[hypothesis] = (
                _under(self._gamma, self._beta, (one,))
                if self.whole is None
                else self.whole.after(ACTIVATIONS[one.activation])
            )[1]
        return self._variances[hypothesis]

    def in_parts(self, activation: str) -> Parts:
        """Of all channels, where they are of one piece: see :func:`in_parts`."""
        assert self.whole is not None  # noqa: S101  (looked at by whoever asks)
        if activation not in self._parts:
            self._parts[activation] = _in_parts(self.whole, self._gamma, activation)
        return self._parts[activation]


def reaching(link: Link, hypotheses: Sequence[Hypothesis]) -> Reaching:
    """What reaches the weights of a link under each hypothesis."""
    if link.inflow is not None:
        return Reaching(*_from_graph(link, link.inflow, hypotheses))
    if link.slopes is not None:
        slopes = np.asarray(link.slopes.values(), dtype=np.float64).reshape(-1)
        return Reaching(*after_prelu(*affine_of(link), slopes))
    if len(hypotheses) > 1 and all(hypothesis.pool == 1.0 for hypothesis in hypotheses):
        return Channels((link,), hypotheses).each()[0]
    return Reaching(*_under(*affine_of(link), hypotheses))


def affine_of(link: Link) -> tuple[Floats, Floats]:
    """Deviation and mean behind the norm that a link begins at, channel by channel.

    A channel of variance v leaves it with γ² v / (v + eps), which is less than γ² where v is not
    much more than eps: behind a ReLU that hardly ever wakes, or of a quiet input.
    """
    source = link.source
    channels = source.features or 0
    gamma = source.weight.numbers if source.weight else np.ones(channels)
    beta = source.bias.numbers if source.bias else np.zeros(channels)
    stored, eps = source.running_var, source.assumed_eps
    if stored is not None and stored.size == channels and stored.finite and eps > 0:
        variance = stored.numbers
        if variance.size and 0 <= stored.lowest < MUCH_MORE * eps:
            gamma = gamma * np.sqrt(variance / (variance + eps))
    return gamma, beta


def in_parts(link: Link, activation: str, kept: Reaching | None) -> Parts:
    """What of the channels before a link is linear behind an activation.

    Args:
        link: Without a graph and without slopes.
        activation: Without a pooling.
        kept: What reaches its weights, where that was worked out.

    Returns:
        Covariances with the standardised channels, and the variances beside what these explain;
        of shape (channels,) each. See ``Normals.in_parts``.
    """
    if kept is not None and kept.channels is not None and kept.channels.whole is not None:
        linear, beside = kept.channels.in_parts(activation)
        return linear[kept.some], beside[kept.some]
    gamma, beta = affine_of(link)
    return _in_parts(Normals(gamma, beta), gamma, activation)


def _in_parts(channels: Normals, gamma: Floats, activation: str) -> Parts:
    linear, variance = channels.in_parts(ACTIVATIONS[activation])
    beside = np.maximum(variance - np.square(linear), 0.0)
    return np.where(gamma < 0, -linear, linear), beside


def _pieces(size: int) -> list[slice]:
    return [slice(start, start + _TOGETHER) for start in range(0, size, _TOGETHER)]


def _under(gamma: Floats, beta: Floats, hypotheses: Sequence[Hypothesis]) -> tuple[Floats, Floats]:
    """Means and variances behind an activation, of shape (channels, hypotheses)."""
    mean, variance = np.empty((2, gamma.size, len(hypotheses)))
    groups = [(name, tuple(group)) for name, group in groupby(hypotheses, lambda h: h.activation)]
    for some in _pieces(gamma.size):
        channels, column = Normals(gamma[some], beta[some]), 0
        for name, group in groups:
            columns = slice(column, column + len(group))
            mean[some, columns], variance[some, columns] = channels.after(
                ACTIVATIONS[name], tuple(h.pool for h in group)
            )
            column += len(group)
    return mean, variance


def _from_graph(
    link: Link, inflow: "Inflow", hypotheses: Sequence[Hypothesis]
) -> tuple[Floats, Floats]:
    from normcheck.norms.belonging.structure.inflow import moments

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
