"""How much the norms of one model may hold, all together.

A file of a few megabytes can show one tensor as the weight of a million layers. Each layer's
numbers are read by themselves, so that what is shared counts each time.
"""

from normcheck.errors import RefusedError
from normcheck.norms.layer import NormLayer

MOST_LAYERS = 50_000
"""Normalization layers of one model; the largest real ones have some thousands."""
MOST_VALUES = 1 << 27
"""Numbers in all of them, a gigabyte; real models have some millions."""


class LayerCount:
    """Counts layers as they are found."""

    def __init__(self) -> None:
        """None yet."""
        self.layers = 0
        self.values = 0

    def add(self, layer: NormLayer) -> None:
        """Count one more.

        Raises:
            RefusedError: Past a bound.
        """
        self.layers += 1
        for part in (layer.running_mean, layer.running_var, layer.weight, layer.bias):
            if part is not None:
                self.values += part.size
        if self.layers > MOST_LAYERS:
            raise RefusedError(
                f"more than {MOST_LAYERS:,} normalization layers in one model", _HINT
            )
        if self.values > MOST_VALUES:
            raise RefusedError(
                f"normalization layers with more than {MOST_VALUES:,} numbers in one model", _HINT
            )


_HINT = "no real model has that: the file is damaged or malicious"
