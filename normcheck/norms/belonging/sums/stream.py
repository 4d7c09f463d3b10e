"""What flows from residual block to block: mean and variance of each channel.

Behind a norm a channel is close to N(β, γ²). A block adds its input or a branch to that; its parts
are taken as independent, and their sum as normal again, as ``inflow.py`` takes them of graphs.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.structure.activation_moments import after_activation
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.link import weights_kind
from normcheck.norms.belonging.sums.blocks import Unit
from normcheck.norms.kinds import Family
from normcheck.norms.layer import Floats, NormLayer
from normcheck.norms.layer_numbers import cut

Moments = tuple[Floats, Floats]
"""Means and variances."""
ARRANGED = ((False, True), (False, False), (True, False))
"""Whether an activation stands between the last norm of a block and the sum, and whether one stands
behind the sum: as in ResNet, in the linear bottlenecks of MobileNetV2, and in activated branches.
"""
PADDED = ("", "around", "behind")
"""Where an input of fewer channels gets its zeros; with neither, such a block adds nothing."""
_WIDENED = (2, 4)
"""Times as many channels as its input that a block without weights in its shortcut may have."""
_TOGETHER = 2048
"""Values whose moments are taken at once, so that memory does not grow with a layer."""


@lazy_dataclass(eq=False)
class Stream:
    """What reaches a block, in a column for each reading of the sums before it.

    Of each of ``PADDED`` those of ``ARRANGED``; before the first block that pads they are the same
    for each, and are there once.
    """

    means: Floats
    """Of shape (channels, readings)."""
    variances: Floats
    """Likewise."""
    last: NormLayer
    """The last norm of what was added."""
    summed: bool
    """Whether the unit before has added anything, under some reading."""


def behind(
    unit: Unit, stream: Stream | None, activation: str, pools: Mapping[str, float]
) -> Stream | None:
    """What flows behind a unit; None where nothing tells it.

    Args:
        unit: A block, or weights with their norm.
        stream: What reaches it, if known.
        activation: Of the model, in ``ACTIVATIONS``.
        pools: Strength of the max pooling behind a norm, by its path.
    """
    last = unit.main[-1].norm
    own = _affine(last)
    if own is None or not unit.clear:
        return None
    readings = np.zeros((1, len(ARRANGED)))
    if not unit.is_block:
        mean, variance = _activated(own, activation, pools.get(last.path, 1.0))
        return Stream(mean + readings, variance + readings, last, summed=False)
    added: list[Moments | None] = [None]
    if unit.shortcut is not None:
        shortcut = _affine(unit.shortcut.norm)
        if shortcut is None or len(shortcut[0]) != len(own[0]):
            return None
        added = [(shortcut[0] + readings, shortcut[1] + readings)]
    elif stream is not None and _reached(unit, stream):
        added = _input_added(unit, stream)
    activated = _activated(own, activation)
    sums = [_sums(own, activated, one) for one in added]
    mean, variance = (np.concatenate(each, axis=1) for each in zip(*sums, strict=True))
    columns = np.resize([behind_sum for _, behind_sum in ARRANGED], mean.shape[1])
    mean[:, columns], variance[:, columns] = _activated(
        (mean[:, columns], variance[:, columns]), activation
    )
    return Stream(mean, variance, last, summed=any(one is not None for one in added))


def _sums(own: Moments, activated: Moments, added: Moments | None) -> Moments:
    """What is added to the last norm of a block, under each reading, and that norm."""
    repeats = 1 if added is None else added[0].shape[1] // len(ARRANGED)
    columns = [activated if before_sum else own for before_sum, _ in ARRANGED] * repeats
    mean, variance = (np.concatenate(each, axis=1) for each in zip(*columns, strict=True))
    return (mean, variance) if added is None else (mean + added[0], variance + added[1])


def _reached(unit: Unit, stream: Stream) -> bool:
    """Whether a block takes what flows: its first weights have as many inputs."""
    first = unit.main[0]
    return weights_kind(first.weights.weight, len(stream.means), first.makes, None) is not None


def _input_added(unit: Unit, stream: Stream) -> list[Moments | None]:
    """What a block adds of its input: under each padding, or once where none is needed."""
    channels, makes = len(stream.means), unit.main[-1].makes
    if channels == makes:
        return [(stream.means, stream.variances)]
    if makes not in [channels * times for times in _WIDENED]:
        return [None]
    found: list[Moments | None] = []
    once = stream.means.shape[1] == len(ARRANGED)
    for place, padded in enumerate(PADDED):
        # A second block that pads does it as the first.
        start = 0 if once else place * len(ARRANGED)
        columns = slice(start, start + len(ARRANGED))
        ahead = (makes - channels) // 2 if padded == "around" else 0
        lengths = ((ahead, makes - channels - ahead), (0, 0))
        mean, variance = (
            np.pad(each[:, columns], lengths) for each in (stream.means, stream.variances)
        )
        found.append((mean, variance) if padded else None)
    return found


def moments_behind(norms: Sequence[NormLayer], activation: str) -> dict[str, Moments]:
    """Means and variances behind norms and an activation, of shape (channels,) each, by path.

    Without those whose γ and β are not usable. All at once: a call takes longer than its numbers.
    """
    usable = {norm.path: own for norm in norms if (own := _affine(norm)) is not None}
    if not usable:
        return {}
    mean, variance = (np.concatenate(each) for each in zip(*usable.values(), strict=True))
    sizes = [len(own) for own, _ in usable.values()]
    parts = [cut(each[:, 0], sizes) for each in _activated((mean, variance), activation)]
    return dict(zip(usable, zip(*parts, strict=True), strict=True))


def _activated(moments: Moments, name: str, pool: float = 1.0) -> Moments:
    """Moments behind an activation and perhaps a max pooling, of the same shape."""
    mean, deviation = moments[0].reshape(-1), np.sqrt(moments[1]).reshape(-1)
    parts = [
        after_activation(deviation[start : start + _TOGETHER], mean[start : start + _TOGETHER],
                         ACTIVATIONS[name], (pool,))
        for start in range(0, mean.size, _TOGETHER)
    ]  # fmt: skip
    after = (np.concatenate(each).reshape(moments[0].shape) for each in zip(*parts, strict=True))
    return next(after), next(after)


def _affine(norm: NormLayer) -> Moments | None:
    """β and γ² of a batch norm, each of shape (channels, 1); None where they are not usable."""
    count = norm.features or 0
    stored = [part for part in (norm.weight, norm.bias) if part is not None]
    if norm.kind.family not in (Family.BATCH, Family.FROZEN_BATCH) or not count or norm.unread:
        return None
    if not all(part.finite and part.size == count for part in stored):
        return None
    gamma = norm.weight.numbers if norm.weight is not None else np.ones(count)
    beta = norm.bias.numbers if norm.bias is not None else np.zeros(count)
    return beta[:, None], np.square(gamma)[:, None]
