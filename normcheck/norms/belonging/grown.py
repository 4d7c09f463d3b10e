"""Norms over channels that grow by concatenation, as in dense networks.

Each layer joins what it makes to what it takes: norm over C channels → weights that make g → norm
over C + g. Of the second norm the g new channels are behind the weights, so that the first one
predicts them; the C old ones are the same values that the earlier norm saw, and both norms counted
the same batches: their statistics are equal, in a healthy file, to the last digits.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.steps import ModuleStep
from normcheck.norms.layer import NormLayer, Values

FEWEST_NEW = 8
"""New channels; with fewer, sizes may agree by chance."""
FEWEST_STEPS = 2
"""Times that a model must grow by the same number before its growth is believed."""
FEWEST_UNPROVEN = 3
"""The same where no statistics are equal."""
SAME = 0.05
"""Root mean square difference of statistics, in deviations, up to which they are of one value."""
_BACK = 24
"""Norms that are looked back for the one that grew."""


@lazy_dataclass()
class Grown:
    """Of a norm's channels, those that an earlier norm saw as well."""

    of: str
    """Path of the earlier norm."""
    apart: float
    """Root mean square difference of the shared means, in deviations of the earlier norm, and of
    the logarithms of the deviations: the larger."""


@lazy_dataclass(eq=False)
class Growth:
    """One step in which channels grew."""

    place: int
    """Of the weights, in the order of the model."""
    new: NormLayer
    """The later norm's new channels."""
    grown: Grown
    proven: bool
    """Whether equal statistics show that channels are joined; else only the sizes do."""


def growths(steps: list[ModuleStep]) -> Iterator[Growth]:
    """The steps in which the channels of a model grow by what weights make.

    Args:
        steps: The modules of a model, in order.
    """
    found: dict[int, list[tuple[int, list[NormLayer], NormLayer]]] = {}
    before: deque[NormLayer] = deque(maxlen=_BACK)
    for place, step in enumerate(steps[:-1]):
        if step.norm is not None:
            before.append(step.norm)
        target = steps[place + 1].norm
        if not step.is_weights or target is None or not target.has_statistics:
            continue
        makes = step.shape[0] if step.shape else 0
        earlier = _may_have_grown(before, target, makes) if makes >= FEWEST_NEW else []
        if earlier:
            found.setdefault(makes, []).append((place, earlier, target))
    for members in found.values():
        # Where in the later norm the earlier one's channels begin: all are joined alike.
        nearest = {
            at_end: [_nearest(many, other, at_end=at_end) for _, many, other in members]
            for at_end in (False, True)
        }
        equal = {at_end: sum(off <= SAME for off, _ in each) for at_end, each in nearest.items()}
        at_end = equal[True] > equal[False]
        if len(members) < (FEWEST_STEPS if equal[at_end] else FEWEST_UNPROVEN):
            continue
        for (place, _, other), (off, one) in zip(members, nearest[at_end], strict=True):
            count = one.features or 0
            new = slice(0, (other.features or 0) - count) if at_end else slice(count, None)
            grown = Grown(one.path, off)
            yield Growth(place, _part(other, new), grown, proven=equal[at_end] > 0)


def _may_have_grown(before: deque[NormLayer], target: NormLayer, makes: int) -> list[NormLayer]:
    """Norms before weights whose channels are those of the target without the new; latest first.

    A bottleneck may have as many by chance.
    """
    return [
        norm
        for norm in reversed(before)
        if norm.has_statistics
        and not norm.at_initial_values
        and norm.features
        and norm.features + makes == target.features
    ]


def _nearest(
    earlier: list[NormLayer], later: NormLayer, *, at_end: bool
) -> tuple[float, NormLayer]:
    """Of norms that may have grown the one whose statistics the later one shares most nearly."""
    off = [_apart(one, _shared(one, later, at_end=at_end)) for one in earlier]
    place = off.index(min(off))
    return off[place], earlier[place]


def _shared(earlier: NormLayer, later: NormLayer, *, at_end: bool) -> NormLayer:
    """The channels of a later norm that an earlier one saw as well."""
    count, total = earlier.features or 0, later.features or 0
    return _part(later, slice(total - count, None) if at_end else slice(0, count))


def _apart(one: NormLayer, other: NormLayer) -> float:
    assert one.running_mean is not None and one.running_var is not None  # noqa: S101, PT018
    assert other.running_mean is not None and other.running_var is not None  # noqa: S101, PT018
    mean, variance = one.running_mean.numbers, one.running_var.numbers
    there, wide = other.running_mean.numbers, other.running_var.numbers
    if not all(np.isfinite(n).all() for n in (mean, variance, there, wide)):
        return float("inf")
    alive = (variance > 0) & (wide > 0)
    if not alive.any():
        return float("inf")
    shift = (there - mean)[alive] / np.sqrt(variance[alive])
    scale = 0.5 * np.log(wide[alive] / variance[alive])
    return float(max(np.sqrt(np.mean(np.square(shift))), np.sqrt(np.mean(np.square(scale)))))


def _part(layer: NormLayer, channels: slice) -> NormLayer:
    """Some channels of a norm, as a norm of its own."""

    def part(values: Values | None) -> Values | None:
        if values is None or values.size != layer.features:
            return values
        return replace(values, numbers=values.numbers[channels])

    mean = part(layer.running_mean)
    return replace(
        layer,
        features=mean.size if mean is not None else None,
        running_mean=mean,
        running_var=part(layer.running_var),
        weight=part(layer.weight),
        bias=part(layer.bias),
    )
