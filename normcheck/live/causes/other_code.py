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
from normcheck.live.watching.forward import Enough, Interrupted
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.observe import Activation
from normcheck.live.watching.regimes import Regimes, distance
from normcheck.live.watching.seen import CallSite

SAMPLES = 128
_ANY = 4
FITS = 0.1
"""Median distance of a layer from its statistics (standard deviations, or log variance ratio) up
to which it fits."""
OFF = 0.15
"""Distance from which it does not."""
_BETTER = 0.3
"""Part of the largest distance that may be left under the function that was meant."""
_EPS = (1e-3, 1e-5)

MOST_VARIANTS = 8
"""That are tried of one model."""

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


def other_code(
    regimes: Regimes,
    feed: Feed,
    seen: Collected,
    distances: Mapping[CallSite, float] | None = None,
) -> OtherCode | None:
    """The function under which all norms fit, where the code's own is another.

    Args:
        regimes: Runs the model.
        feed: Real data; a part of it is used.
        seen: What eval mode gives each norm, in the order in which they run.
        distances: How far each norm is from its statistics, each of them behind norms that
            normalise by the batch; None where that is not known yet.

    Returns:
        None where the first norm is off already, all fit, or none of what is tried helps.
    """
    some, stored, eps = feed.spread(SAMPLES), seen.stored, seen.eps
    order = list(stored)
    if len(order) < 2 or (distances is not None and not _from_later(order, distances)):
        return None
    # Where distances are known, a few samples tell whether there are activations.
    own, activations = _distances(
        regimes, some if distances is None else some.spread(_ANY), stored, _Variant("")
    )
    own = own if distances is None else {**distances}
    first = _from_later(order, own)
    if not first:
        return None
    worst = max(own.values())
    best: tuple[float, str] | None = None
    for variant in _variants(set(eps.values()), activations):
        try:
            most = min(FITS, _BETTER * worst, np.inf if best is None else best[0])
            found, _ = _distances(regimes, some, stored, variant, most)
        except Interrupted:
            continue
        left = max(found.values(), default=np.inf)
        if left <= FITS and left <= _BETTER * worst and (best is None or left < best[0]):
            best = left, variant.words
    if best is None:
        return None
    if distances is not None:
        # Those are of batches of another size: of single samples no norm behind another fits.
        own, _ = _distances(regimes, some, stored, _Variant(""))
        first, worst = _from_later(order, own), max(own.values(), default=0.0)
        if not first or best[0] > _BETTER * worst:
            return None
    return OtherCode(best[1], worst, best[0], order[first - 1].path, order[first].path)


def _from_later(order: list[CallSite], found: Mapping[CallSite, float]) -> int:
    """Number of the first norm that does not fit; 0 where it is the first, or nothing is off."""
    worst = max(found.values(), default=0.0)
    if worst < OFF or not np.isfinite(worst):
        return 0
    return next((i for i, place in enumerate(order) if found.get(place, 0.0) > FITS), 0)


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
    regimes: Regimes, feed: Feed, stored: Stored, variant: _Variant, most: float = np.inf
) -> tuple[dict[CallSite, float], int]:
    """How far each norm's input is from its statistics, and how many activations ran.

    Raises:
        Interrupted: The forward failed, or all samples in it showed a norm further off than
            ``most``.
    """
    collected, ran = Collected(), [0]

    def how(call: BatchNormCall) -> object:
        collected.take(call)
        place = call.place
        if len(feed.batches) == 1 and place in stored:
            moments = collected.moments[place].pooled()
            if distance(*stored[place], *moments, collected.eps[place]) > most:
                raise Enough
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
