"""Fits of several links at once are those of each alone, and those of the formulas."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from normcheck.norms.belonging.fit import HeldAgainst, Predicted, fit_of, fits_of

LINK: Any = SimpleNamespace


def _predicted(choice: np.random.Generator, size: int, dead: int, weight: float) -> Predicted:
    variance, mean = choice.uniform(0.5, 2.0, size), choice.normal(size=size)
    variance[:dead] = 0.0
    link = LINK(target=LINK(running_var=LINK(numbers=variance)))
    near, other = mean + 0.3 * choice.normal(size=size), choice.uniform(0.5, 2.0, size)
    weights = weight * choice.uniform(0.5, 1.5, size)
    hypothesis: Any = SimpleNamespace(activation="ReLU", pool=1.0)
    return Predicted(link, hypothesis, near, other, (mean, weights), HeldAgainst(0.9, 0.9, 1.0))


@pytest.mark.filterwarnings("error")
def test_together_and_alone() -> None:
    """With dead channels, with none alive, and with means so large that they weigh nothing."""
    choice = np.random.default_rng(0)
    kinds = ((16, 0, 1.0), (9, 3, 1.0), (20, 20, 1.0), (31, 0, 1.0), (12, 0, 0.0))
    each = [_predicted(choice, *kind) for kind in kinds]
    for one, fit in zip(each, fits_of(each), strict=True):
        alone, (stored, weight) = fit_of(one), one.weighted
        for name in ("correlation", "log_scale", "scale_correlation", "energy"):
            assert getattr(fit, name) == pytest.approx(getattr(alone, name), abs=1e-12)
        alive = fit.stored_variance > 0
        logs = np.log(fit.stored_variance[alive]), np.log(one.variance[alive])
        expected = np.corrcoef(*logs)[0, 1] if alive.any() else 0.0
        assert fit.scale_correlation == pytest.approx(expected)
        assert fit.log_scale == pytest.approx(np.median(logs[0] - logs[1]) if alive.any() else 0.0)
        if not weight.any():
            assert fit.correlation == 0.0
            continue
        covariance = np.cov(one.mean, stored, aweights=weight)
        spread = np.sqrt(covariance[0, 0] * covariance[1, 1])
        assert fit.correlation == pytest.approx(covariance[0, 1] / spread)


def test_of_none() -> None:
    """A model without such links has no fits."""
    assert fits_of([]) == []
