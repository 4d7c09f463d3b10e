"""Moments of a normal variable behind an activation."""

import math

import numpy as np
import pytest

from normcheck.norms.belonging.structure.activation_moments import (
    POOLS,
    Normals,
    after_activation,
    after_prelu,
)
from normcheck.norms.belonging.structure.activations import ACTIVATIONS

pytestmark = [pytest.mark.slow, pytest.mark.kernels]

GAMMA = np.array([0.5, 1.0, -2.0, 0.0, 1.3])
BETA = np.array([0.3, -1.0, 0.5, 0.7, 0.0])


def test_relu_has_the_closed_form() -> None:
    """E[max(y, 0)] = β Φ(β/γ) + |γ| φ(β/γ), and E[max(y, 0)²] likewise."""
    mean, variance = after_activation(GAMMA, BETA, ACTIVATIONS["ReLU"])
    for g, b, m, v in zip(np.abs(GAMMA), BETA, mean[:, 0], variance[:, 0], strict=True):
        if g == 0:
            assert (m, v) == (pytest.approx(max(b, 0)), pytest.approx(0, abs=1e-12))
            continue
        below = 0.5 * (1 + math.erf(b / g / math.sqrt(2)))
        density = math.exp(-0.5 * (b / g) ** 2) / math.sqrt(2 * math.pi)
        first = b * below + g * density
        second = (b * b + g * g) * below + b * g * density
        assert m == pytest.approx(first, abs=1e-3)
        assert v == pytest.approx(second - first**2, abs=1e-3)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("pool", [1.0, 2.0, 4.0, 9.0])
def test_agrees_with_sampling(name: str, pool: float) -> None:
    """Mean and variance are those of a million samples, max-pooled after the activation."""
    if pool > 1 and name in ("SiLU", "GELU", "hardswish", "Mish"):
        pytest.skip("not increasing: pooling and activation do not change places")
    rng = np.random.default_rng(0)
    draws = ACTIVATIONS[name](0.4 + 1.2 * rng.normal(size=(200_000, int(pool)))).max(axis=1)
    mean, variance = after_activation(
        np.array([1.2]), np.array([0.4]), ACTIVATIONS[name], (1.0, pool)
    )
    assert mean[0, 1] == pytest.approx(draws.mean(), abs=0.015)
    assert variance[0, 1] == pytest.approx(draws.var(), rel=0.03, abs=0.01)


PLACES = np.linspace(-9.0, 9.0, 40_001)
DENSITY = np.exp(-0.5 * PLACES**2) / np.exp(-0.5 * PLACES**2).sum()
WIDE_GAMMA = np.array([0.01, 0.5, 1.0, -2.0, 3.0, 8.0, 1.3])
WIDE_BETA = np.array([0.2, 0.3, -1.0, 0.5, 7.0, -3.0, 0.0])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_agrees_with_a_fine_grid(name: str) -> None:
    """Means, variances and covariances are integrals over the normal distribution."""
    values = ACTIVATIONS[name](WIDE_BETA[:, None] + np.abs(WIDE_GAMMA)[:, None] * PLACES)
    mean, square = values @ DENSITY, np.square(values) @ DENSITY
    variance, covariance = square - mean**2, values @ (DENSITY * PLACES)
    channels, size = Normals(WIDE_GAMMA, WIDE_BETA), 1.0 + np.abs(WIDE_GAMMA)
    both, parts = channels.after(ACTIVATIONS[name]), channels.in_parts(ACTIVATIONS[name])
    assert (np.abs(channels.means([name])[:, 0] - mean) < 1e-3 * size).all()
    assert (np.abs(both[0][:, 0] - mean) < 1e-3 * size).all()
    assert (np.abs(both[1][:, 0] - variance) < 1e-3 * size**2).all()
    assert (np.abs(parts[0] - covariance) < 1e-3 * size).all()
    assert (np.abs(parts[1] - variance) < 1e-3 * size**2).all()


@pytest.mark.parametrize(
    "name", ["ReLU", "ReLU6", "leaky ReLU 0.01", "leaky ReLU 0.2", "hardswish", "ELU"]
)
def test_pieces_are_taken_in_closed_form(name: str) -> None:
    """To 10^-4 of the channel's size, which no grid of a hundred points reaches at a kink."""
    values = ACTIVATIONS[name](WIDE_BETA[:, None] + np.abs(WIDE_GAMMA)[:, None] * PLACES)
    mean, size = values @ DENSITY, 1.0 + np.square(WIDE_GAMMA) + np.square(WIDE_BETA)
    channels = Normals(WIDE_GAMMA, WIDE_BETA)
    linear, variance = channels.in_parts(ACTIVATIONS[name])
    assert (np.abs(channels.means([name])[:, 0] - mean) < 1e-4 * size).all()
    assert (np.abs(variance - (np.square(values) @ DENSITY - mean**2)) < 1e-4 * size).all()
    assert (np.abs(linear - values @ (DENSITY * PLACES)) < 1e-4 * size).all()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_extreme_channels_have_finite_means(name: str) -> None:
    """Dead ones, and numbers as large as single precision stores, raise no warning either."""
    gamma, beta = np.array([0.0, 0.0, 1e-30, 200.0, 1e4]), np.array([0.0, -3.0, 1e4, -1e4, 5.0])
    mean = Normals(gamma, beta).means([name])[:, 0]
    assert np.isfinite(mean).all()
    assert mean[:3] == pytest.approx(ACTIVATIONS[name](beta[:3]), rel=1e-5, abs=1e-5)
    if name in ("ReLU", "no activation", "leaky ReLU 0.1"):
        large = np.array([3e38, 1e30])
        assert np.isfinite(Normals(large, large).after(ACTIVATIONS[name])).all()


def test_pools_are_what_the_table_holds() -> None:
    """A pool of one is no pooling, more of it gives larger means."""
    mean, _ = after_activation(GAMMA[:2], BETA[:2], ACTIVATIONS["ReLU"], POOLS)
    assert (np.diff(mean, axis=1) > 0).all()
    assert POOLS[0] == 1.0


def test_prelu_uses_each_channels_slope() -> None:
    """A slope of 0 is ReLU, of 1 no activation; one slope serves all channels."""
    relu, _ = after_activation(GAMMA, BETA, ACTIVATIONS["ReLU"])
    mean, _ = after_prelu(GAMMA, BETA, np.array([0.0, 1.0, 0.0, 1.0, 0.0]))
    expected = np.where([True, False, True, False, True], relu[:, 0], BETA)
    assert mean[:, 0] == pytest.approx(expected, abs=1e-6)
    shared, _ = after_prelu(GAMMA, BETA, np.array([0.0]))
    assert shared == pytest.approx(relu)
