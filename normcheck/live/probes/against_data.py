"""The stored statistics, and what they cost, against the user's data."""

import numpy as np
import torch

from normcheck.live.batches import Feed
from normcheck.live.measurement import AgainstData, Drift, NoiseAt
from normcheck.live.probes.data_domains import separation
from normcheck.live.probes.layer_ranking import closings
from normcheck.live.probes.regime_comparison import (
    answers,
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
from normcheck.live.watching.functions import other_code
from normcheck.live.watching.input_moments import Moments, student_quantile
from normcheck.live.watching.regimes import Collected, Outputs, Regimes, Statistics
from normcheck.live.watching.seen import CallSite
from normcheck.live.watching.untouched import untouched
from normcheck.wording import number

ERROR_RATE = 0.01
"""Probability that any channel of a model whose statistics are right has a bound above 0."""
UNSETTLED = 0.1
"""Residual, in standard deviations, from which an estimate is no estimate."""
NOISE_SIZES = (1, 2, 4, 8, 16, 32)
_NOISE_SAMPLES = 64
_NOISE_BATCHES = 16
"""Most forwards at one batch size: how far outputs scatter is no finer matter than that."""
_FEWEST = 4
"""Samples below which nothing is compared with data."""
_MOST_BYTES = 1 << 30
"""Of activations, as far as they can be foreseen, up to which half of the samples go through the
model in one batch."""
_ALIVE = 4
"""Activations of the largest size that are held at once."""


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
    estimated, residual, crossed = _crossed(regimes, feed, together=_fits(evaluated, feed))
    order = list(evaluated.stored)
    others, places = regrouped(feed)
    noise = _noise(regimes, feed, estimated, batchwise)
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
    # Layers are ranked where one of them is off, or where outputs say that something is.
    ranked = (
        any(np.any(d.shift_bound > 0) or np.any(d.log_scale_bound > 0) for d in drifts)
        or (healed or 0) > (harmed or 0)
        or (gain or 0.0) > 1
    )
    return AgainstData(
        drifts=drifts,
        regimes=tuple(regimes_measured),
        effect=effect(at_eval, at_batch, regimes.batch(others), places),
        healed=healed,
        harmed=harmed,
        train_healed=in_train[0],
        train_harmed=in_train[1],
        loss_t=gain,
        decisiveness=decisiveness(*crossed) if settled else None,
        closings=closings(regimes, feed, estimated, order) if settled and ranked else (),
        noise=noise,
        residual=residual,
        domains=separation(torch.cat(batchwise.samples)),
        notes=tuple(notes),
        answers=answers(at_eval),
        given_answers=answers(crossed[1]) if settled else None,
        other_code=other_code(regimes, feed, evaluated.stored, evaluated.eps) if ranked else None,
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
        answers=answers(at_eval),
    )


def _crossed(
    regimes: Regimes, feed: Feed, *, together: bool
) -> tuple[Statistics, float, tuple[Outputs, Outputs]]:
    """Re-estimate on one half, judge on the other, both ways.

    Returns:
        The statistics of the first half, the larger residual, and the outputs of all samples
        in eval mode and under statistics that were estimated without them.
    """
    halves = feed.halves()
    found = [regimes.estimated(half, together=together) for half in halves]
    stored = Outputs([], [])
    given = Outputs([], [])
    for half, other in zip(halves, reversed(found), strict=True):
        for gathered, run in (
            (stored, regimes.stored(half)),
            (given, regimes.given(half, other.statistics)),
        ):
            gathered.mains += run.mains
            gathered.labels += run.labels
    return found[0].statistics, max(e.residual for e in found), (stored, given)


def _fits(seen: Collected, feed: Feed) -> bool:
    """Whether half of the samples may go through the model at once."""
    largest = max(
        (m.values / max(1, m.samples) * len(m.m) for m in seen.moments.values()), default=0.0
    )
    return feed.samples / 2 * largest * 4 * _ALIVE <= _MOST_BYTES


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
    settled = torch.cat(regimes.given(some.rebatched(32), estimated).mains)
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
        part = min(count, _NOISE_BATCHES * size)
        try:
            noisy = regimes.batch(some.part(range(part)).rebatched(size)).mains
        except Interrupted:
            found.append(NoiseAt(size, None, None, effective))
            continue
        a, b = [torch.cat(noisy)], [settled[:part]]
        found.append(NoiseAt(size, difference(a, b), outputs.flips(a, b), effective))
    return tuple(found)
