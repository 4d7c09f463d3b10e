"""Weights read with a budget: small tensors whole, of large ones the same places every time."""

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.dtypes import Array, DType
from normcheck.saved.prefetch import fetch_ahead
from normcheck.saved.tensor_blocks import lies_in_one_piece
from normcheck.saved.tensors import TensorRef

BUDGET = 1 << 22
"""Values kept of one checkpoint, 16 MB in float32; smaller models are read whole."""
FEWEST = 1 << 10
"""Values kept of one tensor however many tensors there are: its distance is then within a few
percent of the true one."""
_BLOCK = 256
"""Neighbours that are read together; a disk reads no less anyway."""
_TOGETHER = 1 << 21
"""Values that are fetched at once of a remote file: 8 MB in float32, beside what lies between."""


@lazy_dataclass(eq=False)
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


def samples(tensors: Mapping[str, TensorRef], limit: int) -> dict[str, Sample]:
    """A sample of each tensor; of a remote file those of many tensors are fetched at once.

    Args:
        tensors: ``comparable`` ones.
        limit: As for ``sample``.

    Raises:
        UnreadableError: The file ends early.
    """
    found: dict[str, Sample] = {}
    names = iter(tensors)
    while group := list(_some(names, tensors, limit)):
        fetch_ahead(piece for name in group for piece in _pieces(tensors[name], limit))
        found |= {name: sample(tensors[name], limit) for name in group}
    return found


def _some(names: Iterator[str], tensors: Mapping[str, TensorRef], limit: int) -> Iterator[str]:
    """As many of the next names as are fetched together."""
    room = _TOGETHER
    for name in names:
        yield name
        room -= min(tensors[name].numel, limit)
        if room <= 0:
            return


def sample(tensor: TensorRef, limit: int) -> Sample:
    """Up to ``limit`` values, evenly spread over the tensor in blocks.

    Args:
        tensor: ``comparable``.
        limit: At least one block.

    Raises:
        UnreadableError: The file ends early.
    """
    pieces = [piece.values() for piece in _pieces(tensor, limit)]
    if len(pieces) > 1:
        values = np.concatenate(pieces)
    elif tensor.numel <= limit or lies_in_one_piece(tensor):
        values = pieces[0].reshape(-1)
    else:
        places = (_starts(tensor.numel, limit)[:, None] + np.arange(_BLOCK)).reshape(-1)
        values = pieces[0][np.unravel_index(places, tensor.shape)]
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        wide = np.float64 if tensor.dtype.itemsize > 4 else np.float32
        return Sample(np.asarray(values, dtype=wide), tensor.dtype, tensor.numel)


def _pieces(tensor: TensorRef, limit: int) -> Iterator[TensorRef]:
    """What is read of a tensor: blocks of it, or all."""
    if tensor.numel <= limit or not lies_in_one_piece(tensor):
        # Transposed, channels last, or packed: read whole, for the same places in its shape.
        yield tensor
        return
    for start in _starts(tensor.numel, limit):
        yield replace(tensor, shape=(_BLOCK,), strides=(1,), offset=tensor.offset + int(start))


def _starts(numel: int, limit: int) -> Array:
    return np.linspace(0, numel - _BLOCK, limit // _BLOCK).astype(np.int64)
