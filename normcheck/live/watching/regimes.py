"""Forwards under one way of normalising or another, without changing the model.

The statistics are handed to the operator that normalises, so nothing of the model is written:
its buffers, counts and modes stay as they are.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from normcheck.live.batches import Batch, Feed
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.input_moments import Moments
from normcheck.live.watching.observe import BatchNormCall, Intervene, Place, watching
from normcheck.live.watching.outputs import Output
from normcheck.live.watching.reachable_modules import Reached

Statistics = Mapping[Place, tuple[Tensor, Tensor]]
"""Mean and variance for each batch norm, by where it runs."""
Tick = Callable[[int], None]
"""Called with the samples that a forward took."""


@dataclass(slots=True)
class Collected:
    """Moments of the inputs of all batch norms, in the order in which they run."""

    moments: dict[Place, Moments] = field(default_factory=dict)
    stored: dict[Place, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """The running statistics that each was given, where it was given any."""
    eps: dict[Place, float] = field(default_factory=dict)
    samples: list[Tensor] = field(default_factory=list)
    """Means and logarithms of variances of each sample, ``(N, 2 C)``, at the first norm."""

    def take(self, call: BatchNormCall) -> None:
        """Note what one batch norm is given."""
        place = call.place
        if place not in self.moments:
            self.moments[place] = Moments()
            mean, variance = call.statistics
            if mean is not None and variance is not None and not call.training:
                self.stored[place] = (
                    mean.detach().double().cpu(),
                    variance.detach().double().cpu(),
                )
            self.eps[place] = call.eps
        mean, variance, _ = self.moments[place].add(call.input)
        if place == next(iter(self.moments)):
            self.samples.append(torch.cat([mean, variance.clamp_min(1e-12).log()], dim=1))

    def statistics(self) -> dict[Place, tuple[Tensor, Tensor]]:
        """Pooled mean and variance of every norm that eval mode gives stored ones."""
        return {place: self.moments[place].pooled() for place in self.stored}


@dataclass(slots=True)
class Regimes:
    """Runs a model in eval mode and decides what its batch norms normalise by."""

    forward: Forward
    reached: list[Reached]
    per_sample: set[Place]
    """Places where the operator normalises each sample apart."""
    tick: Tick = lambda _samples: None

    def run(
        self, batches: Iterator[Batch] | tuple[Batch, ...], how: Intervene | None
    ) -> Iterator[tuple[Batch, Output]]:
        """Forwards of all batches, each batch norm going through ``how``."""
        for batch in batches:
            with watching(self.forward.model, batch.size, self.reached) as watch:
                watch.per_sample |= self.per_sample
                watch.intervene = how
                output = self.forward(batch)
            self.tick(batch.size)
            yield batch, output

    def stored(self, feed: Feed, collected: Collected | None = None) -> "Outputs":
        """As eval mode is."""

        def how(call: BatchNormCall) -> None:
            if collected is not None:
                collected.take(call)

        return Outputs.of(self.run(feed.batches, how))

    def batch(self, feed: Feed, collected: Collected | None = None) -> "Outputs":
        """With the statistics of each batch, all else as in eval mode."""

        def how(call: BatchNormCall) -> object:
            if collected is not None:
                collected.take(call)
            return None if call.training else call.with_batch_statistics()

        return Outputs.of(self.run(feed.batches, how))

    def given(
        self, feed: Feed, statistics: Statistics, collected: Collected | None = None
    ) -> "Outputs":
        """With other statistics than the stored ones, where there are any."""

        def how(call: BatchNormCall) -> object:
            if collected is not None:
                collected.take(call)
            found = statistics.get(call.place)
            return None if found is None or call.training else call.with_statistics(*found)

        return Outputs.of(self.run(feed.batches, how))

    def estimated(
        self, feed: Feed, rounds: int
    ) -> tuple[dict[Place, tuple[Tensor, Tensor]], float]:
        """Statistics that reproduce themselves in eval mode, and what is left.

        A layer's input in eval mode depends on the statistics of the layers before it: the
        first estimate is taken under batch statistics, further ones under the estimate before.

        Args:
            feed: What to estimate from.
            rounds: Passes after the first.

        Returns:
            The statistics, and how far the last round still moved a mean, in standard
            deviations, or a variance, in parts of it: the largest median over a layer.
        """
        collected = Collected()
        self.batch(feed, collected)
        statistics, residual = collected.statistics(), float("inf")
        for _ in range(rounds):
            collected = Collected()
            self.given(feed, statistics, collected)
            following = {p: collected.moments[p].pooled() for p in statistics}
            residual = max((_moved(statistics[p], following[p]) for p in statistics), default=0.0)
            statistics = following
        return statistics, residual


def _moved(old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> float:
    deviation = (new[1] + 1e-5).sqrt()
    shift = ((new[0] - old[0]) / deviation).abs().median()
    scale = ((new[1] + 1e-5) / (old[1] + 1e-5)).log().abs().median()
    return float(torch.maximum(shift, scale))


@dataclass(slots=True)
class Outputs:
    """The main outputs of all batches under one regime, and the labels."""

    mains: list[Tensor]
    labels: list[Tensor | None]

    @classmethod
    def of(cls, forwards: Iterator[tuple[Batch, Output]]) -> "Outputs":
        """Gather them; batches without a per-sample output are left out."""
        mains, labels = [], []
        for batch, output in forwards:
            main = output.main(batch.size)
            if main is not None:
                mains.append(main.cpu())
                labels.append(None if batch.labels is None else batch.labels.cpu())
        return cls(mains, labels)
