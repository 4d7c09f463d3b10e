"""Forwards under one way of normalising or another, without changing the model.

The statistics are handed to the operator that normalises, so nothing of the model is written:
its buffers, counts and modes stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch, Feed
from normcheck.live.watching.batch_norm_call import BatchNormCall, Intervene
from normcheck.live.watching.forward import Enough, Forward, Interrupted, RegimeOutputs
from normcheck.live.watching.input_moments import Collected, by_others
from normcheck.live.watching.observe import Exchange, watching
from normcheck.live.watching.outputs import ForwardOutput
from normcheck.live.watching.reachable_modules import Reached
from normcheck.live.watching.seen import CallSite

Statistics = Mapping[CallSite, tuple[Tensor, Tensor]]
"""Mean and variance for each batch norm, by where it runs."""
CHECKED = 16
"""Samples by which it is seen that the statistics of one batch reproduce themselves."""
_MOST_PASSES = 64
"""Layer by layer; deeper models that do not settle otherwise are said not to."""
Tick = Callable[[int], None]
"""Called with the samples that a forward took."""


@lazy_dataclass(frozen=False)
class Regimes:
    """Runs a model in eval mode and decides what its batch norms normalise by."""

    forward: Forward
    reached: list[Reached]
    per_sample: set[CallSite]
    """Places where the operator normalises each sample apart."""
    tick: Tick = lambda _samples: None
    expect: Tick = lambda _samples: None
    """Called with the samples that are to come, beyond those of which it was told."""

    def run(
        self,
        batches: Iterator[Batch] | tuple[Batch, ...],
        how: Intervene | None,
        exchange: Exchange | None = None,
        ran: Counter[str] | None = None,
    ) -> Iterator[tuple[Batch, ForwardOutput]]:
        """Forwards of all batches, each batch norm going through ``how``.

        Args:
            batches: What is fed.
            how: Gives the result of a batch norm.
            exchange: Takes the place of operators that other code may have others for.
            ran: Told how many of each kind of them were in the last forward.
        """
        for batch in batches:
            with watching(self.forward.model, batch.size, self.reached) as watch:
                watch.per_sample |= self.per_sample
                watch.intervene = how
                watch.exchange = exchange
                try:
                    output = self.forward(batch)
                finally:
                    self.tick(batch.size)
            if ran is not None:
                ran.clear()
                ran.update(watch.ran)
            yield batch, output

    def stored(self, feed: Feed, collected: Collected | None = None) -> RegimeOutputs:
        """As eval mode is."""

        def how(call: BatchNormCall) -> None:
            if collected is not None:
                collected.take(call)

        return RegimeOutputs.of(self.run(feed.batches, how))

    def batch(
        self, feed: Feed, collected: Collected | None = None, *, size: int = 0
    ) -> RegimeOutputs:
        """With the statistics of each batch, all else as in eval mode.

        Args:
            feed: What is fed.
            collected: Takes what the norms are given.
            size: Of the batches whose statistics count, where a forward takes several of them;
                0 for all that is in one.
        """

        def how(call: BatchNormCall) -> object:
            if collected is not None:
                collected.take(call)
            if call.training:
                return None
            return call.with_group_statistics(size) if size else call.with_batch_statistics()

        return RegimeOutputs.of(self.run(feed.batches, how))

    def given(
        self, feed: Feed, statistics: Statistics, collected: Collected | None = None
    ) -> RegimeOutputs:
        """With other statistics than the stored ones, where there are any."""

        def how(call: BatchNormCall) -> object:
            if collected is not None:
                collected.take(call)
            found = statistics.get(call.place)
            return None if found is None or call.training else call.with_statistics(*found)

        return RegimeOutputs.of(self.run(feed.batches, how))

    def refined(self, feed: Feed, statistics: Statistics) -> Estimates:
        """What one more pass under an estimate gives for the norms that it is of."""
        return self._again(feed, dict(statistics))[0]

    def left_out(self, feed: Feed, statistics: Statistics) -> RegimeOutputs | None:
        """Each sample under the statistics of all the others.

        Args:
            feed: The samples; each of them gives equally many values.
            statistics: Of all of them.

        Returns:
            None where samples cannot be told apart at a norm.
        """
        apart, count = [True], feed.samples

        def how(call: BatchNormCall) -> object:
            found = statistics.get(call.place)
            if found is None or call.training:
                return None
            out = by_others(call, found, count)
            if out is None:
                apart[0] = False
                raise Enough
            return out

        try:
            return RegimeOutputs.of(self.run(feed.batches, how))
        except (Enough, Interrupted):
            if apart[0]:
                raise
            return None

    def estimated(
        self,
        feed: Feed,
        rounds: int = 20,
        in_order: int = _MOST_PASSES,
        *,
        repeatable: bool = False,
    ) -> DataStatistics:
        """Statistics that reproduce themselves in eval mode.

        In one batch, batch statistics are the statistics of all the data: every layer is
        right at once, in the order in which they run. Of a model that repeats itself a few of the
        samples show that. In several, a layer's input in eval mode
        depends on the statistics of the layers before it: the first estimate is taken under
        batch statistics, further ones under the estimate before. Each pass makes at least one
        more layer exact, so that as many passes as there are layers settle any model without
        cycles, however far the first ones were off.

        Where the passes go astray instead (an estimate that is far off makes the inputs behind it
        so large that nothing of them is left), it is taken once more layer by layer: norms whose
        statistics stand already use them, and those behind the batch's own.

        Args:
            feed: What to estimate from.
            rounds: Most passes after the first; networks of 6 to 100 norms needed 2 to 7.
            in_order: Most passes layer by layer.
            repeatable: Whether two forwards of the same batch are equal.
        """
        collected = Collected(kept=CHECKED)
        outputs = self.batch(feed, collected)
        if repeatable and len(feed.batches) == 1:
            left = self._left_of_one_batch(feed, collected)
            if left <= SETTLED:
                return DataStatistics(collected.statistics(), left, 1, outputs)
        moves: Moves = {}
        statistics, done = collected.statistics(), 1
        while _residual(moves, statistics) > SETTLED and done <= rounds:
            statistics, moves = self._again(feed, statistics)
            done += 1
        first = collected.statistics()
        sound = all(bool(t.isfinite().all()) for pair in first.values() for t in pair)
        if sound and in_order and _residual(moves, statistics) > SETTLED:
            again = self._in_order(feed, first, in_order)
            if again.residual < _residual(moves, statistics):
                return replace(again, rounds=done + again.rounds)
        return DataStatistics(statistics, _residual(moves, statistics), done)

    def _left_of_one_batch(self, feed: Feed, collected: Collected) -> float:
        """What another pass would move, by the first samples of a single batch."""
        statistics, batch = collected.statistics(), feed.batches[0]
        found = Collected(kept=CHECKED)
        few = batch.rows(range(min(batch.size, CHECKED)))
        self.given(replace(feed, batches=(few,)), statistics, found)
        if not statistics.keys() <= found.first.keys() & collected.first.keys():
            return float("inf")
        moves = {
            place: _moved(_pooled(*collected.first[place]), _pooled(*found.first[place]))
            for place in statistics
        }
        return _residual(moves, statistics)

    def _again(
        self, feed: Feed, statistics: Estimates, settled: frozenset[CallSite] | None = None
    ) -> tuple[Estimates, Moves]:
        """One pass under an estimate, what it gives, and how far that is from the estimate.

        Args:
            feed: What to estimate from.
            statistics: The estimate.
            settled: Norms that use it, where others normalise by the batch; None for all.
        """
        collected = Collected()

        def how(call: BatchNormCall) -> object:
            collected.take(call)
            if call.training or call.place not in statistics:
                return None
            if settled is not None and call.place not in settled:
                return call.with_batch_statistics()
            return call.with_statistics(*statistics[call.place])

        for _ in self.run(feed.batches, how):
            pass
        following = {p: collected.moments[p].pooled() for p in statistics if p in collected.moments}
        moves = {p: _moved(statistics[p], following[p]) for p in following}
        return {**statistics, **following}, moves

    def _in_order(self, feed: Feed, statistics: Estimates, most: int) -> DataStatistics:
        """Layer by layer in the order in which they run: as many passes as that takes.

        A norm's statistics stand once all before it stand; then a pass gives them exactly.
        """
        order = list(statistics)
        passes = min(len(order), most)
        for standing in range(passes):
            statistics, _ = self._again(feed, statistics, frozenset(order[:standing]))
        _, moves = self._again(feed, statistics)
        return DataStatistics(statistics, _residual(moves, statistics), passes + 1)


Estimates = dict[CallSite, tuple[Tensor, Tensor]]
"""Statistics as they are estimated, in the order in which the norms run."""
Moves = dict[CallSite, float]
"""How far a pass moved each of them."""
SETTLED = 0.01
"""Move of nine in ten channels of each layer, in standard deviations, with which an estimate
stands."""
_NINE_IN_TEN = 0.9


@lazy_dataclass(eq=False)
class DataStatistics:
    """Statistics of the data, and how well they reproduce themselves."""

    statistics: dict[CallSite, tuple[Tensor, Tensor]]
    residual: float
    """How far the last pass still moved a mean, in standard deviations, or a variance, in parts
    of it: the largest over the layers of what nine in ten channels move by at most."""
    rounds: int
    """Passes over the data."""
    outputs: RegimeOutputs | None = None
    """Of the same samples under them, where they are known."""


def _residual(moves: Moves, statistics: Estimates) -> float:
    """The largest move, infinite before the first pass; NaN settles on nothing."""
    if statistics and not moves:
        return float("inf")
    return max((m if np.isfinite(m) else np.inf for m in moves.values()), default=0.0)


def _pooled(means: Tensor, variances: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance over all values of samples that have equally many."""
    return means.mean(0), (variances.mean(0) + means.var(0, correction=0))


def _moved(old: tuple[Tensor, Tensor], new: tuple[Tensor, Tensor]) -> float:
    deviation = (new[1] + 1e-5).sqrt()
    shift = ((new[0] - old[0]) / deviation).abs()
    scale = ((new[1] + 1e-5) / (old[1] + 1e-5)).log().abs()
    return float(torch.maximum(shift, scale).quantile(_NINE_IN_TEN))


def distance(mean_r: Tensor, var_r: Tensor, mean: Tensor, var: Tensor, eps: float) -> float:
    """How far moments are from stored ones, by the median over the channels.

    The larger of the shift, in stored standard deviations, and the log variance ratio.
    """
    deviation = (var_r.clamp_min(0) + eps).sqrt()
    shift = ((mean - mean_r) / deviation).abs().median()
    scale = ((var + eps) / (var_r.clamp_min(0) + eps)).log().abs().median()
    return float(torch.maximum(shift, scale))
