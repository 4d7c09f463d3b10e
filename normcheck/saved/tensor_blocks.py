"""A large tensor a few rows at a time, so that memory does not grow with it."""

from collections.abc import Iterator
from dataclasses import replace
from math import prod

from normcheck.saved.dtypes import Array
from normcheck.saved.tensors import InPlace, TensorRef, contiguous_strides

BLOCK_BYTES = 1 << 19
"""Stored bytes of one block: what is worked out of it finds it in the processor's cache. Reading
the next one beside, in a thread, gains nothing: handing over takes as long as reading."""


def lies_in_one_piece(tensor: TensorRef) -> bool:
    """Whether neighbours in the tensor are neighbours in the file, which can be read anywhere.

    Strides of dimensions of one element mean nothing.
    """
    storage = tensor.storage
    while storage is not None and storage.root is not None:
        storage = storage.root
    region: object = storage.region if storage is not None else None
    if not isinstance(region, InPlace):
        return False
    usual = contiguous_strides(tensor.shape)
    return all(
        n == 1 or stride == wanted
        for n, stride, wanted in zip(tensor.shape, tensor.strides, usual, strict=True)
    )


def in_blocks(tensor: TensorRef, most: int = BLOCK_BYTES) -> Iterator[tuple[int, Array]]:
    """The values by rows, that is along the first dimension: a block's first row, and the block.

    From the first row to the last, so that the checksum of the file is complete at the end.

    Args:
        tensor: With at least one dimension.
        most: Bytes of one block, where a row is not longer; transposed and packed tensors come
            in one block.

    Raises:
        UnreadableError: The file ends early, or its checksum is wrong.
    """
    row = prod(tensor.shape[1:])
    rows = max(1, most // max(1, row * tensor.dtype.itemsize))
    if rows >= tensor.shape[0] or not lies_in_one_piece(tensor):
        yield 0, tensor.values()
        return
    for start in range(0, tensor.shape[0], rows):
        shape = (min(rows, tensor.shape[0] - start), *tensor.shape[1:])
        strides, offset = contiguous_strides(shape), tensor.offset + start * row
        yield start, replace(tensor, shape=shape, strides=strides, offset=offset).values()
