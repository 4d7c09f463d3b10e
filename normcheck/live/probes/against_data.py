"""The stored statistics, and what they cost, against the user's data."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Feed
from normcheck.live.causes.input_map import ReadInput, read_input
from normcheck.live.causes.other_code import other_code
from normcheck.live.feeding.label_range import check_range
from normcheck.live.measurement import AgainstData, Mechanics
from normcheck.live.probes.batch_noise import scatter
from normcheck.live.probes.cost import cost_of, whole_feed, wide_feed
from normcheck.live.probes.data_domains import separation
from normcheck.live.probes.drifts import drifts_of, is_material
from normcheck.live.probes.layer_ranking import closings
from normcheck.live.probes.train_mode import in_train_mode
from normcheck.live.scores.against_constant import skill
from normcheck.live.scores.pooled_scores import expected_gain
from normcheck.live.scores.regime_comparison import (
    answers,
    calibrated_gain,
    changed_answers,
    decisiveness,
    loss_gain,
    regime,
)
from normcheck.live.watching.forward import RegimeOutputs
from normcheck.live.watching.input_moments import Collected, pooled
from normcheck.live.watching.regimes import DataStatistics, Regimes, Statistics, distance
from normcheck.live.watching.seen import CallSite
from normcheck.wording import number

UNSETTLED = 0.1
"""Residual, in standard deviations, from which an estimate is no estimate."""
FEWEST = 4
"""Samples below which nothing is compared with data."""


def against_data(
    regimes: Regimes, feed: Feed, norm_paths: frozenset[str], seen: Mechanics
) -> AgainstData | None:
    """Measure everything that needs the user's data.

    Args:
        regimes: Runs the model, which is in eval mode.
        feed: Real data.
        norm_paths: Of the modules that are normalization layers.
        seen: What forwards of a few samples showed.

    Returns:
        None where there are too few samples to say anything.

    Raises:
        NormcheckError: Labels are of no class that the model has.
    """
    if feed.samples < FEWEST:
        return None
    notes: list[str] = []
    evaluated, batchwise = Collected(measures=False), Collected()
    size, wide = feed.batch_size, wide_feed(feed, seen.norms)
    cost = cost_of(feed, wide, seen, one_mode=regimes.forward.fixed_mode)
    regimes.expect(cost.samples)
    at_eval = regimes.stored(wide, evaluated).together()
    check_range(at_eval.mains, at_eval.labels)
    if not evaluated.stored:
        return _without_statistics(regimes, feed, at_eval, seen)
    at_batch = regimes.batch(wide, batchwise, size=size).together()
    whole = whole_feed(wide, seen.norms)
    halves = _crossed(regimes, wide, whole, at_eval, repeatable=seen.repeat_difference == 0)
    estimated, residual, crossed = halves.estimated, halves.residual, halves.outputs
    order = list(evaluated.stored)
    among = scatter(regimes, wide, size, halves.settled, at_eval, at_batch, batchwise)
    train, note = in_train_mode(regimes, feed, at_batch, seen.tolerance)
    if note:
        notes.append(note)
    regimes_measured = [regime("eval", at_eval, at_eval)]
    # No figure of an estimate that does not reproduce itself goes into a verdict.
    settled = residual <= UNSETTLED
    if settled:
        regimes_measured.append(regime("re-estimated", crossed[1], crossed[0]))
    elif feed.not_finite:
        notes.append("samples that hold NaN or infinity have no statistics to judge by")
    else:
        notes.append(
            "re-estimated statistics did not settle (another pass still moves a layer by "
            f"{number(residual)} standard deviations): nothing is judged by them"
        )
    regimes_measured.append(regime("batch", at_batch, at_eval))
    if train is not None:
        regimes_measured.append(regime("train", train, at_eval))
    healed, harmed = changed_answers(*crossed) if settled else (None, None)
    in_train = (None, None) if train is None else changed_answers(at_eval, train)
    drifts = drifts_of(batchwise, evaluated, order, norm_paths)
    gain = loss_gain(*crossed) if settled else None
    off = [
        place
        for place, d in zip(order, drifts, strict=False)
        if np.any(d.shift_bound > 0) or np.any(d.log_scale_bound > 0)
    ]
    # Causes are looked for where a layer is off, or where outputs say that something is; layers
    # are ranked where that is more than a trace.
    better = (healed or 0) > (harmed or 0) or (gain or 0.0) > 1
    looked_for = bool(off) or better
    ranked = settled and (_told(healed, harmed, gain) or any(map(is_material, drifts)))
    if looked_for or ranked:
        regimes.expect(cost.search)
    distances = distances_of(evaluated, batchwise)
    told = read_input(regimes, wide, evaluated, at_eval, distances) if looked_for else ReadInput()
    return AgainstData(
        drifts=drifts,
        regimes=tuple(regimes_measured),
        effect=among.effect,
        healed=healed,
        harmed=harmed,
        train_healed=in_train[0],
        train_harmed=in_train[1],
        loss_t=gain,
        calibrated_t=calibrated_gain(*crossed) if settled else None,
        expected_gain=expected_gain(*crossed) if settled else None,
        decisiveness=decisiveness(*crossed) if settled else None,
        closings=closings(regimes, wide, estimated, off or order) if ranked else (),
        noise=among.noise,
        residual=residual,
        domains=separation(torch.cat(batchwise.samples)),
        notes=tuple(notes),
        answers=answers(at_eval),
        given_answers=answers(crossed[1]) if settled else None,
        skill=skill(at_eval),
        given_skill=skill(crossed[1]) if settled else None,
        other_code=other_code(regimes, wide, evaluated, distances)
        if looked_for and told.map is None
        else None,
        input_map=told.map,
        first_map=told.of_first,
        first_leftover=told.leftover,
        other_content=told.content,
        not_finite=_not_finite(at_eval),
    )


def _without_statistics(
    regimes: Regimes, feed: Feed, at_eval: RegimeOutputs, seen: Mechanics
) -> AgainstData:
    """Of a model whose norms store nothing: only its outputs can be told."""
    train, note = in_train_mode(regimes, feed, at_eval, seen.tolerance)
    measured = [regime("eval", at_eval, at_eval)]
    in_train: tuple[int | None, int | None] = (None, None)
    if train is not None:
        measured.append(regime("train", train, at_eval))
        in_train = changed_answers(at_eval, train)
    return AgainstData(
        drifts=(),
        regimes=tuple(measured),
        effect=None,
        healed=None,
        harmed=None,
        train_healed=in_train[0],
        train_harmed=in_train[1],
        loss_t=None,
        decisiveness=None,
        closings=(),
        noise=(),
        residual=0.0,
        domains=None,
        notes=(note,) if note else (),
        answers=answers(at_eval),
        skill=skill(at_eval),
        not_finite=_not_finite(at_eval),
    )


def _not_finite(measured: RegimeOutputs) -> float:
    """Share of the values that are NaN or infinite."""
    values = sum(main.numel() for main in measured.mains)
    lost = sum(int((~main.isfinite()).sum()) for main in measured.mains)
    return lost / values if values else 0.0


@lazy_dataclass(eq=False)
class _Crossed:
    """All samples under statistics that were estimated without them."""

    estimated: Statistics
    """Of the first half."""
    residual: float
    """The larger one of the halves'."""
    outputs: tuple[RegimeOutputs, RegimeOutputs]
    """Of all samples in eval mode, and under statistics that were estimated without them."""
    settled: Tensor | None
    """Of all samples under re-estimated ones, in their order; None where their shapes differ."""


def _crossed(
    regimes: Regimes, feed: Feed, together: Feed, at_eval: RegimeOutputs, *, repeatable: bool
) -> _Crossed:
    """Re-estimate each half, and judge each sample by the statistics of all the others.

    Where samples cannot be told apart at a norm, or have several shapes, each half is judged by
    the statistics of the other.

    Args:
        regimes: Runs the model.
        feed: All of the data.
        together: The same in one batch where memory allows it.
        at_eval: What eval mode gives for them.
        repeatable: Whether two forwards of the same batch are equal.
    """
    halves = feed.halves()
    found = [regimes.estimated(half, repeatable=repeatable) for half in halves]
    residual = max(e.residual for e in found)
    if feed.pooled() is not None and len(at_eval.mains) == 1:
        share = halves[0].samples / feed.samples
        both = found[0].statistics.keys() & found[1].statistics.keys()
        whole = {
            place: pooled(found[0].statistics[place], found[1].statistics[place], share)
            for place in found[0].statistics
            if place in both
        }
        if len(together.batches) > 1:
            # Each half's were taken behind norms with that half's own.
            whole = regimes.refined(together, whole)
        left_out = regimes.left_out(together, whole)
        given = None if left_out is None else left_out.together()
        if given is not None and [main.shape for main in given.mains] == [at_eval.mains[0].shape]:
            outputs = (at_eval, given)
            return _Crossed(found[0].statistics, residual, outputs, given.mains[0])
    return _by_halves(regimes, feed, halves, found, at_eval)


def _by_halves(
    regimes: Regimes,
    feed: Feed,
    halves: tuple[Feed, Feed],
    found: list[DataStatistics],
    at_eval: RegimeOutputs,
) -> _Crossed:
    """Each half under the statistics of the other."""
    stored, given = RegimeOutputs([], []), RegimeOutputs([], [])
    for start, half in enumerate(halves):
        rows = range(start, feed.samples, 2)
        # Without a loop over companions an output is its sample's own: it need not run again.
        known = at_eval.rows(rows) if sum(map(len, at_eval.mains)) == feed.samples else None
        for gathered, run in (
            (stored, known or regimes.stored(half)),
            (given, regimes.given(half, found[1 - start].statistics)),
        ):
            gathered.mains += run.mains
            gathered.labels += run.labels
    first = found[0].outputs or regimes.given(halves[0], found[0].statistics)
    middle = halves[0].samples
    second = given.rows(range(middle, feed.samples))
    return _Crossed(
        estimated=found[0].statistics,
        residual=max(e.residual for e in found),
        outputs=(stored.together(), given.together()),
        settled=_alternating(first.together(), second),
    )


def _alternating(first: RegimeOutputs, second: RegimeOutputs | None) -> Tensor | None:
    """Outputs of every other sample and of the rest, in the order of the samples."""
    if second is None or len(first.mains) != 1:
        return None
    one, two = first.mains[0], second.mains[0]
    if one.shape[1:] != two.shape[1:] or len(one) - len(two) not in (0, 1):
        return None
    found = one.new_empty(len(one) + len(two), *one.shape[1:])
    found[::2], found[1::2] = one, two
    return found


def _told(healed: int | None, harmed: int | None, gain: float | None) -> bool:
    """Whether answers or losses are near to a verdict, of which luck is one time in twenty."""
    changed = (healed or 0) + (harmed or 0)
    z = ((healed or 0) - (harmed or 0)) / float(max(1, changed)) ** 0.5
    return bool(z >= 2 or (gain or 0.0) + 2 * z >= 3)


def distances_of(evaluated: Collected, batchwise: Collected) -> dict[CallSite, float]:
    """How far each norm is from its statistics, by the median over its channels.

    Args:
        evaluated: What eval mode gave them.
        batchwise: What they are given behind norms that normalise by the batch.
    """
    return {
        place: distance(*stored, *batchwise.moments[place].pooled(), evaluated.eps[place])
        for place, stored in evaluated.stored.items()
        if place in batchwise.moments
    }
