"""Weights read with a budget: small tensors whole, of large ones the same places every time."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from normcheck.checkpoint.blocks import lies_in_one_piece
from normcheck.checkpoint.dtypes import Array, DType
from normcheck.checkpoint.tensors import TensorRef

BUDGET = 1 << 22
"""Values kept of one checkpoint, 16 MB in float32; smaller models are read whole."""
FEWEST = 1 << 10
"""Values kept of one tensor however many tensors there are: its distance is then within a few
percent of the true one."""
_BLOCK = 256
"""Neighbours that are read together; a disk reads no less anyway."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Values of one tensor, at places that depend on its size and the limit alone."""

    values: Array
    """One dimension, float32, or float64 where the tensor is."""
    dtype: DType
    numel: int
    """Of the whole tensor."""


def limit_for(tensors: Mapping[str, TensorRef], budget: int = BUDGET) -> int:
    """How many values of each tensor are kept, so that all of them fit the budget."""
    sizes = [tensor.numel for tensor in tensors.values() if comparable(tensor)]
    limit = FEWEST
    while limit < max(sizes, default=0) and sum(min(n, 2 * limit) for n in sizes) <= budget:
        limit *= 2
    return limit


def comparable(tensor: TensorRef) -> bool:
    """Whether a tensor holds real numbers that can be read."""
    return tensor.dtype.floating and tensor.readable and tensor.numel > 0


def sample(tensor: TensorRef, limit: int) -> Sample:
    """Up to ``limit`` values, evenly spread over the tensor in blocks.

    Args:
        tensor: ``comparable``.
        limit: At least one block.

    Raises:
        UnreadableError: The file ends early.
    """
    if tensor.numel <= limit:
        values = tensor.values().reshape(-1)
    elif lies_in_one_piece(tensor):
        values = np.concatenate(
            [
                replace(
                    tensor, shape=(_BLOCK,), strides=(1,), offset=tensor.offset + int(start)
                ).values()
                for start in _starts(tensor.numel, limit)
            ]
        )
    else:
        # Transposed, channels last, or packed: read whole, for the same places in its shape.
        places = (_starts(tensor.numel, limit)[:, None] + np.arange(_BLOCK)).reshape(-1)
        values = tensor.values()[np.unravel_index(places, tensor.shape)]
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        wide = np.float64 if tensor.dtype.itemsize > 4 else np.float32
        return Sample(np.asarray(values, dtype=wide), tensor.dtype, tensor.numel)


def _starts(numel: int, limit: int) -> Array:
    return np.linspace(0, numel - _BLOCK, limit // _BLOCK).astype(np.int64)
