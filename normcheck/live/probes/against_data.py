"""The stored statistics, and what they cost, against the user's data."""

import numpy as np
import torch

from normcheck.live.batches import Feed
from normcheck.live.measurement import AgainstData, Drift, NoiseAt
from normcheck.live.probes.data_domains import separation
from normcheck.live.probes.layer_ranking import closings
from normcheck.live.probes.regime_comparison import (
    changed_answers,
    decisiveness,
    difference,
    effect,
    loss_gain,
    regime,
    regrouped,
)
from normcheck.live.watching import outputs
from normcheck.live.watching.forward import Interrupted, mode
from normcheck.live.watching.input_moments import Moments, student_quantile
from normcheck.live.watching.observe import Place
from normcheck.live.watching.regimes import Collected, Outputs, Regimes, Statistics
from normcheck.live.watching.untouched import untouched

ERROR_RATE = 0.01
"""Probability that any channel of a model whose statistics are right has a bound above 0."""
ROUNDS = 2
"""Rounds of re-estimation after the first; the residual is reported."""
NOISE_SIZES = (1, 2, 4, 8, 16, 32)
_NOISE_SAMPLES = 64
_FEWEST = 4
"""Samples below which nothing is compared with data."""


def against_data(regimes: Regimes, feed: Feed, norm_paths: frozenset[str]) -> AgainstData | None:
    """Measure everything that needs the user's data.

    Args:
        regimes: Runs the model, which is in eval mode.
        feed: Real data.
        norm_paths: Of the modules that are normalization layers.

    Returns:
        None where there are too few samples to say anything.
    """
    if feed.samples < _FEWEST:
        return None
    notes: list[str] = []
    evaluated, batchwise = Collected(), Collected()
    at_eval = regimes.stored(feed, evaluated)
    at_batch = regimes.batch(feed, batchwise)
    if not evaluated.stored:
        return _without_statistics(regimes, feed, at_eval)
    first, second = feed.halves()
    estimated, residual, crossed = _crossed(regimes, first, second)
    order = list(evaluated.stored)
    others, places = regrouped(feed)
    noise = _noise(regimes, feed, estimated, batchwise)
    train, note = _in_train_mode(regimes, feed)
    if note:
        notes.append(note)
    regimes_measured = [
        regime("eval", at_eval, at_eval),
        regime("re-estimated", crossed[1], crossed[0]),
        regime("batch", at_batch, at_eval),
    ]
    if train is not None:
        regimes_measured.append(regime("train", train, at_eval))
    healed, harmed = changed_answers(*crossed)
    in_train = (None, None) if train is None else changed_answers(at_eval, train)
    return AgainstData(
        drifts=_drifts(batchwise, evaluated, order, norm_paths),
        regimes=tuple(regimes_measured),
        effect=effect(at_eval, at_batch, regimes.batch(others), places),
        healed=healed,
        harmed=harmed,
        train_healed=in_train[0],
        train_harmed=in_train[1],
        loss_t=loss_gain(*crossed),
        decisiveness=decisiveness(*crossed),
        closings=closings(regimes, feed, estimated, order),
        noise=noise,
        residual=residual,
        domains=separation(torch.cat(batchwise.samples)),
        notes=tuple(notes),
    )


def _without_statistics(regimes: Regimes, feed: Feed, at_eval: Outputs) -> AgainstData:
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
    )


def _crossed(
    regimes: Regimes, first: Feed, second: Feed
) -> tuple[Statistics, float, tuple[Outputs, Outputs]]:
    """Re-estimate on one half, judge on the other, both ways.

    Returns:
        The statistics of the first half, the larger residual, and the outputs of all samples
        in eval mode and under statistics that were estimated without them.
    """
    from_first, left = regimes.estimated(first, ROUNDS)
    from_second, left_too = regimes.estimated(second, ROUNDS)
    stored = Outputs([], [])
    given = Outputs([], [])
    for feed, statistics in ((second, from_first), (first, from_second)):
        for gathered, run in (
            (stored, regimes.stored(feed)),
            (given, regimes.given(feed, statistics)),
        ):
            gathered.mains += run.mains
            gathered.labels += run.labels
    return from_first, max(left, left_too), (stored, given)


def _drifts(
    collected: Collected, evaluated: Collected, order: list[Place], norm_paths: frozenset[str]
) -> tuple[Drift, ...]:
    channels = sum(len(evaluated.stored[place][0]) for place in order)
    return tuple(
        _drift(place, position, collected.moments[place], evaluated, channels, norm_paths)
        for position, place in enumerate(order)
        if place in collected.moments
    )


def _drift(
    place: Place,
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


def _in_train_mode(regimes: Regimes, feed: Feed) -> tuple[Outputs | None, str]:
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
    return Outputs(mains, labels), ""


def _noise(
    regimes: Regimes, feed: Feed, estimated: Statistics, collected: Collected
) -> tuple[NoiseAt, ...]:
    """Outputs under batch statistics at several batch sizes, against those of all the data."""
    whole = feed.pooled()
    if whole is None:
        return ()
    count = min(_NOISE_SAMPLES, whole.size)
    some = feed.spread(count)
    settled = regimes.given(some.rebatched(32), estimated).mains
    # The spread is that of the layer whose batch means scatter most.
    spread = max(
        (float(np.median(collected.moments[place].spread())) for place in collected.stored),
        default=1.0,
    )
    found = []
    for size in NOISE_SIZES:
        if size > count:
            break
        effective = size / spread if spread > 0 else float("inf")
        try:
            noisy = regimes.batch(some.rebatched(size)).mains
        except Interrupted:
            found.append(NoiseAt(size, None, None, effective))
            continue
        a, b = [torch.cat(noisy)], [torch.cat(settled)]
        found.append(NoiseAt(size, difference(a, b), outputs.flips(a, b), effective))
    return tuple(found)
