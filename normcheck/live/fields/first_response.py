"""What the first norm of a model is given, which is linear in the input: no norm stands before it.

So what it is given of ``factor * x + offset`` follows from what it is given of ``x`` and of
constant inputs, borders of zeros included.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Batch
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.forward import Enough, Interrupted
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.seen import CallSite
from normcheck.norms.layer import Floats

EQUATIONS = 3
"""Channels of the first norm for each unknown, at least: fewer would fit anything."""
_FEWEST_PLACES = 4
"""That share weights, from which means of neighbouring places are alike."""
_MOST_CHANNELS = 4
"""Of an input whose channels get an offset each; of more, one offset stands for all."""
_ROUNDS = 12
"""Of fitting the offsets to the means and the factor to the variances, in turn."""
_SOME = 2
_ROUNDING = 1e-2
"""Relative difference that half precision makes of what is linear."""
_MOST_BYTES = 1 << 24
"""Of the first norm's input, in float64, that is held at once."""
_FEWEST_AT_ONCE = 4


@lazy_dataclass()
class Response:
    """What the first norm is given of ``factor * x + offset``, linear in (factor, offset, 1)."""

    means: Floats
    """``(C, K)``, of the norm's channels for each part of the input."""
    products: Floats
    """``(C, K, K)``, mean products of the parts."""
    places: int
    """Over which the weights are shared."""

    def mean(self, parts: Floats) -> Floats:
        """Of each channel, ``(C,)``, for factor, offsets and 1."""
        found: Floats = self.means @ parts
        return found

    def variance(self, parts: Floats) -> Floats:
        """The same of variances."""
        second: Floats = np.einsum("i,cij,j->c", parts, self.products, parts)
        return np.maximum(second - self.mean(parts) ** 2, 0.0)


@lazy_dataclass()
class StoredFirst:
    """What the first norm has stored."""

    mean: Floats
    variance: Floats
    eps: float

    @property
    def deviation(self) -> Floats:
        """What the norm divides by, ``(C,)``."""
        return np.sqrt(np.maximum(self.variance, 0.0) + self.eps)

    def distance(self, response: Response, parts: Floats) -> float:
        """How far the norm is from its statistics: the larger of the two medians."""
        shift = np.abs(response.mean(parts) - self.mean) / self.deviation
        return float(max(np.median(shift), np.median(np.abs(self._log_scale(response, parts)))))

    def scatter(self, response: Response, parts: Floats) -> float:
        """How far variances are from one common factor: root mean square of logarithms."""
        logs = self._log_scale(response, parts)
        return float(np.sqrt(np.mean((logs - np.median(logs)) ** 2)))

    def _log_scale(self, response: Response, parts: Floats) -> Floats:
        found: Floats = np.log((response.variance(parts) + self.eps) / self.deviation**2)
        return found

    def leftover(self, response: Response) -> float | None:
        """What of the means no factor and offset explain, in deviations."""
        if response.places < _FEWEST_PLACES:
            return None
        weights = 1.0 / self.deviation
        matrix = response.means[:, :-1] * weights[:, None]
        wanted = (self.mean - response.means[:, -1]) * weights
        rest = wanted - matrix @ np.linalg.lstsq(matrix, wanted, rcond=1e-6)[0]
        return float(np.sqrt(np.mean(rest**2)))

    def fitted(self, response: Response, sign: float) -> Floats | None:
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


def response_of(regimes: Regimes, first: CallSite, x: Tensor) -> Response | None:
    """What the first norm makes of the input and of constants; None where it does not run."""
    count = x.shape[1] if x.ndim > 2 and x.shape[1] <= _MOST_CHANNELS else 1
    constants = x.new_zeros(1 + count, *x.shape[1:])
    for number in range(count):
        constants[1 + number, ... if count == 1 else number] = 1.0
    fields = given_to(regimes, first, constants)
    if fields is None:
        return None
    zero = fields[:1]
    # Channels of the norm first: (C, N, P) of the input less nothing, (C, K - 1, P) of constants.
    others = torch.cat([fields[1:] - zero, zero]).transpose(0, 1)
    mean = square = middle = zero.new_zeros(())
    each = max(_FEWEST_AT_ONCE, _MOST_BYTES // (8 * fields[0].numel()))
    for start in range(0, len(x), each):
        given = given_to(regimes, first, x[start : start + each])
        if given is None or fields.shape[1:] != given.shape[1:]:
            return None
        own = (given - zero).transpose(0, 1)
        mean = mean + own.sum((1, 2)) / (len(x) * own.shape[2])
        square = square + own.square().sum((1, 2)) / (len(x) * own.shape[2])
        middle = middle + own.sum(1) / len(x)
    among = torch.einsum("cip,cjp->cij", others, others) / others.shape[2]
    with_others = torch.einsum("cp,ckp->ck", middle, others) / others.shape[2]
    upper = torch.cat([square[:, None], with_others], 1)[:, None]
    products = torch.cat([upper, torch.cat([with_others[:, :, None], among], 2)], 1)
    means = torch.cat([mean[:, None], others.mean(2)], 1)
    return Response(
        np.asarray(means.cpu().numpy(), np.float64),
        np.asarray(products.cpu().numpy(), np.float64),
        others.shape[2],
    )


def is_linear(regimes: Regimes, first: CallSite, x: Tensor) -> bool:
    """Whether what the first norm is given doubles, but for a constant, where the input does."""
    found = given_to(regimes, first, torch.cat([x[:1] * 0, x[:2], 2 * x[:2]]))
    if found is None or len(x) < _SOME:
        return False
    once, twice = found[1:3] - found[:1], found[3:] - found[:1]
    return float((twice - 2 * once).norm()) <= _ROUNDING * float(twice.norm())


def given_to(regimes: Regimes, first: CallSite, x: Tensor) -> Tensor | None:
    """The first norm's input, in float64; the forward ends there."""
    kept: list[Tensor] = []

    def how(call: BatchNormCall) -> object:
        if call.place != first:
            return None
        given = call.input.detach().double()
        kept.append(given.reshape(*given.shape[:2], -1))
        raise Enough  # the rest of the forward says nothing more

    try:
        for _ in regimes.run((Batch((x,)),), how):
            pass
    except Interrupted as error:
        if not isinstance(error.__cause__, Enough):
            return None
    return kept[0] if kept and len(kept[0]) == len(x) else None
