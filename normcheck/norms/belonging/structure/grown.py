"""Norms over channels that grow by concatenation, as in dense networks.

Each layer joins what it makes to what it takes: norm over C channels → weights that make g → norm
over C + g. Of the second norm the g new channels are behind the weights, so that the first one
predicts them; the C old ones are the same values that the earlier norm saw, and both norms counted
the same batches: their statistics are equal, in a healthy file, to the last digits.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.structure.activation_moments import after_activation
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.layer import Floats, NormLayer, Values
from normcheck.norms.layer_numbers import median

FEWEST_NEW = 8
"""New channels; with fewer, sizes may agree by chance."""
FEWEST_STEPS = 2
"""Times that a model must grow by the same number before its growth is believed."""
FEWEST_UNPROVEN = 3
"""The same where no statistics are equal."""
FEWEST_IN_A_ROW = 4
"""The same where each begins at what the one before has grown to: widths of C, C + g, C + 2g and so
on, each behind weights that make g, are those of no other structure. That no statistics are equal
then speaks against them."""
AS_MADE = 0.7
"""Correlation of later means with those behind an earlier norm, or behind a ReLU after it, from
which the later norm sees what the earlier one made: other values than its input."""
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
    """Whether equal statistics show that channels are joined, or many sizes in a row; else only
    some sizes do."""


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
        in_a_row = False
        if not any(equal.values()) and _in_a_row([other for _, _, other in members], makes):
            made = [
                side
                for side, each in nearest.items()
                if any(
                    _sees_what_it_made(one, other, at_end=side)
                    for (_, one), (*_, other) in zip(each, members, strict=True)
                )
            ]
            in_a_row = not made
            at_end = made[0] if made else _typical(nearest[True]) < _typical(nearest[False])
        if len(members) < (FEWEST_STEPS if equal[at_end] else FEWEST_UNPROVEN):
            continue
        for (place, _, other), (off, one) in zip(members, nearest[at_end], strict=True):
            count = one.features or 0
            new = slice(0, (other.features or 0) - count) if at_end else slice(count, None)
            grown = Grown(one.path, off)
            yield Growth(place, _part(other, new), grown, proven=equal[at_end] > 0 or in_a_row)


def _in_a_row(targets: list[NormLayer], grows: int) -> bool:
    """Whether each norm has as many channels as the one before and the new ones."""
    widths = [norm.features or 0 for norm in targets]
    return len(widths) >= FEWEST_IN_A_ROW and all(
        after == before + grows for before, after in pairwise(widths)
    )


def _typical(nearest: list[tuple[float, NormLayer]]) -> float:
    return median([off for off, _ in nearest])


def _sees_what_it_made(earlier: NormLayer, later: NormLayer, *, at_end: bool) -> bool:
    """Whether the channels that a later norm shares hold the earlier one's output, not its input.

    Where a block joins what it has normalised to what it makes of that.
    """
    mean = _shared(earlier, later, at_end=at_end).running_mean
    scale, shift = earlier.weight, earlier.bias
    if mean is None or scale is None or shift is None or not scale.size == shift.size == mean.size:
        return False
    if not (mean.finite and scale.finite and shift.finite):
        return False
    rectified, _ = after_activation(np.abs(scale.numbers), shift.numbers, ACTIVATIONS["ReLU"])
    return any(
        _correlation(mean.numbers, made) > AS_MADE for made in (shift.numbers, rectified[:, 0])
    )


def _correlation(one: Floats, other: Floats) -> float:
    if not (np.ptp(one) and np.ptp(other)):
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def _may_have_grown(before: deque[NormLayer], target: NormLayer, makes: int) -> list[NormLayer]:
    """Norms before weights whose channels are those of the target without the new; latest first.

    A bottleneck may have as many by chance. None where one of them has lost its statistics: it may
    be the one, and the others then share nothing.
    """
    as_many = [
        norm
        for norm in reversed(before)
        if norm.features and norm.features + makes == target.features and norm.has_statistics
    ]
    return [] if any(norm.at_initial_values for norm in as_many) else as_many


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
