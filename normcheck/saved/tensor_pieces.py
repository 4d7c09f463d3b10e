"""Tensors that a training run stored in pieces: shards of one tensor, put together when read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt

from normcheck.errors import RefusedError, UnreadableError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.dtypes import DType
from normcheck.saved.tensors import (
    Storage,
    TensorRef,
    checked_tensor,
    contiguous_strides,
)
from normcheck.sources.limits import DEFAULT_LIMITS, Limits
from normcheck.sources.source import Source

Placed = tuple[Source, int, int]
"""A source, and offset and length in bytes of what will be read of it."""


@lazy_dataclass()
class Piece:
    """A box of a larger tensor."""

    offsets: tuple[int, ...]
    """Where in the larger tensor it begins, one number a dimension."""
    sizes: tuple[int, ...]
    opened: Callable[[], TensorRef]
    """The tensor that holds the box; read from its file when asked for, not before."""
    lies: tuple[Placed, ...] = ()
    """Where that file has it."""


def piece_of(tensor: TensorRef, offsets: tuple[int, ...]) -> Piece:
    """A box that a known tensor is, beginning at ``offsets`` of the larger one."""
    return Piece(offsets, tensor.shape, lambda: tensor, tuple(tensor.spans()))


@lazy_dataclass(frozen=False)
class PiecedRegion:
    """The bytes of a tensor as if its pieces lay in one, row by row."""

    name: str
    shape: tuple[int, ...]
    dtype: DType
    pieces: Sequence[Piece]

    @property
    def nbytes(self) -> int:
        """Length in bytes of the whole tensor."""
        return prod(self.shape) * self.dtype.itemsize

    def read(self, start: int, length: int) -> bytes:
        """``length`` bytes from ``start``: of a single piece only those, else of all pieces."""
        if len(self.pieces) == 1:
            tensor = self._opened(self.pieces[0])
            if tensor.storage is not None and tensor.strides == contiguous_strides(tensor.shape):
                begin = tensor.offset * self.dtype.itemsize + start
                return tensor.storage.read(begin, length)
        if self.nbytes > DEFAULT_LIMITS.tensor_bytes:
            raise RefusedError(
                f"{self.name:.80}: a tensor in pieces that takes more than "
                f"{DEFAULT_LIMITS.tensor_bytes:,} bytes when it is put together"
            )
        whole = np.zeros(self.shape, dtype=f"V{self.dtype.itemsize}")
        for piece in self.pieces:
            box = tuple(slice(o, o + n) for o, n in zip(piece.offsets, piece.sizes, strict=True))
            whole[box] = _elements(self._opened(piece))
        return whole.tobytes()[start : start + length]

    def spans(self, _start: int, _length: int) -> Iterator[Placed]:
        """What will be read of which file."""
        for piece in self.pieces:
            yield from piece.lies

    def _opened(self, piece: Piece) -> TensorRef:
        tensor = piece.opened()
        if tensor.dtype is not self.dtype or tensor.shape != piece.sizes or not tensor.readable:
            raise UnreadableError(
                f"{self.name:.80}: a piece of it is not what the checkpoint's index says",
                "the folder mixes files of several saves, or is damaged; copy it again",
            )
        return tensor


def _elements(tensor: TensorRef) -> npt.NDArray[Any]:
    """The stored elements, undecoded, in the tensor's shape."""
    size = tensor.dtype.itemsize
    kind = np.dtype(f"V{size}")
    if tensor.numel == 0 or tensor.storage is None:
        return np.zeros(tensor.shape, dtype=kind)
    if tensor.storage.big_endian and size > 1:
        raise UnreadableError("a tensor in pieces of the other byte order")
    raw = tensor.storage.read(tensor.offset * size, tensor.span * size)
    steps = tuple(s * size for s in tensor.strides)
    return np.lib.stride_tricks.as_strided(np.frombuffer(raw, kind), tensor.shape, steps)


def in_pieces(
    name: str,
    shape: tuple[int, ...],
    dtype: DType,
    pieces: Sequence[Piece],
    limits: Limits = DEFAULT_LIMITS,
) -> TensorRef:
    """A tensor over pieces, after a look whether they can make it up.

    Raises:
        UnreadableError: A piece lies outside, or they do not add up to the tensor.
    """
    for piece in pieces:
        if len(piece.offsets) != len(shape) or len(piece.sizes) != len(shape):
            raise _impossible(name)
        for offset, size, length in zip(piece.offsets, piece.sizes, shape, strict=True):
            if offset < 0 or size < 0 or offset + size > length:
                raise _impossible(name)
    if sum(prod(piece.sizes) for piece in pieces) != prod(shape):
        raise _impossible(name)
    region = PiecedRegion(name, shape, dtype, pieces)
    storage = Storage(name[:40], dtype, region.nbytes, region=region)
    return checked_tensor(storage, 0, shape, contiguous_strides(shape), limits=limits)


def _impossible(name: str) -> UnreadableError:
    return UnreadableError(
        f"{name:.80}: its pieces do not make up the tensor",
        "a file of the checkpoint is missing or of another save; copy the folder again",
    )


def part_of(tensor: TensorRef, start: int, length: int) -> TensorRef:
    """``length`` elements from ``start`` of a tensor of one dimension."""
    if tensor.ndim != 1 or start < 0 or start + length > tensor.shape[0]:
        raise UnreadableError("a flat part outside its tensor")
    step = tensor.strides[0] if tensor.shape[0] > 1 else 1
    return replace(tensor, shape=(length,), strides=(step,), offset=tensor.offset + start * step)
