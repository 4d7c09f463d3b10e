"""The stored statistics, and what they cost, against the user's data."""

from dataclasses import replace
from math import prod

import numpy as np
import torch

from normcheck.live.batches import Feed
from normcheck.live.measurement import AgainstData, Drift, NormRun
from normcheck.live.probes.against_constant import skill
from normcheck.live.probes.batch_noise import batch_noise
from normcheck.live.probes.data_domains import separation
from normcheck.live.probes.input_map import ReadInput, read_input
from normcheck.live.probes.layer_ranking import closings
from normcheck.live.probes.regime_comparison import (
    answers,
    calibrated_gain,
    changed_answers,
    decisiveness,
    effect,
    loss_gain,
    regime,
    regrouped,
)
from normcheck.live.watching.forward import Interrupted, mode
from normcheck.live.watching.functions import other_code
from normcheck.live.watching.input_moments import Moments, student_quantile
from normcheck.live.watching.regimes import Collected, RegimeOutputs, Regimes, Statistics, distance
from normcheck.live.watching.seen import CallSite
from normcheck.live.watching.untouched import untouched
from normcheck.wording import number

ERROR_RATE = 0.01
"""Probability that any channel of a model whose statistics are right has a bound above 0."""
UNSETTLED = 0.1
"""Residual, in standard deviations, from which an estimate is no estimate."""
_FEWEST = 4
"""Samples below which nothing is compared with data."""
_MOST_BYTES = 1 << 30
"""Of activations, as far as they can be foreseen, up to which samples go through the model in one
batch."""
_ALIVE = 4
"""Activations of the largest size that are held at once."""


def against_data(
    regimes: Regimes, feed: Feed, norm_paths: frozenset[str], norms: tuple[NormRun, ...] = ()
) -> AgainstData | None:
    """Measure everything that needs the user's data.

    Args:
        regimes: Runs the model, which is in eval mode.
        feed: Real data.
        norm_paths: Of the modules that are normalization layers.
        norms: What ran in one forward of a few samples, which tells how many fit in memory.

    Returns:
        None where there are too few samples to say anything.
    """
    if feed.samples < _FEWEST:
        return None
    notes: list[str] = []
    evaluated, batchwise = Collected(), Collected()
    size, wide = feed.batch_size, _wide(feed, norms)
    at_eval = regimes.stored(wide, evaluated).together()
    if not evaluated.stored:
        return _without_statistics(regimes, feed, at_eval)
    at_batch = regimes.batch(wide, batchwise, size=size).together()
    estimated, residual, crossed = _crossed(regimes, wide, at_eval)
    order = list(evaluated.stored)
    others, places = regrouped(feed)
    noise = batch_noise(regimes, wide, estimated, batchwise)
    train, note = _in_train_mode(regimes, feed)
    if note:
        notes.append(note)
    regimes_measured = [regime("eval", at_eval, at_eval)]
    # No figure of an estimate that does not reproduce itself goes into a verdict.
    settled = residual <= UNSETTLED
    if settled:
        regimes_measured.append(regime("re-estimated", crossed[1], crossed[0]))
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
    drifts = _drifts(batchwise, evaluated, order, norm_paths)
    gain = loss_gain(*crossed) if settled else None
    off = [
        place
        for place, d in zip(order, drifts, strict=False)
        if np.any(d.shift_bound > 0) or np.any(d.log_scale_bound > 0)
    ]
    # Layers are ranked where one of them is off, or where outputs say that something is.
    ranked = bool(off) or (healed or 0) > (harmed or 0) or (gain or 0.0) > 1
    distances = _distances(evaluated, batchwise)
    told = read_input(regimes, wide, evaluated, at_eval, distances) if ranked else ReadInput()
    return AgainstData(
        drifts=drifts,
        regimes=tuple(regimes_measured),
        effect=effect(
            at_eval,
            at_batch,
            regimes.batch(others.rebatched(wide.batch_size), size=size),
            places,
        ),
        healed=healed,
        harmed=harmed,
        train_healed=in_train[0],
        train_harmed=in_train[1],
        loss_t=gain,
        calibrated_t=calibrated_gain(*crossed) if settled else None,
        decisiveness=decisiveness(*crossed) if settled else None,
        closings=closings(regimes, wide, estimated, off or order) if settled and ranked else (),
        noise=noise,
        residual=residual,
        domains=separation(torch.cat(batchwise.samples)),
        notes=tuple(notes),
        answers=answers(at_eval),
        given_answers=answers(crossed[1]) if settled else None,
        skill=skill(at_eval),
        given_skill=skill(crossed[1]) if settled else None,
        other_code=other_code(regimes, wide, evaluated) if ranked and told.map is None else None,
        input_map=told.map,
        first_leftover=told.leftover,
    )


def _without_statistics(regimes: Regimes, feed: Feed, at_eval: RegimeOutputs) -> AgainstData:
    """Of a model whose norms store nothing: only its outputs can be told."""
    train, note = _in_train_mode(regimes, feed)
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
    )


def _crossed(
    regimes: Regimes, feed: Feed, at_eval: RegimeOutputs
) -> tuple[Statistics, float, tuple[RegimeOutputs, RegimeOutputs]]:
    """Re-estimate on one half, judge on the other, both ways.

    Args:
        regimes: Runs the model.
        feed: All of the data.
        at_eval: What eval mode gives for them.

    Returns:
        The statistics of the first half, the larger residual, and the outputs of all samples
        in eval mode and under statistics that were estimated without them.
    """
    halves = feed.halves()
    found = [regimes.estimated(half) for half in halves]
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
    return (
        found[0].statistics,
        max(e.residual for e in found),
        (stored.together(), given.together()),
    )


def _wide(feed: Feed, norms: tuple[NormRun, ...]) -> Feed:
    """The same samples in batches as large as memory allows, whole multiples of their size.

    What the norms normalise by is given to them, so that one forward stands for many.
    """
    largest = max((prod(norm.shape[1:]) for norm in norms if norm.shape), default=0)
    if not largest:
        return feed
    fit = _MOST_BYTES // (largest * 4 * _ALIVE)
    size = min(feed.samples, fit // feed.batch_size * feed.batch_size)
    if size <= feed.batch_size:
        return feed
    wide = feed.rebatched(size)
    return wide if wide is feed else replace(wide, batch_size=size)


def _distances(evaluated: Collected, batchwise: Collected) -> dict[CallSite, float]:
    """How far each norm is from its statistics, by the median over its channels."""
    return {
        place: distance(*stored, *batchwise.moments[place].pooled(), evaluated.eps[place])
        for place, stored in evaluated.stored.items()
        if place in batchwise.moments
    }


def _drifts(
    collected: Collected, evaluated: Collected, order: list[CallSite], norm_paths: frozenset[str]
) -> tuple[Drift, ...]:
    channels = sum(len(evaluated.stored[place][0]) for place in order)
    return tuple(
        _drift(place, position, collected.moments[place], evaluated, channels, norm_paths)
        for position, place in enumerate(order)
        if place in collected.moments
    )


def _drift(
    place: CallSite,
    position: int,
    moments: Moments,
    evaluated: Collected,
    channels: int,
    norm_paths: frozenset[str],
) -> Drift:
    """One layer; the interval is corrected for looking at ``channels`` channels, twice each."""
    mean_r, var_r = (np.asarray(t.numpy(), dtype=np.float64) for t in evaluated.stored[place])
    eps = evaluated.eps[place]
    mean_d, var_d = (np.asarray(t.numpy(), dtype=np.float64) for t in moments.pooled())
    quantile = student_quantile(ERROR_RATE / (4 * channels), moments.samples - 1)
    with np.errstate(all="ignore"):
        deviation = np.sqrt(np.maximum(var_r, 0) + eps)
        shift = (mean_d - mean_r) / deviation
        margin = quantile * moments.mean_error() / deviation
        log_scale = np.log((var_d + eps) / (np.maximum(var_r, 0) + eps))
        log_margin = quantile * moments.variance_error() / (var_d + eps)
    return Drift(
        path=place.path,
        turn=place.turn,
        position=position,
        samples=moments.samples,
        shift=shift,
        shift_bound=np.maximum(np.abs(shift) - margin, 0),
        log_scale=log_scale,
        log_scale_bound=np.maximum(np.abs(log_scale) - log_margin, 0),
        spread=moments.spread(),
        at_initial_values=bool(np.all(mean_r == 0) and np.all(var_r == 1)),
        norm_layer=place.path in norm_paths,
    )


def _in_train_mode(regimes: Regimes, feed: Feed) -> tuple[RegimeOutputs | None, str]:
    """As ``model.train()`` is, dropout and all."""
    model = regimes.forward.model
    if regimes.forward.fixed_mode:
        return None, ""
    torch.manual_seed(0)
    mains, labels = [], []
    try:
        # Train mode updates statistics, by which the forwards that follow are to be judged.
        with untouched(model), mode(model, training=True):
            for batch in feed.batches:
                main = regimes.forward(batch).main(batch.size)
                regimes.tick(batch.size)
                if main is not None:
                    mains.append(main.cpu())
                    labels.append(None if batch.labels is None else batch.labels.cpu())
    except Interrupted as error:
        return None, f"train mode failed: {error}"
    return RegimeOutputs(mains, labels).together(), ""
