"""Two kernels behind each other, held against one convolution after the other."""

from typing import Any

import numpy as np
import pytest

from normcheck.norms.belonging.two_kernels import one_behind_the_other

RNG = np.random.default_rng(0)
Array = np.typing.NDArray[np.floating[Any]]


def convolved(values: Array, kernel: Array) -> Array:
    """Every place at which two kernels of two dimensions meet; outputs first, inputs behind."""
    rows, columns = values.shape[2:]
    made = np.zeros(
        (len(kernel), values.shape[1], rows + kernel.shape[2] - 1, columns + kernel.shape[3] - 1)
    )
    for row in range(kernel.shape[2]):
        for column in range(kernel.shape[3]):
            added = np.einsum("om,miyx->oiyx", kernel[:, :, row, column], values)
            made[:, :, row : row + rows, column : column + columns] += added
    return made


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ((3, 3), (3, 3)),
        ((1, 3), (3, 1)),
        ((2, 3), (3, 2)),
        ((1, 1), (3, 3)),
        ((3, 3), (1, 1)),
        ((1, 1), (1, 1)),
        ((5, 5), (3, 3)),
        ((3, 3), (5, 5)),
        ((7, 2), (1, 9)),
    ],
)
def test_both_are_one_convolution_behind_the_other(
    first: tuple[int, int], second: tuple[int, int]
) -> None:
    """Of square kernels and others, of single taps and of many."""
    earlier = RNG.normal(size=(6, 4, *first)).astype(np.float32)
    later = RNG.normal(size=(5, 6, *second)).astype(np.float32)
    share = RNG.uniform(0.5, 2.0, 6).astype(np.float32)
    both = one_behind_the_other(
        later.reshape(5, 6, -1), earlier.reshape(6, 4, -1), share, (first, second)
    )
    wanted = convolved(earlier * share[:, None, None, None], later)
    assert both.shape == (5, wanted[0, 0].size, 4)
    assert np.allclose(both.swapaxes(1, 2).reshape(wanted.shape), wanted, atol=1e-4)
