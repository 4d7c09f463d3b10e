"""Moments of a normal variable behind an activation."""

import math

import numpy as np
import pytest

from normcheck.norms.belonging.structure.activation_moments import (
    ACTIVATIONS,
    POOLS,
    Normals,
    after_activation,
    after_prelu,
)

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


def test_means_alone_are_those_of_both_moments() -> None:
    """To single precision; a leaky ReLU is put together from a ReLU and from no activation."""
    alone = Normals(GAMMA, BETA).means(tuple(ACTIVATIONS))
    for column, activation in enumerate(ACTIVATIONS.values()):
        both = after_activation(GAMMA, BETA, activation)[0][:, 0]
        assert alone[:, column] == pytest.approx(both, abs=1e-6 * np.max(GAMMA + np.abs(BETA)))


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
