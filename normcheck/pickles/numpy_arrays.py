"""Numpy arrays inside a pickle, as tensors: what JAX, Caffe2, detectron2 and joblib dump."""

from math import prod
from typing import TypeGuard

from normcheck.errors import UnreadableError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.pickles.inert import GlobalName, Inert
from normcheck.pickles.joblib_arrays import stands_for_an_array
from normcheck.saved.dtypes import BY_NAME, DType
from normcheck.saved.tensors import PlainRegion, Region, Storage, TensorRef, contiguous_strides
from normcheck.sources.limits import DEFAULT_LIMITS
from normcheck.sources.source import MemorySource

_MODULES = {
    "_reconstruct": ("numpy.core.multiarray", "numpy._core.multiarray"),
    "_frombuffer": ("numpy.core.numeric", "numpy._core.numeric"),
}
"""Where numpy 1 and 2 keep the functions that their pickles name."""
_NAMES = {"f": "float", "i": "int", "u": "uint", "c": "complex", "b": "bool"}


def array_as_tensor(value: object) -> TensorRef | None:
    """A pickled array as a tensor over its own bytes.

    None for anything else, and for arrays of element types that torch does not have.
    """
    if not isinstance(value, Inert) or not isinstance(value.cls, GlobalName):
        return None
    if stands_for_an_array(value):
        # Its bytes lie behind it in the file, where the machine was told what to make of them.
        state, data = value.state, value.args[0] if value.args else None
        if not isinstance(state, dict):
            return None
        described, shape = state.get("dtype"), state.get("shape")
        fortran: object = state.get("order") == "F"
    elif value.cls.module not in _MODULES.get(value.cls.name, ()):
        return None
    elif value.cls.name == "_reconstruct":
        # The state that numpy sets: (version, shape, dtype, Fortran order, bytes).
        state = value.state
        if not isinstance(state, tuple) or len(state) != 5:
            return None
        _, shape, described, fortran, data = state
    else:
        # Protocol 5: the arguments are (buffer, dtype, shape, order).
        if len(value.args) != 4:
            return None
        data, described, shape, order = value.args
        fortran = order == "F"
    dtype, big_endian = _dtype(described)
    region = _region(data)
    if dtype is None or region is None or not _is_shape(shape):
        return None
    if prod(shape) * dtype.itemsize != region.nbytes:
        return None
    storage = Storage("numpy array", dtype, region.nbytes, big_endian, region)
    strides = contiguous_strides(shape)
    if fortran is True or fortran == 1:
        strides = tuple(reversed(contiguous_strides(tuple(reversed(shape)))))
    return TensorRef(dtype, shape, strides, 0, storage)


def scalar_as_tensor(value: object) -> TensorRef | None:
    """A pickled number of numpy, as ``np.float64`` is one; None for anything else."""
    if not isinstance(value, Inert) or not isinstance(value.cls, GlobalName):
        return None
    if value.cls.name != "scalar" or value.cls.module not in _MODULES["_reconstruct"]:
        return None
    if len(value.args) != 2:
        return None
    dtype, big_endian = _dtype(value.args[0])
    region = _region(value.args[1])
    if dtype is None or region is None or region.nbytes != dtype.itemsize:
        return None
    return TensorRef(
        dtype, (), (), 0, Storage("numpy number", dtype, region.nbytes, big_endian, region)
    )


@lazy_dataclass()
class _TextRegion:
    """A string of Python 2, which the pickle machine reads as latin-1."""

    text: str

    @property
    def nbytes(self) -> int:
        """Its length."""
        return len(self.text)

    def read(self, start: int, length: int) -> bytes:
        """Only what is asked for becomes bytes again."""
        try:
            return self.text[start : start + length].encode("latin-1")
        except UnicodeEncodeError as error:
            raise UnreadableError("an array of text that is not bytes") from error


def _region(data: object) -> Region | None:
    if isinstance(data, PlainRegion):
        return data
    # Nothing is copied here: many arrays may share one value.
    if isinstance(data, bytes | bytearray):
        return PlainRegion(MemorySource(data, "numpy array"), 0, len(data))
    return _TextRegion(data) if isinstance(data, str) else None


def _is_shape(shape: object) -> TypeGuard[tuple[int, ...]]:
    return (
        isinstance(shape, tuple)
        and len(shape) <= DEFAULT_LIMITS.dimensions
        and all(type(n) is int and 0 <= n <= DEFAULT_LIMITS.tensor_elements for n in shape)
    )


def _dtype(described: object) -> tuple[DType | None, bool]:
    """Our element type for a pickled ``numpy.dtype``, and whether it is big-endian."""
    if not isinstance(described, Inert) or not described.args:
        return None, False
    code = described.args[0]
    state = described.state
    order = state[1] if isinstance(state, tuple) and len(state) > 1 else "<"
    if not isinstance(code, str) or code[:1] not in _NAMES or code[1:] not in _WIDTHS:
        return None, False
    width = "" if code[0] == "b" else str(8 * int(code[1:]))
    return BY_NAME.get(_NAMES[code[0]] + width), order == ">"


_WIDTHS = frozenset({"1", "2", "4", "8", "16"})
"""Bytes per element, as numpy writes them behind the letter."""
