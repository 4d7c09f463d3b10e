"""Batch counts: damaged ones made whole, and those that no longer describe their statistics."""

import math

import numpy as np

from normcheck.norms.layer import Momentum, NormLayer
from normcheck.repair.repair_result import TensorEdit
from normcheck.rules.rule import assumed_momentum
from normcheck.saved.checkpoint import SavedModel
from normcheck.saved.tensors import TensorRef
from normcheck.wording import fold, plural

COUNT = "num_batches_tracked"
_MOST = 1 << 53
"""A count that no training reaches."""
_UNDER_WARMED = 0.01
"""Residue of the initial value from which a scan calls statistics under-warmed."""


def whole_counts(saved: SavedModel) -> tuple[list[TensorEdit], str]:
    """Counts that counting cannot give, as the nearest whole number, or 0 where they mean none.

    Returns:
        The changes, and what was done in words; empty where all counts are whole.
    """
    changes = []
    for name, ref in saved.tensors.items():
        if (name == COUNT or name.endswith(f".{COUNT}")) and ref.readable:
            value = float(np.asarray(ref.values(), dtype=np.float64).reshape(-1)[0])
            sane = math.isfinite(value) and 0 <= value < _MOST
            if not sane or ref.dtype.floating:
                whole = np.array([round(value) if sane else 0], dtype=np.int64)
                changes.append(TensorEdit(name, ref, whole, whole_numbers=True))
    if not changes:
        return [], ""
    paths = [change.name.removesuffix(COUNT).rstrip(".") for change in changes]
    return changes, f"{plural(len(changes), 'batch count')} made whole ({fold(paths)})"


def outdated_count(layer: NormLayer | None, ref: TensorRef | None) -> bool:
    """Whether a count would make new statistics look under-warmed.

    It tells how many batches the old statistics came from. Beside statistics of the whole data
    it would say that part of the initial value is left in them.
    """
    if layer is None or ref is None or layer.batches is None or layer.batches.value <= 0:
        return False
    momentum, _ = assumed_momentum(layer)
    if isinstance(momentum, Momentum) or not 0 < momentum < 1:
        return False
    return bool((1 - momentum) ** layer.batches.value > _UNDER_WARMED)
