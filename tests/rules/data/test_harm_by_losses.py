"""What losses and scores of classes decide, where the answers alone do not."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from normcheck.findings import Confidence, Severity
from normcheck.live.hits import Answers, Skill
from normcheck.live.measurement import AgainstData, Drift, Exchanged, Regime
from normcheck.rules.data_verdict import judged
from normcheck.rules.harm import Harm
from normcheck.rules.harm_by_outputs import (
    ALONE_RIGHTER,
    MORE_RIGHT,
    RIGHT_WHERE_OFF,
    RIGHTER,
    RIGHTER_ALONE,
    SURE_WHERE_OFF,
    harm_of,
)

SAMPLES = 256


def drift(share: float, worth: float = inf) -> Drift:
    """A layer of 100 channels of which a share is off."""
    off = np.where(np.arange(100) < 100 * share, 0.5, 0.0)
    nothing = np.zeros(100)
    return Drift("norm", 0, 0, SAMPLES, off, off, nothing, nothing, nothing, False, True, worth)


def measured(
    t: float,
    gain: float | None,
    *,
    healed: int = 6,
    harmed: int = 6,
    share: float = 0.5,
    shares: tuple[float, ...] = (),
    worth: float = inf,
    loss_t: float = 0.0,
) -> AgainstData:
    """What a run on labelled data measured."""
    return AgainstData(
        drifts=tuple(drift(off, worth) for off in shares or (share, share)),
        regimes=tuple(
            Regime(name, 0.1, 0.05, 0.9, 0.3, SAMPLES) for name in ("eval", "re-estimated")
        ),
        effect=2.0, healed=healed, harmed=harmed, train_healed=None, train_harmed=None,
        loss_t=loss_t, decisiveness=None, closings=(), noise=(), residual=0.0, domains=None,
        calibrated_t=t, expected_gain=gain,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("level", "share", "worth"),
    [(0, 0.5, inf), (0, 0.5, 30.0), (1, 0.0, 30.0), (2, 0.0, 100.0), (2, 0.0, inf)],
)
def test_losses_count_where_answers_are_expected_to_become_right(
    level: int, share: float, worth: float
) -> None:
    """Both are needed: a surer fall of the losses, and harm that is worth a word.

    The surer the less statistics are off: where hardly a channel is, all of them may be by a
    little, as those of two small batches are.
    """
    needed = RIGHTER[level]

    def harm(t: float, gain: float) -> Harm:
        return harm_of(measured(t, gain, share=share, worth=worth))

    assert harm(needed + 0.1, 2 * MORE_RIGHT) is Harm.SHOWN
    assert harm(needed - 0.1, 2 * MORE_RIGHT) is Harm.NONE
    assert harm(needed + 9, MORE_RIGHT / 2) is Harm.NONE


@pytest.mark.parametrize(
    ("shares", "alone"),
    [
        ((0.0, 0.0, 1.0), True),
        ((0.0, 0.6, 0.05), True),
        ((1.0, 0.0, 0.0), False),  # another input
        ((0.3, 0.9, 1.0), False),  # trained on the stored statistics
        ((0.0, 0.3, 0.0), False),
        ((1.0,), False),
    ],
)
def test_one_norm_that_is_off_alone_needs_less(shares: tuple[float, ...], alone: bool) -> None:
    """Nothing but its own statistics is off so, and no look-alike is."""
    t, gain = ALONE_RIGHTER[0] + 0.4, ALONE_RIGHTER[1] + 0.001
    assert gain < MORE_RIGHT
    expected = Harm.SHOWN if alone else Harm.NONE
    assert harm_of(measured(t, gain, harmed=7, shares=shares)) is expected
    assert harm_of(measured(t - 0.5, gain, harmed=7, shares=shares)) is Harm.NONE
    assert harm_of(measured(t, gain / 2, harmed=7, shares=shares)) is Harm.NONE


SURELY, THOUGH_FEW, THOUGH_ONE = SURE_WHERE_OFF
MANY = (0.5, 0.5)
"""Shares of the channels of two norms that are off."""
FEW, ONE = (0.04, 0.0), (0.01, 0.0)
ALONE_OFF = (0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    ("t", "gain", "harmed", "samples", "shares", "shown"),
    [
        (SURELY, RIGHT_WHERE_OFF + 0.001, 5, SAMPLES, MANY, True),
        (SURELY - 0.5, RIGHT_WHERE_OFF + 0.001, 5, SAMPLES, MANY, False),
        (SURELY + 5.0, RIGHT_WHERE_OFF - 0.001, 5, SAMPLES, MANY, False),
        (SURELY + 5.0, RIGHT_WHERE_OFF + 0.001, 6, SAMPLES, MANY, False),  # no more are right
        (SURELY + 5.0, 10 * RIGHT_WHERE_OFF, 5, 64, MANY, False),  # few labels
        (THOUGH_FEW, 2 * RIGHT_WHERE_OFF, 5, SAMPLES, FEW, True),
        (THOUGH_FEW - 0.5, 2 * RIGHT_WHERE_OFF, 5, SAMPLES, FEW, False),
        (THOUGH_FEW + 1.0, 2 * RIGHT_WHERE_OFF, 5, SAMPLES, ONE, False),
        (THOUGH_ONE, 2 * RIGHT_WHERE_OFF, 5, SAMPLES, ONE, True),
        (THOUGH_ONE, 2 * RIGHT_WHERE_OFF, 5, 4 * SAMPLES, ONE, False),  # the same effect, surer
        (2 * THOUGH_ONE, 2 * RIGHT_WHERE_OFF, 5, 4 * SAMPLES, ONE, True),
        (SURELY + 0.1, RIGHT_WHERE_OFF + 0.001, 6, SAMPLES, ALONE_OFF, True),  # no look-alike
        (SURELY + 0.1, RIGHT_WHERE_OFF + 0.001, 6, 64, ALONE_OFF, True),
        (SURELY - 0.1, RIGHT_WHERE_OFF + 0.001, 6, SAMPLES, ALONE_OFF, False),
        (SURELY + 5.0, RIGHT_WHERE_OFF - 0.001, 6, SAMPLES, ALONE_OFF, False),
    ],
)
def test_only_what_is_off_exchanged_shows_what_noise_hides(
    t: float,
    gain: float,
    harmed: int,
    samples: int,
    shares: tuple[float, ...],
    shown: bool,
) -> None:
    """All statistics of few samples are noisy: with all of them nothing may be gained.

    Where hardly a channel is off, as where averages lag behind a training at a constant rate, more
    is needed.
    """
    hidden = measured(0.1, 0.0, healed=1, harmed=1, shares=shares)
    assert harm_of(hidden) is Harm.NONE
    regimes = tuple(replace(regime, samples=samples) for regime in hidden.regimes)
    answers = Answers(round(0.9 * samples), samples, 0.1, 10, 0.1)
    found = replace(
        hidden,
        regimes=regimes,
        answers=answers,
        given_answers=answers,
        exchanged=Exchanged(6, harmed, t, gain),
    )
    assert (harm_of(found) is Harm.SHOWN) is shown
    text = judged(found, labelled=True).text
    assert ("Where only the norms that are off" in text) is shown


@pytest.mark.parametrize(("share", "proof"), [(0.0, 10), (0.01, 7)])
def test_answers_alone_need_more_proof_where_no_norm_is_off(share: float, proof: int) -> None:
    """Of healthy networks one in a hundred has seven answers better and none worse, by luck."""
    for healed in (proof - 1, proof):
        found = harm_of(measured(0.0, 0.0, healed=healed, harmed=0, share=share))
        assert (found is Harm.PROVEN) is (healed == proof)


@pytest.mark.parametrize("samples", [SAMPLES, 4 * SAMPLES])
def test_a_lag_that_nobody_minds_is_none_of_more_samples(samples: int) -> None:
    """With four times as many the same effect has twice the t."""
    for times, shown in ((0.95, False), (1.05, True)):
        t = times * RIGHTER[2] * (samples / SAMPLES) ** 0.5
        found = measured(t, 2 * MORE_RIGHT, share=0.0, worth=100.0)
        regimes = tuple(replace(regime, samples=samples) for regime in found.regimes)
        assert (harm_of(replace(found, regimes=regimes)) is Harm.SHOWN) is shown


def test_more_wrong_answers_for_certain_outweigh_an_exchange() -> None:
    """Statistics that weights were trained with: all of them taken away, answers turn wrong."""
    look_alike = measured(-4.0, -0.05, healed=4, harmed=20)
    exchange = Exchanged(8, 6, 3.0, 0.02)
    assert harm_of(replace(look_alike, exchanged=exchange)) is Harm.STORED_RIGHT


def test_losses_as_they_are_do_not_make_up_for_answers() -> None:
    """A network that is merely too sure loses nats and no answer."""
    assert harm_of(measured(9.0, 0.0, loss_t=12.0)) is Harm.NONE
    assert harm_of(measured(9.0, None, loss_t=12.0)) is Harm.SHOWN


def test_losses_for_the_stored_statistics_ask_for_a_surer_fall_at_another_temperature() -> None:
    """As after fine-tuning with frozen norms: a few answers change, by chance, to the better."""
    usual, surer, _ = RIGHTER
    assert harm_of(measured(surer - 0.1, 2 * MORE_RIGHT, loss_t=-6.0)) is Harm.NONE
    assert harm_of(measured(surer + 0.1, 2 * MORE_RIGHT, loss_t=-6.0)) is Harm.SHOWN
    assert harm_of(measured(usual + 0.1, 2 * MORE_RIGHT, loss_t=-1.0)) is Harm.SHOWN
    alone = measured(surer + 9, ALONE_RIGHTER[1], shares=(0.0, 1.0, 0.0))
    assert harm_of(alone) is Harm.SHOWN
    assert harm_of(replace(alone, loss_t=-6.0)) is Harm.NONE
    assert harm_of(measured(3.0, 0.1, healed=20, loss_t=-6.0)) is Harm.PROVEN


@pytest.mark.parametrize(
    ("stored", "given", "severity"),
    [
        (0.900, 0.930, Severity.ERROR),
        (0.900, 0.911, Severity.ERROR),
        (0.900, 0.905, Severity.WARNING),  # half a point, of many decisions for each sample
        (0.985, 0.990, Severity.ERROR),  # a third of what was wrong
        (None, None, Severity.ERROR),
    ],
)
def test_proof_of_a_small_harm_is_a_warning(
    stored: float | None, given: float | None, severity: Severity
) -> None:
    """Of many labels half a point is proven; that does not make it more than half a point."""
    found = measured(-1.0, 0.0, healed=20, harmed=4)
    regimes = (
        replace(found.regimes[0], accuracy=stored),
        replace(found.regimes[1], accuracy=given),
    )
    verdict = judged(replace(found, regimes=regimes))
    assert verdict.harm is Harm.PROVEN
    assert verdict.severity == (severity, Confidence.HIGH)
    assert verdict.at_least(Severity.INFO) is severity
    assert verdict.at_least(Severity.ERROR) is Severity.ERROR  # of the file alone
    harmless = judged(measured(-1.0, 0.0, healed=4, harmed=4))
    assert harmless.at_least(Severity.WARNING) is Severity.WARNING


def test_more_answers_turn_wrong() -> None:
    """Then no fall of the losses accuses the stored statistics."""
    found = measured(9.0, 5 * MORE_RIGHT, healed=5, harmed=8)
    assert harm_of(found) is not Harm.SHOWN


@pytest.mark.parametrize(
    ("harmed", "t", "times", "share", "expected"),
    [
        (12, RIGHTER[1] + 0.5, 2.1, 0.5, Harm.SHOWN),  # 10 become right, 12 wrong: by luck
        (12, RIGHTER[1] - 0.1, 2.1, 0.5, Harm.NONE),
        (12, RIGHTER[1] + 0.5, 1.9, 0.5, Harm.NONE),
        (15, RIGHTER[1] + 2.0, 2.1, 0.5, Harm.NONE),
        (12, RIGHTER[1] + 0.5, 2.1, 0.0, Harm.NONE),  # hardly a channel is off
    ],
)
def test_a_few_more_wrong_answers_may_be_luck(
    harmed: int, t: float, times: float, share: float, expected: Harm
) -> None:
    """Where scores speak clearly, and norms are off."""
    found = measured(t, times * MORE_RIGHT, healed=10, harmed=harmed, share=share)
    assert harm_of(found) is expected


def test_a_significant_change_of_answers_is_proof() -> None:
    """Whatever is expected."""
    assert harm_of(measured(-1.0, 0.0, healed=20, harmed=4)) is Harm.PROVEN


def test_without_an_expected_gain_losses_have_to_be_surer() -> None:
    """Of masks and of marks nothing is expected."""
    between = (RIGHTER[0] + RIGHTER_ALONE[0]) / 2
    assert harm_of(measured(between, None)) is Harm.NONE
    assert harm_of(measured(RIGHTER_ALONE[0] + 0.1, None)) is Harm.SHOWN


@pytest.mark.parametrize(("given", "harm"), [(0.294, Harm.NONE), (0.15, Harm.PROVEN)])
def test_masks_that_gain_a_place_each(given: float, harm: Harm) -> None:
    """However many samples are answered better: how much of the loss falls away counts."""
    found = replace(
        measured(6.0, None, healed=71, harmed=31, loss_t=6.2),
        regimes=(
            Regime("eval", 0.1, 0.05, 0.9, 0.3, SAMPLES),
            Regime("re-estimated", 0.1, 0.05, 0.9, given, SAMPLES),
        ),
        skill=Skill("places", SAMPLES, 0.8, 0.9, 30.0, 0.5),
    )
    assert harm_of(found) is harm
    # A whole answer of each sample is no place: there the number of samples decides.
    assert harm_of(replace(found, skill=None)) is Harm.PROVEN
