"""The stored statistics, and what they cost, against the user's data."""

from __future__ import annotations

import numpy as np
import torch

from normcheck.live.batches import Feed
from normcheck.live.causes.input_map import ReadInput, read_input
from normcheck.live.causes.other_code import other_code
from normcheck.live.feeding.label_range import check_range
from normcheck.live.hits import z_of
from normcheck.live.measurement import AgainstData, Mechanics
from normcheck.live.probes.batch_noise import scatter
from normcheck.live.probes.cost import cost_of, whole_feed, wide_feed
from normcheck.live.probes.crossed import crossed, exchanged
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
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.regimes import Regimes, distance
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
    halves = crossed(regimes, wide, whole, at_eval, repeatable=seen.repeat_difference == 0)
    residual, judged = halves.residual, halves.outputs
    order = list(evaluated.stored)
    among = scatter(regimes, wide, size, halves.settled, at_eval, at_batch, batchwise)
    train, note = in_train_mode(regimes, feed, at_batch, seen.tolerance)
    if note:
        notes.append(note)
    regimes_measured = [regime("eval", at_eval, at_eval)]
    # No figure of an estimate that does not reproduce itself goes into a verdict.
    settled = residual <= UNSETTLED
    if settled:
        regimes_measured.append(regime("re-estimated", judged[1], judged[0]))
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
    healed, harmed = changed_answers(*judged) if settled else (None, None)
    in_train = (None, None) if train is None else changed_answers(at_eval, train)
    drifts = drifts_of(batchwise, evaluated, order, norm_paths)
    gain = loss_gain(*judged) if settled else None
    off = [
        place
        for place, d in zip(order, drifts, strict=False)
        if np.any(d.shift_bound > 0) or np.any(d.log_scale_bound > 0)
    ]
    materially = [place for place, d in zip(order, drifts, strict=False) if is_material(d)]
    # Causes are looked for where a layer is off, or where outputs say that something is; layers
    # are ranked where that is more than a trace.
    better = (healed or 0) > (harmed or 0) or (gain or 0.0) > 1
    looked_for = bool(off) or better
    ranked = settled and (_told(healed, harmed, gain) or bool(materially))
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
        calibrated_t=calibrated_gain(*judged) if settled else None,
        expected_gain=expected_gain(*judged) if settled else None,
        decisiveness=decisiveness(*judged) if settled else None,
        closings=closings(regimes, wide, halves.of_halves[0], off or order) if ranked else (),
        noise=among.noise,
        residual=residual,
        domains=separation(torch.cat(batchwise.samples)),
        notes=tuple(notes),
        answers=answers(at_eval),
        given_answers=answers(judged[1]) if settled else None,
        skill=skill(at_eval),
        given_skill=skill(judged[1]) if settled else None,
        other_code=other_code(regimes, wide, evaluated, distances)
        if looked_for and told.map is None
        else None,
        input_map=told.map,
        first_map=told.of_first,
        first_leftover=told.leftover,
        other_content=told.content,
        not_finite=_not_finite(at_eval),
        exchanged=exchanged(regimes, wide, whole, halves, materially)
        if settled and healed is not None and seen.repeat_difference <= seen.tolerance
        else None,
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


def _told(healed: int | None, harmed: int | None, gain: float | None) -> bool:
    """Whether answers or losses are near to a verdict, of which luck is one time in twenty."""
    z = z_of(healed or 0, harmed or 0)
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
