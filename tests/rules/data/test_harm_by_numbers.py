"""What the errors of predicted numbers decide: a fall that is sure, and large enough."""

from __future__ import annotations

import numpy as np
import pytest

from normcheck.live.measurement import AgainstData, Drift, Regime
from normcheck.rules.harm import Harm
from normcheck.rules.harm_by_outputs import FALLS, ONE_SIDED, RIGHTER_ALONE, harm_of

SAMPLES = 256


def measured(
    fall: float, t: float, *, share: float = 0.5, stored: float = 2.0, samples: int = SAMPLES
) -> AgainstData:
    """Numbers whose squared error falls by a part, ``t`` standard errors of it."""
    off = np.where(np.arange(100) < 100 * share, 0.5, 0.0)
    nothing = np.zeros(100)
    drift = Drift("norm", 0, 0, samples, off, off, nothing, nothing, nothing, False, True)
    losses = {"eval": stored, "re-estimated": stored * (1 - fall)}
    return AgainstData(
        drifts=(drift,),
        regimes=tuple(
            Regime(name, 0.3, None, None, loss, samples) for name, loss in losses.items()
        ),
        effect=2.0, healed=None, harmed=None, train_healed=None, train_harmed=None, loss_t=t,
        decisiveness=None, closings=(), noise=(), residual=0.0, domains=None,
    )  # fmt: skip


def certain(bound: float, t: float) -> float:
    """The fall of which that much is sure."""
    return bound / (1 - ONE_SIDED / t)


@pytest.mark.parametrize("t", [3.0, 6.0, 30.0])
def test_what_is_sure_of_the_fall_decides(t: float) -> None:
    """The less is known of it, the larger it has to be."""
    warning, error = (certain(bound, t) for bound in FALLS)
    assert harm_of(measured(1.05 * warning, t)) is Harm.SHOWN
    assert harm_of(measured(0.95 * warning, t)) is Harm.NONE
    assert harm_of(measured(0.95 * error, t)) is Harm.SHOWN
    assert harm_of(measured(1.05 * error, t)) is Harm.PROVEN


def test_a_small_fall_is_no_harm_however_sure() -> None:
    """As of a denoiser whose running averages lag behind the last steps."""
    assert harm_of(measured(0.04, 40.0)) is Harm.NONE
    assert harm_of(measured(0.04, 40.0, samples=40)) is Harm.NONE


def test_a_fall_by_chance_is_none() -> None:
    """And where hardly any channel is off it has to be surer."""
    assert harm_of(measured(0.6, RIGHTER_ALONE[0] - 0.1)) is not Harm.SHOWN
    assert harm_of(measured(0.6, RIGHTER_ALONE[1] - 0.1, share=0.0)) is not Harm.SHOWN
    assert harm_of(measured(0.6, RIGHTER_ALONE[1] + 0.1, share=0.0)) is Harm.PROVEN


def test_few_samples_leave_it_open() -> None:
    """A fall that is large and not sure is not called none."""
    assert harm_of(measured(0.12, 2.6, samples=40)) is Harm.UNKNOWN


def test_a_rise_speaks_for_the_stored_ones() -> None:
    assert harm_of(measured(-0.5, -9.0)) is Harm.STORED_RIGHT


def test_an_infinite_error_that_becomes_finite() -> None:
    assert harm_of(measured(float("nan"), 9.0)) is Harm.PROVEN
