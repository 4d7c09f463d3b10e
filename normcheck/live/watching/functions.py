"""Whether the statistics fit another function than the one that the code computes.

Where the first norms fit their statistics exactly and later ones do not, nothing but code lies
between them: an activation that a conversion lost or put in, another eps than in training. Each is
tried, and the one under which all norms fit is named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.batches import Feed
from normcheck.live.misfit import OtherCode
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.forward import Interrupted
from normcheck.live.watching.observe import Activation
from normcheck.live.watching.regimes import Collected, Regimes, distance
from normcheck.live.watching.seen import CallSite

_SAMPLES = 128
FITS = 0.1
"""Median distance of a layer from its statistics (standard deviations, or log variance ratio) up
to which it fits."""
OFF = 0.15
"""Distance from which it does not."""
_BETTER = 0.3
"""Part of the largest distance that may be left under the function that was meant."""
_EPS = (1e-3, 1e-5)

Stored = Mapping[CallSite, tuple[Tensor, Tensor]]


@lazy_dataclass()
class _Variant:
    words: str
    eps: float | None = None
    activation: Activation | None = None
    after_norms: bool = False
    """Put the activation behind each norm, where the model runs none."""


def _nothing(x: Tensor) -> Tensor:
    return x


_ACTIVATIONS: dict[str, Activation] = {
    "": _nothing,
    "ReLU": torch.relu,
    "SiLU": functional.silu,
    "GELU": functional.gelu,
    "leaky ReLU (0.1)": lambda x: functional.leaky_relu(x, 0.1),
    "leaky ReLU (0.01)": lambda x: functional.leaky_relu(x, 0.01),
}


def other_code(regimes: Regimes, feed: Feed, seen: Collected) -> OtherCode | None:
    """The function under which all norms fit, where the code's own is another.

    Args:
        regimes: Runs the model.
        feed: Real data; a part of it is used.
        seen: What eval mode gives each norm, in the order in which they run.

    Returns:
        None where the first norm is off already, all fit, or none of what is tried helps.
    """
    some, stored, eps = feed.spread(_SAMPLES), seen.stored, seen.eps
    order = list(stored)
    if len(order) < 2:
        return None
    own, activations = _distances(regimes, some, stored, _Variant(""))
    first = next((i for i, place in enumerate(order) if own.get(place, 0.0) > FITS), None)
    worst = max(own.values(), default=0.0)
    if not first or worst < OFF or not np.isfinite(worst):
        return None
    best: tuple[float, str] | None = None
    for variant in _variants(set(eps.values()), activations):
        try:
            found, _ = _distances(regimes, some, stored, variant)
        except Interrupted:
            continue
        left = max(found.values(), default=np.inf)
        if left <= FITS and left <= _BETTER * worst and (best is None or left < best[0]):
            best = left, variant.words
    if best is None:
        return None
    return OtherCode(best[1], worst, best[0], order[first - 1].path, order[first].path)


def _variants(eps: set[float], activations: int) -> Iterator[_Variant]:
    for value in _EPS:
        if eps != {value}:
            yield _Variant(f"eps {value:g}", eps=value)
    for name, activation in _ACTIVATIONS.items():
        if activations:
            words = f"{name} in place of its activations" if name else "its activations left out"
            yield _Variant(words, activation=activation)
        elif name:
            yield _Variant(f"{name} behind each norm", activation=activation, after_norms=True)


def _distances(
    regimes: Regimes, feed: Feed, stored: Stored, variant: _Variant
) -> tuple[dict[CallSite, float], int]:
    """How far each norm's input is from its statistics, and how many activations ran."""
    collected, ran = Collected(), [0]

    def how(call: BatchNormCall) -> object:
        collected.take(call)
        if call.training:
            return None
        out = call.with_batch_statistics(variant.eps)
        if variant.activation is not None and variant.after_norms:
            out = (variant.activation(out[0]), *out[1:])
        return out

    for _ in regimes.run(feed.batches, how, variant.activation, ran):
        pass
    return {
        place: distance(*stored[place], *collected.moments[place].pooled(), collected.eps[place])
        for place in stored
        if place in collected.moments
    }, ran[0]
