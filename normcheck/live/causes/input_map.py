"""The input that the statistics are of, where it is another than the one that is fed.

The first norm stands behind weights that are linear in the input. So what it would be given of
``factor * x + offset`` follows from what it is given of ``x`` and of constant inputs, borders of
zeros included, and the factor and offsets under which its stored mean and variance fit are found
without trying. Whether the input is to blame is then seen by feeding it so changed: all norms
have to fit their stored statistics, which a change of the input does to none that are foreign.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch, Feed
from normcheck.live.causes.other_content import other_content
from normcheck.live.fields.first_response import EQUATIONS, StoredFirst, response_of
from normcheck.live.misfit import InputMap, OtherContent
from normcheck.live.scores.regime_comparison import answers, changed_answers
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.forward import Enough, Interrupted, RegimeOutputs
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.regimes import Regimes, distance
from normcheck.live.watching.seen import CallSite

SAMPLES = 128
OFF = 0.15
"""Median distance of a norm from which it does not fit: standard deviations, or log ratio."""
FITS = 0.15
"""The same up to which the first norm fits."""
_LATER = 0.3
"""The same of those behind it, all with their stored statistics, which carry errors on. Measured
on the networks of ``benchmarks/run_verdicts.py``, 256 samples that were held out: 0.06 to 0.25 of
the input that was meant, from 0.27 on of statistics that are off."""
_SURELY = 2.0
"""Times these, some of the samples are enough to see that a change does not fit."""
_BETTER = 0.5
"""Part of the first norm's distance that may be left: 0.4 at most where the input was to blame."""
_OF_FAR = 0.1
"""Part of a large distance that may be left all the same."""
_BETTER_BEHIND = 0.8
"""The same of those behind where it was inverted: 0.77 at most."""
_PROVEN = 4.0
"""Standard errors by which more answers have to become right than wrong where norms behind the
first do not fit."""
_KNOWS = 0.2
"""Part of what guessing gets wrong that has to be right then."""


@lazy_dataclass()
class ReadInput:
    """What the first norm tells of the input that the statistics are of."""

    map: InputMap | None = None
    """The change of the input under which all norms fit, or the first alone and the answers are
    better; None where none is found."""
    of_first: InputMap | None = None
    """The change under which the first norm fits, where one behind it does not; None where ``map``
    is one, or nothing but an inversion or another order of the channels makes the first fit."""
    leftover: float | None = None
    """Root mean square, in stored deviations, of what no input explains of the first norm's
    means; None where its weights do not share what they take over many places."""
    content: OtherContent | None = None
    """The kind of images that its statistics are of, where the data are of another."""


def read_input(
    regimes: Regimes,
    feed: Feed,
    seen: Collected,
    at_eval: RegimeOutputs,
    distances: Mapping[CallSite, float],
) -> ReadInput:
    """Hold the first norm against the input, and look for the input that it was meant for.

    Args:
        regimes: Runs the model.
        feed: Real data.
        seen: What eval mode gives each norm, in the order in which they run.
        at_eval: Outputs of the same data in eval mode.
        distances: How far each norm is from its statistics as the input is, each of them behind
            norms that normalise by the batch.
    """
    # An archive of arrays gives its one input by name.
    feed = replace(feed, batches=tuple(each.by_place() for each in feed.batches))
    batch = feed.spread(SAMPLES).pooled()
    first, *later = seen.stored
    if batch is None or len(batch.args) != 1 or batch.kwargs or not later:
        return ReadInput()
    x = batch.args[0]
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2:
        return ReadInput()
    before, behind = distances.get(first, 0.0), max(distances.get(p, 0.0) for p in later)
    if max(before, behind) < OFF and not _wrong(at_eval):
        return ReadInput()
    mean, variance = (np.asarray(t.numpy(), np.float64) for t in seen.stored[first])
    known = StoredFirst(mean, variance, seen.eps[first])
    found, of_first, leftover, fits = [], None, None, []
    for turned in (False, True) if x.ndim > 2 and x.shape[1] == 3 else (False,):
        response = response_of(regimes, first, x.flip(1) if turned else x)
        if response is None or len(response.means) < EQUATIONS * (response.means.shape[1] - 1):
            break
        if not turned:
            leftover = known.leftover(response)
        for sign in (1.0, -1.0):
            parts = known.fitted(response, sign)
            if parts is None:
                continue
            fits.append((response, parts))
            if sign > 0 and not turned and before < OFF:
                continue  # it fits as it is
            left = known.distance(response, parts)
            if left > _most_left(before):
                continue
            shown = InputMap(
                factor=float(parts[0]),
                offsets=tuple(map(float, parts[1:-1])),
                reversed_channels=turned,
                fed=_moments(x, len(parts) - 2),
                before=before,
                behind=behind,
                samples=feed.samples,
                first=left,
            )
            if sign > 0 and not turned:
                of_first = shown
            if not _may_fit(regimes, batch, shown, seen):
                continue
            tried = _tried(regimes, feed, shown, seen, at_eval)
            if tried is not None and (tried.fits or _answers(tried)):
                found.append(tried)
    # Labels know better than distances which of two changes is the one: of weights that are nearly
    # symmetric an input and its inverse fit alike.
    best = max(found, key=lambda m: (m.right or 0, -m.first - m.later), default=None)
    content = other_content(regimes, seen, first, x, fits) if best is None else None
    return ReadInput(best, of_first if best is None else None, leftover, content)


def _fits(found: InputMap) -> bool:
    """Whether all norms fit, clearly better than as the input is."""
    if found.first > _most_left(found.before) or found.later > _LATER:
        return False
    # An inversion shows behind the first norm, and need not show in it.
    if found.factor < 0 and found.later > _BETTER_BEHIND * found.behind:
        return False
    return found.before < OFF or found.first <= _BETTER * found.before


def _answers(found: InputMap) -> bool:
    """Whether labels speak for a change under which the first norm fits.

    Behind it norms may lag behind weights that still moved, and an inversion of what lies evenly
    about its mean moves them by little.
    """
    healed, harmed = found.healed or 0, found.harmed or 0
    if healed - harmed < _PROVEN * max(healed + harmed, 1) ** 0.5:
        return False
    # Of labels that are another model's no answer is right, and any change makes some of them so.
    beyond = (found.right or 0) / found.samples - found.guessed
    return beyond >= _KNOWS * (1 - found.guessed) and found.first <= _most_left(found.before)


def _wrong(at_eval: RegimeOutputs) -> bool:
    """Whether labels show that most answers are wrong: whatever norms say, something is."""
    told = answers(at_eval)
    return told is not None and told.right < 0.5 * told.samples


def _most_left(before: float) -> float:
    """Distance of the first norm that is left where a change fits.

    Of an input that is far off a little more: linear layers see the means of every place, which
    two sets of data do not share.
    """
    return max(FITS, min(_LATER, _OF_FAR * before))


def _changed(batch: Batch, shown: InputMap) -> Batch:
    x: Tensor = batch.args[0].flip(1) if shown.reversed_channels else batch.args[0]
    offsets = torch.as_tensor(shown.offsets, dtype=x.dtype, device=x.device)
    shape = (1, -1, *[1] * (x.ndim - 2)) if len(offsets) > 1 else (1,) * x.ndim
    return Batch((shown.factor * x + offsets.reshape(shape),), {}, batch.labels)


def _may_fit(regimes: Regimes, batch: Batch, shown: InputMap, seen: Collected) -> bool:
    """Whether no norm is far off on some of the samples; the forward ends where one is."""
    collected = Collected()

    def how(call: BatchNormCall) -> None:
        collected.take(call)
        place = call.place
        if place not in seen.stored:
            return
        moments = collected.moments[place].pooled()
        limit = _most_left(shown.before) if len(collected.moments) == 1 else _LATER
        if distance(*seen.stored[place], *moments, seen.eps[place]) > _SURELY * limit:
            raise Enough

    try:
        for _ in regimes.run((_changed(batch, shown),), how):
            pass
    except Interrupted:
        return False
    return True


def _tried(
    regimes: Regimes, feed: Feed, shown: InputMap, seen: Collected, at_eval: RegimeOutputs
) -> InputMap | None:
    """The same with what all norms and the answers make of it, in eval mode as it is."""
    collected = Collected()
    try:
        changed = tuple(_changed(batch, shown) for batch in feed.batches)
        outputs = regimes.stored(replace(feed, batches=changed), collected)
    except Interrupted:
        return None
    found = [
        distance(*stored, *collected.moments[place].pooled(), seen.eps[place])
        for place, stored in seen.stored.items()
        if place in collected.moments
    ]
    healed, harmed = changed_answers(at_eval, outputs)
    told = answers(outputs)
    tried = replace(
        shown,
        first=found[0],
        later=max(found[1:], default=0.0),
        healed=healed,
        harmed=harmed,
        right=told.right if told else None,
        guessed=told.chance if told else 0.0,
    )
    return replace(tried, fits=_fits(tried))


def _moments(x: Tensor, count: int) -> tuple[tuple[float, float], ...]:
    """Mean and deviation of each channel, or of all."""
    rows = x.double().transpose(0, 1).flatten(1) if count > 1 else x.double().reshape(1, -1)
    return tuple((float(row.mean()), float(row.std(correction=0))) for row in rows)
