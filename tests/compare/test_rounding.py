"""What is movement, and what is only another element type."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from normcheck.compare.rounding import coarsest, moved, spacing
from normcheck.saved.dtypes import BY_NAME

FLOAT32 = BY_NAME["float32"]
TORCH = {
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
    "float8_e4m3fn": torch.float8_e4m3fn,
    "float8_e5m2": torch.float8_e5m2,
}
numbers = st.lists(
    st.floats(width=32, allow_nan=True, allow_infinity=False), min_size=1, max_size=20
)


@pytest.mark.parametrize("name", TORCH)
@settings(max_examples=60, deadline=None)
@given(values=numbers)
def test_a_converted_copy_has_not_moved(name: str, values: list[float]) -> None:
    """Whatever the values, their conversion is within the rounding, saturation included."""
    single = torch.tensor(values, dtype=torch.float32)
    copy = single.to(TORCH[name]).to(torch.float64).numpy()
    # Only e4m3fn has no infinity: what is past its end becomes NaN, which has moved.
    kept = np.isnan(single.numpy()) | ~np.isnan(copy)
    result = moved(single.numpy().astype(np.float64), copy, FLOAT32, BY_NAME[name])
    assert not (result & kept).any()


@pytest.mark.parametrize("name", ["float16", "bfloat16"])
def test_two_spacings_have_moved(name: str) -> None:
    """More than the conversion can explain is movement."""
    dtype = BY_NAME[name]
    values = np.array([1e-3, 0.3, 1.0, -7.0, 300.0])
    assert moved(values, values + 2.1 * spacing(values, dtype), FLOAT32, dtype).all()


def test_of_one_type_every_bit_counts() -> None:
    """Identical is identical."""
    a = np.array([1.0, 0.0, math.nan, math.inf, 2.0])
    b = np.array([np.nextafter(np.float32(1), np.float32(2)), -0.0, math.nan, math.inf, 2.0])
    assert moved(a, b, FLOAT32, FLOAT32).tolist() == [True, False, False, False, False]


def test_a_number_that_became_nan_has_moved() -> None:
    """In either direction, and for other types too."""
    a, b = np.array([1.0, math.nan]), np.array([math.nan, 1.0])
    assert moved(a, b, FLOAT32, FLOAT32).all()
    assert moved(a, b, FLOAT32, BY_NAME["float16"]).all()


def test_infinity_of_the_finer_type_is_none_of_the_coarser() -> None:
    """An infinite variance in half precision is the large one of float32, not a small one."""
    half = BY_NAME["float16"]
    a, b = np.array([1e6, 10.0, -1e6]), np.array([math.inf, math.inf, math.inf])
    assert moved(a, b, FLOAT32, half).tolist() == [False, True, True]


def test_which_is_coarser() -> None:
    """Fewer digits, whatever the size in bytes."""
    assert coarsest([BY_NAME["float16"], BY_NAME["bfloat16"]]).name == "bfloat16"
    assert coarsest([BY_NAME["float64"], FLOAT32]) is FLOAT32
