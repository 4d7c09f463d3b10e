"""The element types that torch writes, and how their bytes become numbers.

Names are torch's own (``torch.bfloat16`` is ``bfloat16`` here). Numpy has no bfloat16
and no 8-bit floats: the first is the upper half of a float32, the second have only 256
values and are looked up. The formats of the 8-bit floats are those of the OCP 8-bit
floating point specification, and of "8-bit Numerical Formats for Deep Neural Networks"
(Noune et al. 2022) for the ``fnuz`` ones.
"""

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from normcheck.lazy_dataclass import lazy_dataclass

Array = npt.NDArray[Any]


@lazy_dataclass(eq=False)
class DType:
    """An element type: its name, its size, and how it is read."""

    name: str
    itemsize: int
    """Bytes per element as stored."""
    code: str | None
    """Numpy's type code of the stored bits; None where the bits are no numbers by themselves."""
    decode: Callable[[Array], Array] | None = None
    """From the stored bits to numbers; None where numpy's type is already the value."""
    floating: bool = False
    largest: float | None = None
    """The largest finite value, for floating types that a statistic can overflow."""
    smallest: float | None = None
    """The smallest positive value (a denormal where the type has them)."""

    @property
    def readable(self) -> bool:
        """Whether stored bits of it become numbers."""
        return self.code is not None or self.name in HALVES


def _bfloat16(bits: Array) -> Array:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _float8_table(exponent_bits: int, bias: int, *, special: str) -> Array:
    """All 256 values of an 8-bit float with a sign bit.

    Args:
        exponent_bits: Width of the exponent; the rest but the sign is mantissa.
        bias: Subtracted from the stored exponent.
        special: ``ieee`` (top exponent is Inf and NaN), ``fn`` (only all ones is NaN),
            ``fnuz`` (only negative zero is NaN).
    """
    mantissa_bits = 7 - exponent_bits
    code = np.arange(256)
    sign = np.where(code & 0x80, -1.0, 1.0)
    exponent = (code & 0x7F) >> mantissa_bits
    fraction = (code & ((1 << mantissa_bits) - 1)) / (1 << mantissa_bits)
    value = np.where(
        exponent == 0,
        np.ldexp(fraction, 1 - bias),
        np.ldexp(1.0 + fraction, exponent - bias),
    )
    value *= sign
    if special == "ieee":
        top = exponent == (1 << exponent_bits) - 1
        value[top] = np.where(fraction[top] == 0, sign[top] * np.inf, np.nan)
    elif special == "fn":
        value[(code & 0x7F) == 0x7F] = np.nan
    else:
        value[0x80] = np.nan
    return value


def _float8(exponent_bits: int, bias: int, special: str) -> Callable[[Array], Array]:
    # The table is built when it is first needed: most runs never meet such a tensor.
    table: list[Array] = []

    def decode(bits: Array) -> Array:
        if not table:
            table.append(_float8_table(exponent_bits, bias, special=special))
        values: Array = table[0][bits]
        return values

    return decode


def _float8_e8m0(bits: Array) -> Array:
    # An exponent only (OCP microscaling formats): 2^(code - 127), 255 is NaN.
    return np.where(bits == 255, np.nan, np.ldexp(1.0, bits.astype(np.int32) - 127))


def _bcomplex32(halves: Array) -> Array:
    return _bfloat16(halves).view(np.complex64)


def _complex32(halves: Array) -> Array:
    # Not real + 1j * imaginary: an infinite imaginary part would make the real one NaN.
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        return halves.astype(np.float32).view(np.complex64)


def _float(name: str, size: int, code: str, largest: float, smallest: float) -> DType:
    decode = _bfloat16 if name == "bfloat16" else None
    return DType(name, size, code, decode, True, largest, smallest)


_FLOATS = (
    _float("float64", 8, "f8", 1.7976931348623157e308, 5e-324),
    _float("float32", 4, "f4", 3.4028234663852886e38, 1.401298464324817e-45),
    _float("float16", 2, "f2", 65504.0, 5.960464477539063e-08),
    _float("bfloat16", 2, "u2", 3.3895313892515355e38, 9.183549615799121e-41),
    DType("float8_e4m3fn", 1, "u1", _float8(4, 7, "fn"), True, 448.0, 2.0**-9),
    DType("float8_e5m2", 1, "u1", _float8(5, 15, "ieee"), True, 57344.0, 2.0**-16),
    DType("float8_e4m3fnuz", 1, "u1", _float8(4, 8, "fnuz"), True, 240.0, 2.0**-10),
    DType("float8_e5m2fnuz", 1, "u1", _float8(5, 16, "fnuz"), True, 57344.0, 2.0**-17),
    DType("float8_e8m0fnu", 1, "u1", _float8_e8m0, True, 2.0**127, 2.0**-127),
)
_INTEGERS = tuple(
    DType(f"{'u' if kind == 'u' else ''}int{8 * size}", size, f"{kind}{size}")
    for kind in "iu"
    for size in (1, 2, 4, 8)
)
_OTHERS = (
    DType("bool", 1, "?"),
    DType("complex64", 8, "c8"),
    DType("complex128", 16, "c16"),
    # Two halves side by side; numpy has no such types.
    DType("complex32", 4, None),
    DType("bcomplex32", 4, None),  # since torch 2.14
    # Packed or scaled integers: numbers only together with what lies outside the bytes.
    DType("float4_e2m1fn_x2", 1, None),
    DType("qint8", 1, None),
    DType("quint8", 1, None),
    DType("qint32", 4, None),
    DType("quint4x2", 1, None),
    DType("quint2x4", 1, None),
    *(DType(f"bits{width}", max(1, width // 8), None) for width in (8, 16)),
    *(DType(name, 1, None) for name in ("bits1x8", "bits2x4", "bits4x2")),
    *(DType(f"{sign}int{width}", 1, None) for sign in ("", "u") for width in range(1, 8)),
)
BY_NAME = {dtype.name: dtype for dtype in (*_FLOATS, *_INTEGERS, *_OTHERS)}

HALVES = ("complex32", "bcomplex32")
"""Numbers all the same, though no type code of numpy's reads them."""
UINT8 = BY_NAME["uint8"]
FLOAT32 = BY_NAME["float32"]

_STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
    "ComplexFloatStorage": "complex64",
    "ComplexDoubleStorage": "complex128",
    "QInt8Storage": "qint8",
    "QUInt8Storage": "quint8",
    "QInt32Storage": "qint32",
    "QUInt4x2Storage": "quint4x2",
    "QUInt2x4Storage": "quint2x4",
    "UntypedStorage": "uint8",
    "_UntypedStorage": "uint8",
}


def of_storage_class(name: str) -> DType | None:
    """The element type of torch's storage class ``name``; None where there is no such class."""
    known = _STORAGES.get(name)
    return BY_NAME[known] if known else None


@lru_cache(maxsize=64)
def _bits(code: str, big_endian: bool) -> np.dtype[Any]:
    """Numpy's type of a code in an order; to read the code takes as long as to decode."""
    return np.dtype((">" if big_endian else "<") + code)


def decode(raw: bytes | memoryview, dtype: DType, *, big_endian: bool) -> Array:
    """The numbers in ``raw``, one dimension.

    Args:
        raw: A whole number of elements of ``dtype``.
        dtype: Their type.
        big_endian: Whether the most significant byte comes first.

    Returns:
        An array of numpy's nearest type: float32 for bfloat16, float64 for 8-bit floats.

    Raises:
        ValueError: ``dtype`` holds no plain numbers (quantised or packed).
    """
    if dtype.code is not None:
        bits = np.frombuffer(raw, _bits(dtype.code, big_endian))
        return dtype.decode(bits) if dtype.decode else bits
    order = ">" if big_endian else "<"
    if dtype.name == "complex32":
        return _complex32(np.frombuffer(raw, order + "f2"))
    if dtype.name == "bcomplex32":
        return _bcomplex32(np.frombuffer(raw, order + "u2"))
    raise ValueError(f"{dtype.name} values are not plain numbers")
