"""The tensors of an ONNX model by reference: in the file itself, or beside it."""

import os
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from normcheck.errors import UnreadableError
from normcheck.formats.onnx.protobuf_wire import TensorSpan
from normcheck.saved.dtypes import BY_NAME, DType
from normcheck.saved.tensors import (
    PlainRegion,
    Region,
    Storage,
    TensorRef,
    checked_tensor,
    contiguous_strides,
    tensor_without_data,
)
from normcheck.sources.limits import Budget
from normcheck.sources.source import FileSource, Source

if TYPE_CHECKING:
    from onnx import TensorProto

_TENSOR_BYTES = 1_024
"""A tensor with its storage, shape and place by name, from above."""
_EXTERNAL = 1
"""``data_location`` of a tensor that lies in another file."""
_FETCH = (
    "keep the .onnx file and the files of its tensors in one folder, as the exporter wrote them"
)

_DTYPES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 14: "complex64",
    15: "complex128", 16: "bfloat16", 17: "float8_e4m3fn", 18: "float8_e4m3fnuz",
    19: "float8_e5m2", 20: "float8_e5m2fnuz", 24: "float8_e8m0fnu",
}  # fmt: skip
"""The numbers of ``TensorProto.DataType``."""
_NAMES = {8: "strings", 21: "uint4", 22: "int4", 23: "float4", 25: "uint2", 26: "int2",
          27: "float6_e2m3", 28: "float6_e3m2"}  # fmt: skip
_PACKED = DType("packed", 1, None)
"""Element types below a byte, and text: listed, but their values are not read."""

_TYPED_FIELDS = {
    "float32": ("float_data", "<f4"), "complex64": ("float_data", "<f4"),
    "float64": ("double_data", "<f8"), "complex128": ("double_data", "<f8"),
    "int64": ("int64_data", "<i8"),
    "uint64": ("uint64_data", "<u8"), "uint32": ("uint64_data", "<u4"),
    "int32": ("int32_data", "<i4"), "int16": ("int32_data", "<i2"), "int8": ("int32_data", "i1"),
    "uint16": ("int32_data", "<u2"), "uint8": ("int32_data", "u1"), "bool": ("int32_data", "u1"),
    "float16": ("int32_data", "<u2"), "bfloat16": ("int32_data", "<u2"),
}  # fmt: skip
"""Where the values lie that are not in ``raw_data``, and what they are written as: those of
half precision as the numbers that their bits are."""


_RAW_FIELD = "raw_data"


@dataclass(slots=True, eq=False)
class _RawData:
    """The bytes within a parsed tensor; copied when they are asked for, not before."""

    tensor: "TensorProto"
    nbytes: int

    def read(self, start: int, length: int) -> bytes:
        """A part of them."""
        return bytes(self.tensor.raw_data[start : start + length])


@dataclass(slots=True, eq=False)
class _TypedData:
    """Numbers in a field of their own type, as the bytes that they stand for."""

    tensor: "TensorProto"
    field: str
    code: str
    nbytes: int

    def read(self, start: int, length: int) -> bytes:
        """A part of them."""
        numbers = np.array(getattr(self.tensor, self.field))
        with np.errstate(invalid="ignore"):
            raw = numbers.astype(self.code, casting="unsafe").tobytes()
        return raw[start : start + length]


@dataclass(frozen=True, slots=True)
class _ExternalData:
    """Bytes of another file, which is opened only while they are read.

    Older exporters wrote a file for each tensor, more than a process may hold open.
    """

    path: Path
    offset: int
    nbytes: int

    def read(self, start: int, length: int) -> bytes:
        """A part of them."""
        source = FileSource(self.path)
        try:
            return source.read_at(self.offset + start, length)
        finally:
            source.close()


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Values that the message was parsed without; see ``onnx_wire``."""

    source: Source
    note: str
    places: tuple[TensorSpan, ...]

    def region(self, tensor: "TensorProto", dtype: DType) -> PlainRegion | None:
        """Where the values of a tensor lie in the file; None where they were parsed with it."""
        for entry in tensor.external_data:
            if entry.key == self.note:
                place = self.places[int(entry.value)]
                usual = _TYPED_FIELDS.get(dtype.name, ("", ""))[0]
                if place.field in (_RAW_FIELD, usual):
                    return PlainRegion(self.source, place.offset, place.nbytes)
        return None


class TensorReader:
    """Makes references of the tensors of one file."""

    def __init__(
        self, folder: Path | None, model: Path | None, budget: Budget, left_out: LeftOut
    ) -> None:
        """Know where values may lie.

        Args:
            folder: With external data.
            model: The file, in whose real folder they may be, too.
            budget: What the file may cost.
            left_out: Values that lie in the file and were not parsed.
        """
        self._left_out = left_out
        self._folder = folder
        # A cache of downloads has links in the folder that is named, to the files in another.
        self._roots = tuple(
            {Path(os.path.realpath(f)) for f in (folder, model and _real(model).parent) if f}
        )
        self._budget = budget
        self._sizes: dict[Path, int] = {}
        self.external_bytes = 0
        """Length of the other files that were named so far."""

    def reference(self, tensor: "TensorProto", name: str) -> TensorRef:
        """A tensor, every number of it checked.

        Args:
            tensor: As the file describes it.
            name: How messages call it.

        Raises:
            UnreadableError: Impossible lengths, or external data that is missing, cut off, or not
                where it may lie.
            RefusedError: Past the limits.
        """
        self._budget.spend(_TENSOR_BYTES)
        shape = tuple(tensor.dims)
        dtype = BY_NAME.get(_DTYPES.get(tensor.data_type, ""))
        if any(n < 0 for n in shape) or len(shape) > self._budget.limits.dimensions:
            raise _invalid(name, f"a shape of {shape!s:.60}")
        external = tensor.data_location == _EXTERNAL
        if dtype is None:
            kind = _NAMES.get(tensor.data_type, f"element type {tensor.data_type}")
            return tensor_without_data(_PACKED, shape, kind)
        wanted = prod(shape) * dtype.itemsize
        if tensor.HasField("segment"):
            return tensor_without_data(dtype, shape, "one segment of a larger tensor")
        region: Region | None
        if external:
            region = self._external(tensor, name, wanted)
        else:
            region = self._left_out.region(tensor, dtype) or _within(tensor, dtype)
        if region is None and wanted:
            return tensor_without_data(dtype, shape, "the file has no values of it")
        if region is not None and region.nbytes != wanted:
            raise _invalid(name, f"{region.nbytes:,} bytes for {wanted:,}")
        storage = Storage(name, dtype, wanted, region=region)
        strides = contiguous_strides(shape)
        return checked_tensor(storage, 0, shape, strides, limits=self._budget.limits)

    @property
    def external_files(self) -> tuple[str, ...]:
        """The files in which external data was found so far."""
        return tuple(str(path) for path in self._sizes)

    def _external(self, tensor: "TensorProto", name: str, wanted: int) -> Region | None:
        described = {entry.key: entry.value for entry in tensor.external_data}
        location = described.get("location", "")
        offset, length = _number(described, "offset", 0), _number(described, "length", wanted)
        if offset is None or length is None:
            raise _invalid(name, "a place outside the model that is no number")
        path = self._place(location, name)
        if path is None:
            return None
        if path not in self._sizes:
            try:
                self._sizes[path] = path.stat().st_size
            except FileNotFoundError as error:
                raise UnreadableError(
                    f"{path}: this file is missing, in which the tensors of the model lie", _FETCH
                ) from error
            except OSError as error:
                raise UnreadableError(
                    f"{path}: the tensors of the model that lie in it cannot be read: "
                    f"{error.strerror or error}",
                    _FETCH,
                ) from error
            self.external_bytes += self._sizes[path]
        if offset + length > self._sizes[path]:
            raise UnreadableError(
                f"{path}: {name:.80} ends at byte {offset + length:,}, the file at "
                f"{self._sizes[path]:,}",
                "it is probably a truncated download; fetch it again and compare sizes",
            )
        return _ExternalData(path, offset, length)

    def _place(self, location: str, name: str) -> Path | None:
        """The file that a location means; None for a model that lies in no folder."""
        if self._folder is None:
            return None
        parts = location.replace("\\", "/").split("/")
        if not location or not location.isprintable() or ".." in parts or _rooted(location):
            raise UnreadableError(
                f"{name:.80} lies in {location!r:.80}, outside the model's folder",
                "the file was changed or made to harm; export the model again",
            )
        path = self._folder / location
        real = _real(path)
        if not any(real.is_relative_to(root) for root in self._roots):
            raise UnreadableError(
                f"{path}: a link that leads out of the model's folder",
                "copy the file that it leads to beside the model",
            )
        return path


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _rooted(location: str) -> bool:
    return location.startswith(("/", "\\")) or location[1:2] == ":"


def _number(described: dict[str, str], key: str, default: int) -> int | None:
    text = described.get(key)
    if text is None:
        return default
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else None


def _within(tensor: "TensorProto", dtype: DType) -> Region | None:
    """The bytes of a tensor in the file itself; None where there are none."""
    if tensor.HasField(_RAW_FIELD):
        return _RawData(tensor, len(tensor.raw_data))
    field, code = _TYPED_FIELDS.get(dtype.name, ("int32_data", "u1"))
    nbytes = len(getattr(tensor, field)) * np.dtype(code).itemsize
    return _TypedData(tensor, field, code, nbytes) if nbytes else None


def _invalid(name: str, what: str) -> UnreadableError:
    return UnreadableError(
        f"{name:.80}: a tensor with {what}", "the file is damaged; fetch it again, or export again"
    )
