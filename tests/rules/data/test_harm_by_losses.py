"""What losses and scores of classes decide, where the answers alone do not."""

from __future__ import annotations

import numpy as np
import pytest

from normcheck.live.measurement import AgainstData, Drift, Regime
from normcheck.rules.harm import Harm
from normcheck.rules.harm_by_outputs import MORE_RIGHT, RIGHTER, RIGHTER_ALONE, harm_of

SAMPLES = 256


def drift(share: float) -> Drift:
    """A layer of 100 channels of which a share is off."""
    off = np.where(np.arange(100) < 100 * share, 0.5, 0.0)
    nothing = np.zeros(100)
    return Drift("norm", 0, 0, SAMPLES, off, off, nothing, nothing, nothing, False, True)


def measured(
    t: float,
    gain: float | None,
    *,
    healed: int = 6,
    harmed: int = 6,
    share: float = 0.5,
    loss_t: float = 0.0,
) -> AgainstData:
    """What a run on labelled data measured."""
    return AgainstData(
        drifts=(drift(share), drift(share)),
        regimes=tuple(
            Regime(name, 0.1, 0.05, 0.9, 0.3, SAMPLES) for name in ("eval", "re-estimated")
        ),
        effect=2.0, healed=healed, harmed=harmed, train_healed=None, train_harmed=None,
        loss_t=loss_t, decisiveness=None, closings=(), noise=(), residual=0.0, domains=None,
        calibrated_t=t, expected_gain=gain,
    )  # fmt: skip


@pytest.mark.parametrize("share", [0.5, 0.0], ids=["off", "hardly off"])
def test_losses_count_where_answers_are_expected_to_become_right(share: float) -> None:
    """Both are needed: a surer fall of the losses, and harm that is worth a word."""
    needed = RIGHTER[share < 0.03]
    enough = measured(needed + 0.1, 2 * MORE_RIGHT, share=share)
    assert harm_of(enough) is Harm.SHOWN
    assert harm_of(measured(needed - 0.1, 2 * MORE_RIGHT, share=share)) is Harm.NONE
    assert harm_of(measured(needed + 9, MORE_RIGHT / 2, share=share)) is Harm.NONE


def test_losses_as_they_are_do_not_make_up_for_answers() -> None:
    """A network that is merely too sure loses nats and no answer."""
    assert harm_of(measured(9.0, 0.0, loss_t=12.0)) is Harm.NONE
    assert harm_of(measured(9.0, None, loss_t=12.0)) is Harm.SHOWN


def test_more_answers_turn_wrong() -> None:
    """Then no fall of the losses accuses the stored statistics."""
    found = measured(9.0, 5 * MORE_RIGHT, healed=5, harmed=8)
    assert harm_of(found) is not Harm.SHOWN


def test_a_significant_change_of_answers_is_proof() -> None:
    """Whatever is expected."""
    assert harm_of(measured(-1.0, 0.0, healed=20, harmed=4)) is Harm.PROVEN


def test_without_an_expected_gain_losses_have_to_be_surer() -> None:
    """Of masks and of marks nothing is expected."""
    between = (RIGHTER[0] + RIGHTER_ALONE[0]) / 2
    assert harm_of(measured(between, None)) is Harm.NONE
    assert harm_of(measured(RIGHTER_ALONE[0] + 0.1, None)) is Harm.SHOWN
