"""What holding a model against data costs, known before it is done."""

from __future__ import annotations

from dataclasses import replace
from math import prod

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch, Feed, joined
from normcheck.live.causes.code_variants import MOST_VARIANTS
from normcheck.live.causes.input_map import SAMPLES as MAPPED
from normcheck.live.causes.other_code import SAMPLES as VARIED
from normcheck.live.measurement import Mechanics, NormRun
from normcheck.live.probes.batch_noise import chunks, noise_groups, regrouped
from normcheck.live.probes.groups import packed
from normcheck.live.probes.layer_ranking import FEW, MORE, NAMED, TRIALS
from normcheck.live.watching.regimes import CHECKED

_MOST_MAPS = 4
"""Changes of the input that are tried: two signs, two orders of its channels."""
_ROUNDS = 7
"""Passes that an estimate from several batches takes at most, in networks of 6 to 100 norms."""
_MOST_BYTES = 1 << 30
"""Of activations, as far as they can be foreseen, up to which samples go through the model in one
batch."""
_ALIVE = 4
"""Activations of the largest size that are held at once."""


@lazy_dataclass()
class Cost:
    """Samples and forwards, those of the first look at the model left out."""

    data: int
    """Samples that there are."""
    samples: int
    """That are fed where statistics fit the data, all passes together."""
    forwards: int
    search: int
    """Samples that are fed at most, beyond those, where causes have to be found."""

    @property
    def passes(self) -> float:
        """Over the data, where statistics fit."""
        return self.samples / self.data

    @property
    def most(self) -> float:
        """Passes where causes have to be found."""
        return (self.samples + self.search) / self.data


def wide_feed(feed: Feed, norms: tuple[NormRun, ...]) -> Feed:
    """The same samples in batches as large as memory allows, whole multiples of their size.

    What the norms normalise by is given to them, so that one forward stands for many. Half of the
    samples is the largest batch that has to be one: its statistics are then found at once.
    """
    fit = _fitting(norms)
    if not fit:
        return feed
    needed = -(-feed.samples // 2 // feed.batch_size) * feed.batch_size
    size = min(feed.samples, needed, fit // feed.batch_size * feed.batch_size)
    if size <= feed.batch_size:
        return feed
    wide = feed.rebatched(size)
    return wide if wide is feed else replace(wide, batch_size=size)


def whole_feed(wide: Feed, norms: tuple[NormRun, ...]) -> Feed:
    """The same samples in one batch, where memory allows that."""
    if wide.samples > _fitting(norms):
        return wide
    whole = wide.rebatched(wide.samples)
    return whole if whole is wide else replace(whole, batch_size=wide.samples)


def _fitting(norms: tuple[NormRun, ...]) -> int:
    """Samples whose activations fit; 0 where they cannot be foreseen."""
    largest = max((prod(norm.shape[1:]) for norm in norms if norm.shape), default=0)
    return _MOST_BYTES // (largest * 4 * _ALIVE) if largest else 0


def cost_of(feed: Feed, wide: Feed, seen: Mechanics, *, one_mode: bool) -> Cost:
    """The cost of a run.

    Args:
        feed: The data in the batches in which they are given.
        wide: The same in the batches in which they are run.
        seen: What forwards of a few samples showed.
        one_mode: Whether the model is an export, which has no train mode.
    """
    count, batches = feed.samples, len(wide.batches)
    stored = sum(
        norm.calls
        for norm in seen.norms
        if norm.op == "batch_norm" and norm.training is False and not norm.per_sample
    )
    train = _train(feed, seen, one_mode=one_mode)
    if not stored:
        return Cost(count, count + sum(train), batches + len(train), 0)
    alike = joined([batch.rows(range(1)) for batch in feed.batches]) is not None
    sizes = [(count + 1) // 2, count // 2]
    halves = [
        [len(batch) for batch in chunks(range(size), wide.batch_size)] if alike else [size]
        for size in sizes
    ]
    fed, forwards = _estimates(halves, seen, alike=alike)
    groups = _groups(feed) if alike else []
    together = len(whole_feed(wide, seen.norms).batches)
    # Each sample under the statistics of the others; of several batches these are taken anew.
    others = 1 if together == 1 or not alike else 2
    samples = (
        2 * count  # eval mode, and statistics of each batch
        + fed
        + others * count
        + sum(map(len, groups))
        + sum(train)
    )
    forwards += 2 * batches + len(train)
    forwards += others * together if alike else sum(map(len, halves))
    forwards += sum(1 for _ in packed(groups, wide.batch_size))
    return Cost(count, samples, forwards, _search(count, stored))


def _train(feed: Feed, seen: Mechanics, *, one_mode: bool) -> list[int]:
    """Samples of each forward in train mode: one shows whether the others are known."""
    if one_mode:
        return []
    sizes = [batch.size for batch in feed.batches]
    return sizes if seen.train_draws else sizes[:1]


def _estimates(halves: list[list[int]], seen: Mechanics, *, alike: bool) -> tuple[int, int]:
    """Samples and forwards that re-estimating each half takes, by the sizes of its batches."""
    samples = forwards = 0
    for number, half in enumerate(halves):
        count, batches = sum(half), len(half)
        if batches == 1 and seen.repeat_difference == 0:
            samples += count + min(count, CHECKED)
            forwards += 2
            continue
        passes = 2 if batches == 1 else _ROUNDS
        # The first half's outputs under its own statistics.
        own = 1 if number == 0 and not alike else 0
        samples += (passes + own) * count
        forwards += (passes + own) * batches
    return samples, forwards


def _groups(feed: Feed) -> list[list[int]]:
    """Groups of samples that give each other their statistics."""
    count, size = feed.samples, feed.batch_size
    found = [g for at, groups in noise_groups(count).items() if at != size for g in groups]
    return found + regrouped(count, size)


def _search(count: int, norms: int) -> int:
    trials = min(norms, TRIALS)
    few, more = min(FEW, count), min(MORE, count)
    ranking = few * (2 + 2 * trials) if norms > NAMED else 0
    ranking += more * (2 + 2 * min(norms, NAMED))
    maps = 2 * min(count, MAPPED) + _MOST_MAPS * (min(count, MAPPED) + count)
    exchange = count if norms > 1 else 0  # where only some of them are off
    return ranking + maps + (1 + MOST_VARIANTS) * min(count, VARIED) + exchange


def in_words(cost: Cost, seconds: float, batch: Batch) -> str:
    """What a dry run says.

    Args:
        cost: Of the run.
        seconds: That a forward of ``batch`` took.
        batch: Some of the samples.
    """
    each = seconds / batch.size
    return (
        f"dry run: {cost.data:,} samples would go through it {cost.passes:.1f} times, in "
        f"{cost.forwards:,} forwards, about {_time(each * cost.samples)} here; where statistics "
        f"are off, up to {cost.most:.1f} times to find out why, "
        f"{_time(each * (cost.samples + cost.search))} at most"
    )


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
