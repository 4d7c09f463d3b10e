"""Element types: names, sizes, bounds and values are torch's own."""

import io

import numpy as np
import pytest
import torch

from normcheck.saved.dtypes import BY_NAME, DType, decode, of_storage_class

FLOAT8 = tuple(
    name
    for name in ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
                 "float8_e8m0fnu")
    if hasattr(torch, name)  # the last one since torch 2.7
)  # fmt: skip
PLAIN = (
    "float64", "float32", "float16", "bfloat16", "int8", "int16", "int32", "int64",
    "uint8", "uint16", "uint32", "uint64", "bool",
)  # fmt: skip
COMPLEX = tuple(
    name for name in ("complex32", "bcomplex32", "complex64", "complex128") if hasattr(torch, name)
)


def saves(name: str) -> bool:
    """Whether this torch saves a type that it has: 2.4 does not save unsigned integers."""
    try:
        torch.save(torch.zeros(2).to(getattr(torch, name)), io.BytesIO())
    except KeyError:
        return False
    return True


SAVED = tuple(filter(saves, (*PLAIN, *FLOAT8, *COMPLEX)))
TORCH_DTYPES = sorted(
    {str(value).removeprefix("torch.") for value in vars(torch).values()
     if isinstance(value, torch.dtype)}
)  # fmt: skip


def example(name: str) -> torch.Tensor:
    """Twenty-four numbers of the type, of all magnitudes that it has."""
    dtype = getattr(torch, name)
    raw = torch.arange(24 * dtype.itemsize, dtype=torch.int64).mul(37).remainder(251)
    raw = raw.to(torch.uint8)
    if name == "bool":
        return raw % 2 == 0
    return raw.view(dtype)


def in_float64(tensor: torch.Tensor) -> np.ndarray:
    """The values by torch's own widening, which is exact (complex numbers stay complex)."""
    return tensor.to(torch.complex128 if tensor.is_complex() else torch.float64).numpy()


@pytest.mark.parametrize("name", TORCH_DTYPES)
def test_every_dtype_of_torch_is_known(name: str) -> None:
    """Every element type has torch's name and size, and is floating where torch's is."""
    theirs = getattr(torch, name)
    assert BY_NAME[name].itemsize == theirs.itemsize
    packed = name.startswith("float4")
    assert BY_NAME[name].floating == (theirs.is_floating_point and not packed)


@pytest.mark.parametrize(
    "dtype",
    [d for d in BY_NAME.values() if d.floating and hasattr(torch, d.name)],
    ids=lambda d: d.name,
)
def test_bounds_of_floats(dtype: DType) -> None:
    """Largest and smallest values are those of ``torch.finfo``."""
    info = torch.finfo(getattr(torch, dtype.name))
    assert dtype.largest == info.max
    assert dtype.smallest is not None
    step = decode(_smallest_code(dtype), dtype, big_endian=False)
    assert dtype.smallest == step[0] > 0


def _smallest_code(dtype: DType) -> bytes:
    # The encoding e8m0 has no zero: its first code is the smallest value.
    first = 0 if dtype.name == "float8_e8m0fnu" else 1
    return first.to_bytes(dtype.itemsize, "little")


@pytest.mark.parametrize("name", FLOAT8)
def test_all_codes_of_8_bit_floats(name: str) -> None:
    """All 256 codes of an 8-bit float mean what they mean to torch."""
    codes = torch.arange(256, dtype=torch.uint8)
    theirs = in_float64(codes.view(getattr(torch, name)))
    ours = decode(codes.numpy().tobytes(), BY_NAME[name], big_endian=False)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.signbit(ours)[theirs == 0], np.signbit(theirs)[theirs == 0])


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_all_codes_of_16_bit_floats(name: str) -> None:
    """All 65,536 codes of a 16-bit float mean what they mean to torch."""
    codes = torch.arange(1 << 16, dtype=torch.int32).to(torch.uint16)
    theirs = in_float64(codes.view(getattr(torch, name)))
    ours = decode(codes.numpy().tobytes(), BY_NAME[name], big_endian=False)
    with np.errstate(invalid="ignore"):  # widening a signalling NaN says so
        np.testing.assert_array_equal(ours.astype(np.float64), theirs)


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", SAVED)
def test_values_of_saved_tensors(name, legacy, read_one) -> None:
    """A tensor of any type that torch saves has the values that torch gives."""
    tensor = example(name)
    found = read_one({"a.weight": tensor}, legacy=legacy).tensors["a.weight"]
    assert (found.dtype.name, found.shape, found.readable) == (name, (24,), True)
    values = found.values()
    np.testing.assert_array_equal(
        values.astype(np.complex128 if name in COMPLEX else np.float64), in_float64(tensor)
    )


@pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])
@pytest.mark.parametrize("name", [n for n in TORCH_DTYPES if n.startswith(("bits", "float4"))])
def test_packed_tensors_have_no_values(name, legacy, read_one) -> None:
    """Tensors whose bytes are no plain numbers are listed, and known to be unreadable."""
    tensor = torch.zeros(8, dtype=torch.uint8).view(getattr(torch, name))
    found = read_one({"a.weight": tensor}, legacy=legacy).tensors["a.weight"]
    assert (found.dtype.name, found.shape) == (name, tuple(tensor.shape))
    assert not found.readable


@pytest.mark.parametrize("name", COMPLEX)
def test_infinite_complex_numbers(name: str, read_one) -> None:
    """An infinite or missing part of a complex number leaves the other part as it is."""
    parts = [complex(0, float("inf")), complex(float("nan"), 2), complex(-0.0, -1)]
    tensor = torch.tensor(parts, dtype=torch.complex64).to(getattr(torch, name))
    values = read_one({"a.weight": tensor}).tensors["a.weight"].values()
    np.testing.assert_array_equal(values.astype(np.complex128), parts)


@pytest.mark.parametrize("name", [*PLAIN, *COMPLEX])
def test_big_endian_bytes(name: str) -> None:
    """Bytes swapped within each number, and the flag, give the same numbers."""
    tensor = example(name)
    part = tensor.dtype.itemsize // (2 if tensor.is_complex() else 1)
    raw = tensor.view(torch.uint8).numpy().reshape(-1, part)[:, ::-1].tobytes()
    values = decode(raw, BY_NAME[name], big_endian=True)
    kind = np.complex128 if tensor.is_complex() else np.float64
    np.testing.assert_array_equal(values.astype(kind), in_float64(tensor))


def test_packed_bytes_are_not_decoded() -> None:
    """Quantised integers are refused rather than taken for numbers."""
    with pytest.raises(ValueError, match="quint4x2"):
        decode(b"\0", BY_NAME["quint4x2"], big_endian=False)


def test_storage_classes() -> None:
    """Every storage class of torch's has the element type that torch gives it."""
    for dtype, cls in torch.storage._dtype_to_storage_type_map().items():
        found = of_storage_class(cls)
        assert found is not None, cls
        assert f"torch.{found.name}" == str(dtype)
    assert of_storage_class("UntypedStorage") is BY_NAME["uint8"]
    assert of_storage_class("system") is None
