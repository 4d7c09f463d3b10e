"""A floor under the variances of some layers, which a momentum other than the usual one leaves.

After n updates with momentum p no running variance lies below (1 - p)^n, and where inputs vary
little the smallest lie just above it. A state dict does not hold p. A group of layers whose
smallest variances all stand on the floor of a momentum that libraries use, while the weights before
them predict means that are as much too small as the same share makes them, was built with it.

A real detector: 12 of 35 layers have smallest variances of 0.485 to 0.578 after 80 batches, for
0.99^80 = 0.4475, and the others, pretrained, lie decades below.
"""

from __future__ import annotations

from math import log
from typing import TYPE_CHECKING

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer_numbers import median

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.norms.belonging.agreement import Agreement
    from normcheck.norms.layer import NormLayer

MOMENTA = (0.05, 0.03, 0.02, 0.01, 0.003, 0.001)
"""Those that libraries build BatchNorms with: SpeechBrain and segmentation models 0.05, YOLO 0.03,
TensorFlow's ports 0.01, 0.003 and 0.001."""
LEAST = 0.05
"""Share of the initial value from which a floor tells anything."""
JUST_ABOVE = 1.35
"""Largest ratio of a layer's smallest variance to the floor it stands on."""
FEWEST_LAYERS = 3
FEWEST_CHANNELS = 16
SHARE = 0.25
"""Of the layers with a count, that stand on one floor."""
CLOSE = 0.12
"""Distance of the logarithm of the means' factor from that of the share."""
FOLLOWS = 0.9
JUST_BELOW_ONE = 0.85
"""Factor up to which means are too small, and not merely those of a healthy model."""


@lazy_dataclass()
class Floor:
    """Layers whose variances stand on the floor of one momentum."""

    momentum: float
    share: float
    """Of the initial value that it leaves after these batches."""
    batches: int
    layers: tuple[NormLayer, ...]
    factor: float
    """Stored over predicted means in these layers, by the median."""
    smallest: tuple[float, float]
    """Range of the layers' smallest variances."""


def standing_on_a_floor(layers: Sequence[NormLayer], agreement: Agreement | None) -> Floor | None:
    """The group of layers that stand on a floor; None where there is none for certain.

    Args:
        layers: Whose momentum is not known.
        agreement: Of the model: without a link into the group nothing confirms the floor.
    """
    least = [(layer, n, smallest) for layer in layers if (n := _counted(layer))
             and (smallest := _smallest(layer)) is not None]  # fmt: skip
    if len(least) < FEWEST_LAYERS or agreement is None:
        return None
    slopes = {
        fit.link.target.path: fit.slope
        for fit in agreement.likely
        if fit.alignment > FOLLOWS and fit.slope > 0
    }
    for momentum in MOMENTA:
        group = [
            (layer, n, smallest)
            for layer, n, smallest in least
            if LEAST <= (floor := (1 - momentum) ** n) < 1
            and floor * (1 - 1e-3) <= smallest <= JUST_ABOVE * floor
        ]
        told = [slopes[layer.path] for layer, _, _ in group if layer.path in slopes]
        if len(group) < max(FEWEST_LAYERS, SHARE * len(least)) or not told:
            continue
        standing = {layer.path for layer, _, _ in group}
        others = [slope for path, slope in slopes.items() if path not in standing]
        if len(others) >= FEWEST_LAYERS and log(median(others) / median(told)) <= CLOSE:
            continue  # means are as much too small where nothing initial is left
        batches = min(n for _, n, _ in group)
        share = (1 - momentum) ** batches
        if abs(log(median(told)) - log(1 - share)) <= CLOSE and 1 - share < JUST_BELOW_ONE:
            values = [smallest for _, _, smallest in group]
            return Floor(
                momentum, share, batches, tuple(layer for layer, _, _ in group), median(told),
                (min(values), max(values)),
            )  # fmt: skip
    return None


def _counted(layer: NormLayer) -> int:
    batches = layer.batches
    known = batches is not None and batches.whole and layer.momentum is None
    return int(batches.value) if known and batches is not None else 0


def _smallest(layer: NormLayer) -> float | None:
    variance = layer.running_var
    if variance is None or variance.size < FEWEST_CHANNELS or layer.at_initial_values:
        return None
    smallest = variance.lowest
    return smallest if np.isfinite(smallest) and smallest > 0 else None
