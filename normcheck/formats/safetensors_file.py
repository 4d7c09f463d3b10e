"""safetensors: a length, a JSON header, and the bytes of the tensors.

Read by hand rather than with the ``safetensors`` package: its numpy side knows no
bfloat16 and no 8-bit floats, and it maps the whole file.
"""

from collections.abc import Mapping
from functools import lru_cache, partial
from math import prod
from typing import Any

from normcheck.errors import UnreadableError
from normcheck.formats.bounded_json import parsed, read_bounded
from normcheck.formats.safetensors_columns import METADATA, read_columns
from normcheck.saved.dtypes import BY_NAME, DType
from normcheck.saved.key_order import natural_order
from normcheck.saved.tensors import (
    PlainRegion,
    Storage,
    TensorRef,
    checked_tensor,
    contiguous_strides,
    tensor_without_data,
)
from normcheck.sources.limits import Budget, Limits
from normcheck.sources.source import Source

_LENGTH_BYTES = 8
_DTYPES = {
    "BOOL": "bool",
    "U8": "uint8",
    "I8": "int8",
    "U16": "uint16",
    "I16": "int16",
    "U32": "uint32",
    "I32": "int32",
    "U64": "uint64",
    "I64": "int64",
    "F16": "float16",
    "BF16": "bfloat16",
    "F32": "float32",
    "F64": "float64",
    "C64": "complex64",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
_TENSOR_BYTES = 1_024
"""A tensor with its storage, shape and place by name, from above."""
SHARDING_INFO = "DCP_SHARDING_INFO"
"""Of the metadata: where in their tensors the pieces of a distributed save begin."""
_PIECE = (
    "one rank's piece of a model that several ranks saved, and not the whole of it: scan the folder"
)
_INTEGER = frozenset((int,))
_PAST_INTEGERS = 1 << 63
_strides = lru_cache(1 << 12)(contiguous_strides)
"""Of shapes that were found to be short tuples of integers."""
_PACKED = DType("packed", 1, None)
"""Element types below a byte (F4, F6): listed, but their values are not read."""


def header_length(start: bytes) -> int | None:
    """Length of the JSON header, where the first bytes look like a safetensors file.

    Args:
        start: At least the first nine bytes.
    """
    if len(start) <= _LENGTH_BYTES or start[_LENGTH_BYTES : _LENGTH_BYTES + 1] != b"{":
        return None
    length = int.from_bytes(start[:_LENGTH_BYTES], "little")
    # A truncated download keeps its header length, so the file's size is no criterion.
    return length if 2 <= length < 1 << 40 else None


def read_safetensors(
    source: Source, length: int, limits: Limits
) -> tuple[Mapping[str, TensorRef], str]:
    """The tensors of the file by name, ``layer2`` before ``layer10``.

    The format keeps no order of its own: writers sort by element type and name.

    Args:
        source: The file.
        length: Of the JSON header, from :func:`header_length`.
        limits: Bounds.

    Returns:
        The tensors, and a note where the file is a piece of a model; else empty.
    """
    budget = Budget(limits)
    what = "the safetensors header"
    raw = read_bounded(source, _LENGTH_BYTES, length, budget, what)
    begin = _LENGTH_BYTES + length
    columns = read_columns(source, raw, begin, partial(_pattern, limits))
    if columns is not None:
        tensors, described = columns
        budget.spend(len(tensors) * _TENSOR_BYTES)
        return tensors, _note(described)
    header = parsed(source, raw, what)
    if not isinstance(header, dict):
        raise UnreadableError(f"{source.name}: the safetensors header is not an object")
    names = sorted((name for name in header if name != METADATA), key=natural_order)
    budget.spend(len(names) * _TENSOR_BYTES)
    each = {name: _tensor(source, name, header[name], begin, limits) for name in names}
    _check_layout(source, [header[name]["data_offsets"] for name in names], begin)
    return each, _note(header.get(METADATA))


def _note(metadata: object) -> str:
    return _PIECE if isinstance(metadata, dict) and SHARDING_INFO in metadata else ""


def _pattern(limits: Limits, described: dict[str, Any]) -> TensorRef | None:
    """A tensor of a type and shape, over no bytes; None of a type that is only listed."""
    dtype = BY_NAME.get(_DTYPES.get(described["dtype"], ""))
    shape = described["shape"]
    if dtype is None or not _lengths(shape) or len(shape) > limits.dimensions:
        return None
    storage = Storage("", dtype, prod(shape) * dtype.itemsize)
    lengths = tuple(shape)
    return checked_tensor(storage, 0, lengths, _strides(lengths), limits=limits)


def _check_layout(source: Source, spans: list[list[int]], begin: int) -> None:
    """Tensors lie one behind the other and fill the file, as the format asks for.

    Raises:
        UnreadableError: Gaps, overlaps, or bytes behind the last one: an offset was damaged, or
            something else is hidden in the file.
    """
    end = 0
    for first, last in sorted(spans):
        if first != end:
            raise UnreadableError(
                f"{source.name}: tensors overlap or leave a gap at byte {begin + end:,}",
                "the file is damaged or was changed; fetch it again",
            )
        end = last
    if begin + end != source.size:
        raise UnreadableError(
            f"{source.name}: {source.size - begin - end:,} bytes lie behind the last tensor",
            "the file is damaged or was changed; fetch it again",
        )


def _tensor(source: Source, name: str, described: object, begin: int, limits: Limits) -> TensorRef:
    if not isinstance(described, dict):
        raise _invalid(source, name)
    shape, span = described.get("shape"), described.get("data_offsets")
    if (
        not _lengths(shape)
        or not isinstance(shape, list)
        or not _lengths(span)
        or not isinstance(span, list)
        or len(span) != 2
        or span[0] > span[1]
        or len(shape) > limits.dimensions
    ):
        raise _invalid(source, name)
    nbytes = span[1] - span[0]
    if begin + span[1] > source.size:
        raise UnreadableError(
            f"{source.name}: {name:.80} ends at byte {begin + span[1]:,}, the file at "
            f"{source.size:,}",
            "it is probably a truncated download; fetch it again and compare sizes",
        )
    dtype = BY_NAME.get(_DTYPES.get(str(described.get("dtype")), ""))
    if dtype is None:
        note = f"element type {described.get('dtype')!r:.20}"
        return tensor_without_data(_PACKED, tuple(shape), note)
    if prod(shape) * dtype.itemsize != nbytes:
        raise _invalid(source, name)
    region = PlainRegion(source, begin + span[0], nbytes)
    storage = Storage(name, dtype, nbytes, region=region)
    lengths = tuple(shape)
    return checked_tensor(storage, 0, lengths, _strides(lengths), limits=limits)


def _lengths(value: object) -> bool:
    return (
        isinstance(value, list)
        and _INTEGER.issuperset(map(type, value))
        and (not value or (min(value) >= 0 and max(value) < _PAST_INTEGERS))
    )


def _invalid(source: Source, name: str) -> UnreadableError:
    return UnreadableError(
        f"{source.name}: the header entry of {name:.80} is not valid",
        "the file is damaged; fetch it again",
    )
