"""The arithmetic on samples: moments, quantiles of Student's t, two populations."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from normcheck.live.probes.data_domains import separation
from normcheck.live.watching.input_moments import Moments, student_quantile


def drawn(shape: tuple[int, ...], offset: float = 0.0, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    scale = torch.linspace(0.5, 2, shape[1]).view(1, -1, *(1 for _ in shape[2:]))
    return torch.randn(shape, generator=generator) * scale + offset


def collected(x: Tensor, cuts: list[int]) -> Moments:
    moments = Moments()
    for part in torch.tensor_split(x, cuts):
        if len(part):
            moments.add(part)
    return moments


@given(
    st.sampled_from([(12, 3), (12, 3, 5), (12, 3, 4, 6), (12, 2, 2, 3, 2)]),
    st.lists(st.integers(1, 11), max_size=5).map(sorted),
    st.floats(-5, 5),
    st.permutations(range(12)),
)
@settings(deadline=None)
def test_pooled_moments(
    shape: tuple[int, ...], cuts: list[int], offset: float, order: list[int]
) -> None:
    """Mean and variance are those of all values, however they are cut and in whatever order."""
    x = drawn(shape, offset)
    mean, variance = collected(x[order], cuts).pooled()
    values = np.moveaxis(x.double().numpy(), 1, 0).reshape(shape[1], -1)
    assert mean.numpy() == pytest.approx(values.mean(1), rel=1e-6, abs=1e-6)
    assert variance.numpy() == pytest.approx(values.var(1), rel=1e-5)


@pytest.mark.parametrize("shape", [(64, 3), (64, 3, 7, 7)])
def test_large_offsets(shape: tuple[int, ...]) -> None:
    """A mean of ten thousand deviations costs the variance no digits."""
    x = drawn(shape, 1e4)
    mean, variance = collected(x, [10, 11, 40]).pooled()
    values = np.moveaxis(x.double().numpy(), 1, 0).reshape(3, -1)
    assert mean.numpy() == pytest.approx(values.mean(1), rel=1e-7)
    assert variance.numpy() == pytest.approx(values.var(1), rel=5e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_types(dtype: torch.dtype) -> None:
    """Half precision is summed in a wider type: many values do not swallow one another."""
    x = drawn((4, 2, 90, 90), 3.0).to(dtype)
    mean, variance = collected(x, [1]).pooled()
    values = np.moveaxis(x.double().numpy(), 1, 0).reshape(2, -1)
    assert mean.numpy() == pytest.approx(values.mean(1), rel=1e-5)
    assert variance.numpy() == pytest.approx(values.var(1), rel=1e-3)


def test_images_of_several_sizes() -> None:
    """Every value weighs the same, whatever the size of the image it is from."""
    small, large = drawn((3, 2, 4, 4), 1), drawn((5, 2, 9, 9), -1, seed=1)
    moments = Moments()
    moments.add(small)
    moments.add(large)
    mean, variance = moments.pooled()
    values = np.concatenate(
        [np.moveaxis(x.double().numpy(), 1, 0).reshape(2, -1) for x in (small, large)], axis=1
    )
    assert mean.numpy() == pytest.approx(values.mean(1), rel=1e-6, abs=1e-6)
    assert variance.numpy() == pytest.approx(values.var(1), rel=1e-5)


def test_errors_of_mean_and_variance() -> None:
    """Standard errors are what repeated draws scatter by, with samples that differ as wholes."""
    means, variances, errors, variance_errors = [], [], [], []
    for seed in range(300):
        x = drawn((40, 2, 3, 3), seed=seed) + drawn((40, 2, 1, 1), 2.0, seed=seed + 1000)
        moments = collected(x, [7, 30])
        mean, variance = moments.pooled()
        means.append(mean.numpy())
        variances.append(variance.numpy())
        errors.append(moments.mean_error())
        variance_errors.append(moments.variance_error())
    assert np.mean(errors, axis=0) == pytest.approx(np.std(means, axis=0), rel=0.12)
    assert np.mean(variance_errors, axis=0) == pytest.approx(np.std(variances, axis=0), rel=0.15)


def test_spread() -> None:
    """All of the variance lies between samples that are constant, none between equal ones."""
    constant = drawn((50, 2, 1, 1)).expand(50, 2, 4, 4)
    alike = drawn((1, 2, 4, 4)).expand(50, 2, 4, 4)
    half = drawn((4000, 1, 1, 1)) + drawn((4000, 1, 8, 8), seed=1)
    assert collected(constant, [9]).spread() == pytest.approx([1, 1])
    assert collected(alike, [9]).spread() == pytest.approx([0, 0], abs=1e-6)
    assert collected(half, [9]).spread() == pytest.approx([0.5], abs=0.04)
    assert collected(torch.ones(5, 2, 3), []).spread() == pytest.approx([1, 1])


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 5, 8, 15, 31, 63, 127, 255, 1000, 10**6])
@pytest.mark.parametrize("tail", [0.4, 0.1, 0.025, 1e-3, 1e-5, 1e-7, 1e-9])
def test_student_quantile(tail: float, degrees: int) -> None:
    """Quantiles are those of scipy, to a thousandth from 3 degrees of freedom on."""
    exact = float(stats.t.isf(tail, degrees))
    assert student_quantile(tail, degrees) == pytest.approx(exact, rel=1e-3)


def test_no_degrees_of_freedom() -> None:
    """One sample alone bounds nothing."""
    assert student_quantile(0.01, 0) == float("inf")


def test_separation() -> None:
    """Ashman's D of one normal, one uniform, and of two populations that lie apart."""
    generator = torch.Generator().manual_seed(0)
    normal = torch.randn(4000, 1, generator=generator)
    uniform = torch.rand(4000, 1, generator=generator)
    assert separation(normal) == pytest.approx(2.7, abs=0.15)
    assert separation(uniform) == pytest.approx(3.5, abs=0.15)
    two = torch.randn(200, 6, generator=generator)
    two[:80] += 12
    assert (separation(two) or 0) > 8
    outliers = torch.randn(200, 1, generator=generator)
    outliers[:3] += 50
    assert (separation(outliers) or 0) < 5


def test_no_separation() -> None:
    """Too few samples, equal ones, and ones that are not finite give no number."""
    assert separation(torch.randn(15, 3)) is None
    assert separation(torch.ones(30, 3)) is None
    assert separation(torch.full((30, 3), float("nan"))) is None
    odd = torch.randn(40, 2, generator=torch.Generator().manual_seed(0))
    odd[3, 1] = float("inf")
    odd[:, 0] = 1
    assert separation(odd) is not None
