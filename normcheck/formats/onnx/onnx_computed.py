"""Stored tensors of an ONNX model that are written as a computation: dequantised ones, lists."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from math import prod

import numpy as np

from normcheck.formats.onnx.flattened_graph import Call
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.dtypes import BY_NAME, Array, DType
from normcheck.saved.tensors import Storage, TensorRef, contiguous_strides
from normcheck.sources.limits import DEFAULT_LIMITS

_FLOAT = BY_NAME["float32"]
_FLOAT8 = 2.0**-3
"""Largest relative error of the coarser of the 8-bit floats."""


def _half_step(dtype: DType) -> float:
    """Half a step of integers, relative to the largest number that they stand for."""
    return float(1.0 / (2 ** (8 * dtype.itemsize) - 2))


@lazy_dataclass(frozen=False, eq=False)
class _Computed:
    """Bytes of float32 numbers that are worked out when somebody asks."""

    make: Callable[[], Array]
    nbytes: int

    def read(self, start: int, length: int) -> bytes:
        """A part of them."""
        numbers = np.ascontiguousarray(self.make(), dtype="<f4")
        return numbers.tobytes()[start : start + length]


def of_numbers(name: str, numbers: tuple[float, ...]) -> TensorRef:
    """The tensor of a ``Constant`` that lists its numbers in an attribute."""
    return _tensor(name, (len(numbers),), lambda: np.asarray(numbers, dtype=np.float32))


def dequantised(call: Call, tensors: Mapping[str, TensorRef]) -> TensorRef | None:
    """What a ``DequantizeLinear`` makes of stored tensors; None for anything else.

        y = (x - zero_point) · scale

    Scale and zero point are of the whole tensor, of each index of ``axis``, or of blocks of it.
    """
    names = (*call.inputs, "", "", "")[:3]
    values, scale, zero = (tensors.get(name) for name in names)
    if call.op_type != "DequantizeLinear" or not call.outputs or values is None or scale is None:
        return None
    if not values.readable or not scale.readable or (names[2] and zero is None):
        return None
    if values.numel > DEFAULT_LIMITS.tensor_bytes // 8:
        return None
    axis = call.attributes.get("axis", 1)
    block = call.attributes.get("block_size", 0)
    if not isinstance(axis, int) or not isinstance(block, int):
        return None
    if not _fits(values.shape, scale.shape, axis, block):
        return None
    made = _tensor(call.outputs[0], values.shape, _Dequantised(values, scale, zero, axis, block))
    return replace(made, rounding=_FLOAT8 if values.dtype.floating else _half_step(values.dtype))


def _fits(shape: tuple[int, ...], scale: tuple[int, ...], axis: int, block: int) -> bool:
    if prod(scale) == 1:
        return True
    if not -len(shape) <= axis < len(shape):
        return False
    if block:
        wanted = list(shape)
        wanted[axis] = -(-shape[axis] // block)
        return scale == tuple(wanted)
    return scale == (shape[axis],)


@lazy_dataclass(eq=False)
class _Dequantised:
    values: TensorRef
    scale: TensorRef
    zero: TensorRef | None
    axis: int
    block: int

    def __call__(self) -> Array:
        """The numbers."""
        values = np.asarray(self.values.values(), dtype=np.float64)
        zero = self._spread(self.zero) if self.zero is not None else 0.0
        return (values - zero) * self._spread(self.scale)

    def _spread(self, tensor: TensorRef) -> Array:
        """A scale or zero point, of a shape that goes with the values."""
        numbers = np.asarray(tensor.values(), dtype=np.float64)
        if numbers.size == 1:
            return numbers.reshape(())
        if self.block:
            length = self.values.shape[self.axis]
            repeated = np.repeat(numbers, self.block, axis=self.axis)
            return np.take(repeated, np.arange(length), axis=self.axis)
        shape = [1] * self.values.ndim
        shape[self.axis] = -1
        return numbers.reshape(shape)


def _tensor(name: str, shape: tuple[int, ...], make: Callable[[], Array]) -> TensorRef:
    nbytes = prod(shape) * _FLOAT.itemsize
    storage = Storage(name, _FLOAT, nbytes, region=_Computed(make, nbytes))
    return TensorRef(_FLOAT, shape, contiguous_strides(shape), 0, storage)
