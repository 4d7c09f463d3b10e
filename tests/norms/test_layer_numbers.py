"""What is worked out of a layer's few dozen numbers."""

import numpy as np
import pytest

from normcheck.norms.layer_numbers import deviation


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 33, 128, 513])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_deviation_is_the_one_of_numpy(size: int, scale: float) -> None:
    """To the last bit, whatever numpy's sum adds up first."""
    values = np.random.default_rng(size).normal(3.0, 2.0, size) * scale
    before = values.copy()
    assert deviation(values) == values.std()
    assert (values == before).all()
