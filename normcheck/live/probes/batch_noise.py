"""How far outputs scatter where batches of one size give the statistics, in one forward."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch, Feed
from normcheck.live.measurement import NoiseAt
from normcheck.live.probes.groups import grouped
from normcheck.live.scores.regime_comparison import difference, effect
from normcheck.live.watching import outputs
from normcheck.live.watching.forward import Interrupted, RegimeOutputs
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.regimes import Regimes

NOISE_SIZES = (1, 2, 4, 8, 16, 32)
_SAMPLES = 64
"""That are run at one batch size, and among other companions than those of their own batch."""
_BATCHES = 16
"""Most at one batch size: how far outputs scatter is no finer matter than that."""
Groups = list[list[int]]
"""Numbers of samples that give each other their statistics."""


@lazy_dataclass(eq=False)
class Scatter:
    """What batch statistics make of outputs."""

    noise: tuple[NoiseAt, ...]
    effect: float | None
    """Of ``regime_comparison.effect``."""


def scatter(
    regimes: Regimes,
    feed: Feed,
    size: int,
    settled: Tensor | None,
    at_eval: RegimeOutputs,
    at_batch: RegimeOutputs,
    collected: Collected,
) -> Scatter:
    """Outputs under batch statistics at several batch sizes, and among other companions.

    Args:
        regimes: Runs the model.
        feed: All of the data; a part of it is used.
        size: Of the batches that gave ``at_batch``.
        settled: Outputs of all samples under re-estimated statistics; None where they are not
            known by sample.
        at_eval: Outputs of all samples in eval mode.
        at_batch: The same under statistics of batches of ``size``.
        collected: Moments of the norms' inputs.
    """
    whole = feed.pooled()
    if whole is None or settled is None or len(settled) != whole.size:
        return Scatter((), None)
    groups, others = noise_groups(whole.size), regrouped(whole.size, size)
    run, known = {}, at_batch.mains
    if size in groups and len(known) == 1 and len(known[0]) == whole.size:
        groups[size] = [list(range(whole.size))]  # of this size all samples were run already
        run[size] = known
    wanted = {count: each for count, each in groups.items() if count not in run}
    run |= _outputs(regimes, whole, {**wanted, 0: others}, feed.batch_size)
    effective = _effective(collected)
    found = []
    for count, each in groups.items():
        mains = run.get(count)
        if mains is None:
            found.append(NoiseAt(count, None, None, count * effective))
            continue
        a, b = [torch.cat(mains)], [settled[[i for group in each for i in group]]]
        found.append(NoiseAt(count, difference(a, b), outputs.flips(a, b), count * effective))
    return Scatter(tuple(found), _effect(at_eval, at_batch, run.get(0), others))


def noise_groups(count: int) -> dict[int, Groups]:
    """The samples that are run at each batch size, of so many in all."""
    some = [i * count // _SAMPLES for i in range(_SAMPLES)] if count > _SAMPLES else range(count)
    return {
        size: chunks(some[: _BATCHES * size], size) for size in NOISE_SIZES if size <= len(some)
    }


def regrouped(count: int, size: int) -> Groups:
    """Some samples among companions from all over the data; none where there is one batch only."""
    stride = -(-count // size)
    if stride == 1:
        return []
    order = [i for start in range(stride) for i in range(start, count, stride)]
    groups = chunks(order, size)
    return groups[: max(1, -(-_SAMPLES // size))]


def chunks(places: Sequence[int], size: int) -> Groups:
    """So many at a time; a last single one goes with those before it, as batches are split."""
    ends = list(range(size, len(places), size))
    if size > 1 and ends and len(places) - ends[-1] == 1:
        ends.pop()
    return [list(places[a:b]) for a, b in zip([0, *ends], [*ends, len(places)], strict=True)]


def _outputs(
    regimes: Regimes, whole: Batch, groups: dict[int, Groups], most: int
) -> dict[int, list[Tensor]]:
    """The outputs of the groups of each size; sizes that cannot run are left out."""
    try:
        mains = grouped(regimes, whole, [group for each in groups.values() for group in each], most)
    except Interrupted:
        return _one_by_one(regimes, whole, groups, most)
    found, start = {}, 0
    for size, each in groups.items():
        found[size] = mains[start : start + len(each)]
        start += len(each)
    return found if len(mains) == start else {}


def _one_by_one(
    regimes: Regimes, whole: Batch, groups: dict[int, Groups], most: int
) -> dict[int, list[Tensor]]:
    found = {}
    for size, each in groups.items():
        with suppress(Interrupted):
            found[size] = grouped(regimes, whole, each, most)
    return found


def _effective(collected: Collected) -> float:
    """Values that one sample gives, at the layer whose batch means scatter most."""
    spread = max(
        (float(np.median(collected.moments[place].spread())) for place in collected.stored),
        default=1.0,
    )
    return 1 / spread if spread > 0 else float("inf")


def _effect(
    at_eval: RegimeOutputs, at_batch: RegimeOutputs, among: list[Tensor] | None, others: Groups
) -> float | None:
    if not among or not others:
        return None
    order = torch.tensor([i for group in others for i in group])
    if any(len(run.mains) != 1 for run in (at_eval, at_batch)):
        return None
    stored, batch = at_eval.mains[0], at_batch.mains[0]
    if len(stored) <= int(order.max()) or len(batch) != len(stored):
        return None
    return effect(stored[order], batch[order], torch.cat(among))
