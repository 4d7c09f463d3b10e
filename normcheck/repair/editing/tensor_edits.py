"""New values for tensors of a file, as bytes at places of the file. No torch, nothing run."""

from collections.abc import Iterator, Mapping
from dataclasses import field

import numpy as np

from normcheck.errors import NormcheckError
from normcheck.formats.zip_members import StoredRegion
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.dtypes import Array, DType
from normcheck.saved.tensors import PlainRegion, Storage, TensorRef
from normcheck.sources.source import FileSource

NOT_FINITE = "look for NaN or infinite values in the data and in the weights"
"""The hint where new values are not finite."""
_NUMPY_FLOATS = ("float64", "float32", "float16")


class NotInPlaceError(NormcheckError):
    """The bytes cannot be replaced where they lie."""


@lazy_dataclass(frozen=False)
class Edits:
    """Bytes of one file that are to be others, by their offset in it."""

    _bytes: dict[int, bytes] = field(default_factory=dict)

    def __len__(self) -> int:
        """How many runs of bytes there are."""
        return len(self._bytes)

    def put(self, offset: int, data: bytes) -> None:
        """Let the bytes from ``offset`` on be ``data``.

        Raises:
            NotInPlaceError: Something else was wanted for the same place before.
        """
        known = self._bytes.get(offset)
        if known is not None and known != data:
            raise NotInPlaceError(
                "two of the model's buffers share their bytes in the file, and would need "
                "different values",
                "load the file, break the tie and save it again",
            )
        self._bytes[offset] = data

    def tensor(self, name: str, ref: TensorRef, values: Array) -> None:
        """Let a tensor of the file have other values.

        Args:
            name: Of the tensor, for messages.
            ref: Where it lies.
            values: In its shape, in float64 or as integers.

        Raises:
            NotInPlaceError: Its bytes do not lie in the file as they are.
            NormcheckError: A value does not fit the tensor's type.
        """
        if ref.storage is None or ref.negated or ref.conjugated:
            raise NotInPlaceError(
                f"{name}: {ref.note or 'a lazy view'}, whose bytes are not its own"
            )
        raw = encoded(name, values, ref.dtype, big_endian=ref.storage.big_endian)
        start, length = _place(name, ref.storage)
        size = ref.dtype.itemsize
        for number, index in enumerate(np.ndindex(ref.shape)):
            step = sum(i * s for i, s in zip(index, ref.strides, strict=True))
            within = (ref.offset + step) * size
            if within + size > length:
                raise NotInPlaceError(f"{name}: reaches beyond its storage")
            self.put(start + within, raw[number * size : (number + 1) * size])

    def runs(self) -> Iterator[tuple[int, bytes]]:
        """The edits in the order of the file, neighbours joined.

        Raises:
            NotInPlaceError: Two of them overlap in part.
        """
        start, joined = 0, bytearray()
        for offset, data in sorted(self._bytes.items()):
            if joined and offset < start + len(joined):
                raise NotInPlaceError(
                    "buffers of different types share their bytes in the file",
                    "load the file, break the tie and save it again",
                )
            if joined and offset == start + len(joined):
                joined += data
                continue
            if joined:
                yield start, bytes(joined)
            start, joined = offset, bytearray(data)
        if joined:
            yield start, bytes(joined)


def _place(name: str, storage: Storage) -> tuple[int, int]:
    """Where in the file a storage begins, and how long it is."""
    if storage.root is not None:
        start, _ = _place(name, storage.root)
        return start + storage.start, storage.nbytes
    region = storage.region
    if not isinstance(region, PlainRegion | StoredRegion) or not isinstance(
        region.source, FileSource
    ):
        packed = "is compressed" if region is not None else "has no bytes"
        if isinstance(region, PlainRegion | StoredRegion):
            packed = "lies within a pickle"
        raise NotInPlaceError(
            f"{name} {packed} in the file, so its bytes cannot be replaced in place",
            "load it with torch and save it again with torch.save, then repair that",
        )
    return region.offset, storage.nbytes


def encoded(name: str, values: Array, dtype: DType, *, big_endian: bool = False) -> bytes:
    """Values as the bytes of an element type, rounded to nearest.

    Args:
        name: Of the tensor, for messages.
        values: Finite numbers.
        dtype: The type as stored.
        big_endian: Whether the most significant byte comes first.

    Raises:
        NormcheckError: A value is not finite, or lies outside of the type's range.
    """
    flat = np.asarray(values).reshape(-1)
    order = ">" if big_endian else "<"
    if not dtype.floating and dtype.code is not None:
        limits = np.iinfo(np.dtype(dtype.code))
        if flat.size and not (limits.min <= flat.min() and flat.max() <= limits.max):
            raise NormcheckError(f"{name}: a value does not fit {dtype.name}")
        return flat.astype(order + dtype.code).tobytes()
    numbers = flat.astype(np.float64)
    if not np.all(np.isfinite(numbers)):
        raise NormcheckError(
            f"{name}: the new values are not all finite",
            NOT_FINITE,
        )
    if dtype.name in _NUMPY_FLOATS:
        with np.errstate(over="ignore"):
            stored = numbers.astype(order + str(dtype.code))
        _check_range(name, numbers, stored, dtype)
        return stored.tobytes()
    if dtype.name == "bfloat16":
        bits = _bfloat16_bits(name, numbers, dtype)
        return bits.astype(order + "u2").tobytes()
    raise NotInPlaceError(
        f"{name} is stored as {dtype.name}, which statistics are not written in",
        "convert the buffer to float32 and save the model again",
    )


def _bfloat16_bits(name: str, numbers: Array, dtype: DType) -> Array:
    """The upper halves of float32, rounded to the nearest even."""
    with np.errstate(over="ignore"):
        whole = numbers.astype(np.float32)
    bits = whole.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    back = (rounded << 16).astype(np.uint32).view(np.float32)
    _check_range(name, numbers, back, dtype)
    return rounded


def _check_range(name: str, wanted: Array, stored: Array, dtype: DType) -> None:
    lost = ~np.isfinite(stored)
    if np.any(lost):
        worst = float(np.abs(wanted[lost]).max())
        raise NormcheckError(
            f"{name}: {worst:.4g} does not fit {dtype.name}, whose largest value is "
            f"{dtype.largest:.4g}; it would become infinite",
            "save the model with float32 statistics (model.float(), or only its norm layers)",
        )


def changed_bytes(source: FileSource, edits: Mapping[int, bytes]) -> int:
    """How many bytes of the file the edits make different."""
    return sum(
        sum(a != b for a, b in zip(source.read_at(offset, len(data)), data, strict=True))
        for offset, data in edits.items()
    )
