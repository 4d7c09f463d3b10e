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
from normcheck.live.misfit import InputMap
from normcheck.live.probes.regime_comparison import answers, changed_answers
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.forward import Interrupted
from normcheck.live.watching.regimes import Collected, Outputs, Regimes, distance
from normcheck.live.watching.seen import CallSite
from normcheck.norms.layer import Floats

_SAMPLES = 128
_FEWEST_PLACES = 4
"""That share weights, from which means of neighbouring places are alike."""
_MOST_CHANNELS = 4
"""Of an input whose channels get an offset each; of more, one offset stands for all."""
_EQUATIONS = 3
"""Channels of the first norm for each unknown, at least: fewer would fit anything."""
_ROUNDS = 12
"""Of fitting the offsets to the means and the factor to the variances, in turn."""
OFF = 0.15
"""Median distance of a norm from which it does not fit: standard deviations, or log ratio."""
FITS = 0.15
"""The same up to which the first norm fits."""
_LATER = 0.3
"""The same of those behind it, all with their stored statistics, which carry errors on. Measured
on the networks of ``benchmarks/run_verdicts.py``, 256 samples that were held out: 0.06 to 0.25 of
the input that was meant, from 0.27 on of statistics that are off."""
_BETTER = 0.5
"""Part of the first norm's distance that may be left: 0.4 at most where the input was to blame."""
_OF_FAR = 0.1
"""Part of a large distance that may be left all the same."""
_BETTER_BEHIND = 0.8
"""The same of those behind where it was inverted: 0.77 at most."""
_MOST_BYTES = 1 << 27
"""Of the first norm's input, in float64, that is held."""


@lazy_dataclass()
class ReadInput:
    """What the first norm tells of the input that the statistics are of."""

    map: InputMap | None = None
    """The change of the input under which all norms fit; None where none is found."""
    leftover: float | None = None
    """Root mean square, in stored deviations, of what no input explains of the first norm's
    means; None where its weights do not share what they take over many places."""


def read_input(
    regimes: Regimes,
    feed: Feed,
    seen: Collected,
    at_eval: Outputs,
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
    batch = feed.spread(_SAMPLES).pooled()
    first, *later = seen.stored
    if batch is None or len(batch.args) != 1 or batch.kwargs or not later:
        return ReadInput()
    x = batch.args[0]
    if not isinstance(x, Tensor) or not x.is_floating_point() or x.ndim < 2:
        return ReadInput()
    before, behind = distances.get(first, 0.0), max(distances.get(p, 0.0) for p in later)
    if max(before, behind) < OFF:
        return ReadInput()
    mean, variance = (np.asarray(t.numpy(), np.float64) for t in seen.stored[first])
    known = _Known(mean, variance, seen.eps[first])
    found, leftover = [], None
    for turned in (False, True) if x.ndim > 2 and x.shape[1] == 3 else (False,):
        response = _response(regimes, first, x.flip(1) if turned else x)
        if response is None or len(response.means) < _EQUATIONS * (response.means.shape[1] - 1):
            break
        if not turned:
            leftover = known.leftover(response)
        for sign in (1.0, -1.0):
            if sign > 0 and not turned and before < OFF:
                continue  # it fits as it is
            parts = known.fitted(response, sign)
            if parts is None or known.distance(response, parts) > _most_left(before):
                continue
            shown = InputMap(
                factor=float(parts[0]),
                offsets=tuple(map(float, parts[1:-1])),
                reversed_channels=turned,
                fed=_moments(x, len(parts) - 2),
                before=before,
                behind=behind,
                samples=feed.samples,
            )
            tried = _tried(regimes, feed, shown, seen, at_eval)
            if tried is not None and _fits(tried):
                found.append(tried)
    return ReadInput(min(found, key=lambda m: max(m.first, m.later), default=None), leftover)


def _fits(found: InputMap) -> bool:
    """Whether all norms fit, clearly better than as the input is."""
    if found.first > _most_left(found.before) or found.later > _LATER:
        return False
    # An inversion shows behind the first norm, and need not show in it.
    if found.factor < 0 and found.later > _BETTER_BEHIND * found.behind:
        return False
    return found.before < OFF or found.first <= _BETTER * found.before


def _most_left(before: float) -> float:
    """Distance of the first norm that is left where a change fits.

    Of an input that is far off a little more: linear layers see the means of every place, which
    two sets of data do not share.
    """
    return max(FITS, min(_LATER, _OF_FAR * before))


class _Enough(Exception):  # noqa: N818  (an outcome, not an error)
    """The first norm was seen: the rest of the forward says nothing more."""


@lazy_dataclass()
class _Response:
    """What the first norm is given of ``factor * x + offset``, linear in (factor, offset, 1)."""

    means: Floats
    """``(C, K)``, of the norm's channels for each part of the input."""
    products: Floats
    """``(C, K, K)``, mean products of the parts."""
    places: int
    """Over which the weights are shared."""

    def mean(self, parts: Floats) -> Floats:
        found: Floats = self.means @ parts
        return found

    def variance(self, parts: Floats) -> Floats:
        second: Floats = np.einsum("i,cij,j->c", parts, self.products, parts)
        return np.maximum(second - self.mean(parts) ** 2, 0.0)


@lazy_dataclass()
class _Known:
    """What the first norm has stored."""

    mean: Floats
    variance: Floats
    eps: float

    @property
    def deviation(self) -> Floats:
        return np.sqrt(np.maximum(self.variance, 0.0) + self.eps)

    def distance(self, response: _Response, parts: Floats) -> float:
        """How far the norm is from its statistics: the larger of the two medians."""
        shift = np.abs(response.mean(parts) - self.mean) / self.deviation
        return float(max(np.median(shift), np.median(np.abs(self._log_scale(response, parts)))))

    def _log_scale(self, response: _Response, parts: Floats) -> Floats:
        found: Floats = np.log((response.variance(parts) + self.eps) / self.deviation**2)
        return found

    def leftover(self, response: _Response) -> float | None:
        """What of the means no factor and offset explain, in deviations."""
        if response.places < _FEWEST_PLACES:
            return None
        weights = 1.0 / self.deviation
        matrix = response.means[:, :-1] * weights[:, None]
        wanted = (self.mean - response.means[:, -1]) * weights
        rest = wanted - matrix @ np.linalg.lstsq(matrix, wanted, rcond=1e-6)[0]
        return float(np.sqrt(np.mean(rest**2)))

    def fitted(self, response: _Response, sign: float) -> Floats | None:
        """Factor, offsets and 1, under which mean and variance fit best; None where none do."""
        parts = np.array([sign, *[0.0] * (response.means.shape[1] - 2), 1.0])
        weights = 1.0 / self.deviation
        for _ in range(_ROUNDS):
            parts[0] *= float(np.exp(-np.median(self._log_scale(response, parts)) / 2))
            rest = self.mean - response.means[:, 0] * parts[0] - response.means[:, -1]
            matrix = response.means[:, 1:-1] * weights[:, None]
            parts[1:-1] = np.linalg.lstsq(matrix, rest * weights, rcond=1e-6)[0]
            if not np.isfinite(parts).all():
                return None
        return parts


def _response(regimes: Regimes, first: CallSite, x: Tensor) -> _Response | None:
    """What the first norm makes of the input and of constants; None where it does not run."""
    count = x.shape[1] if x.ndim > 2 and x.shape[1] <= _MOST_CHANNELS else 1
    constants = x.new_zeros(1 + count, *x.shape[1:])
    for number in range(count):
        constants[1 + number, ... if count == 1 else number] = 1.0
    fields = _seen(regimes, first, constants)
    if fields is None:
        return None
    most = max(16, _MOST_BYTES // (8 * fields[0].numel()))
    given = _seen(regimes, first, x[:: -(-len(x) // most)])
    if given is None or fields.shape[1:] != given.shape[1:]:
        return None
    zero = fields[:1]
    # Channels of the norm first: (C, N, P) of the input less nothing, (C, K - 1, P) of constants.
    own = (given - zero).transpose(0, 1)
    others = torch.cat([fields[1:] - zero, zero]).transpose(0, 1)
    among = torch.einsum("cip,cjp->cij", others, others) / others.shape[2]
    with_others = torch.einsum("cp,ckp->ck", own.mean(1), others) / own.shape[2]
    square = own.square().mean((1, 2))
    upper = torch.cat([square[:, None], with_others], 1)[:, None]
    products = torch.cat([upper, torch.cat([with_others[:, :, None], among], 2)], 1)
    means = torch.cat([own.mean((1, 2))[:, None], others.mean(2)], 1)
    return _Response(
        np.asarray(means.cpu().numpy(), np.float64),
        np.asarray(products.cpu().numpy(), np.float64),
        own.shape[2],
    )


def _seen(regimes: Regimes, first: CallSite, x: Tensor) -> Tensor | None:
    """The first norm's input, in float64; the forward ends there."""
    kept: list[Tensor] = []

    def how(call: BatchNormCall) -> object:
        if call.place != first:
            return None
        given = call.input.detach().double()
        kept.append(given.reshape(*given.shape[:2], -1))
        raise _Enough

    try:
        for _ in regimes.run((Batch((x,)),), how):
            pass
    except Interrupted as error:
        if not isinstance(error.__cause__, _Enough):
            return None
    return kept[0] if kept and len(kept[0]) == len(x) else None


def _tried(
    regimes: Regimes, feed: Feed, shown: InputMap, seen: Collected, at_eval: Outputs
) -> InputMap | None:
    """The same with what all norms and the answers make of it, in eval mode as it is."""

    def changed(batch: Batch) -> Batch:
        x: Tensor = batch.args[0].flip(1) if shown.reversed_channels else batch.args[0]
        offsets = torch.as_tensor(shown.offsets, dtype=x.dtype, device=x.device)
        shape = (1, -1, *[1] * (x.ndim - 2)) if len(offsets) > 1 else (1,) * x.ndim
        return Batch((shown.factor * x + offsets.reshape(shape),), {}, batch.labels)

    collected = Collected()
    try:
        outputs = regimes.stored(
            replace(feed, batches=tuple(map(changed, feed.batches))), collected
        )
    except Interrupted:
        return None
    found = [
        distance(*stored, *collected.moments[place].pooled(), seen.eps[place])
        for place, stored in seen.stored.items()
        if place in collected.moments
    ]
    healed, harmed = changed_answers(at_eval, outputs)
    told = answers(outputs)
    return replace(
        shown,
        first=found[0],
        later=max(found[1:], default=0.0),
        healed=healed,
        harmed=harmed,
        right=told.right if told else None,
    )


def _moments(x: Tensor, count: int) -> tuple[tuple[float, float], ...]:
    """Mean and deviation of each channel, or of all."""
    rows = x.double().transpose(0, 1).flatten(1) if count > 1 else x.double().reshape(1, -1)
    return tuple((float(row.mean()), float(row.std(correction=0))) for row in rows)
