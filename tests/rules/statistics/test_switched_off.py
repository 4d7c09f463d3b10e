"""NC106 and NC502: channels that are dead, or scaled to nothing."""

import numpy as np
import pytest

from normcheck.findings import Confidence, Severity
from tests.rules.layers import (
    CHANNELS,
    VARIANCES,
    batch_norm,
    constant,
    evidence,
    frozen_norm,
    judge,
    kind,
    module_norm,
    only,
    plain_norm,
    thresholds,
    values,
)


def dead(number: int, value: float = 0.0) -> object:
    """Variances of which the first ones are practically zero."""
    return values([value] * number + list(VARIANCES[number:]))


def test_dead_channels() -> None:
    """Variances of zero are counted over the layers that have them; info."""
    found = only(
        judge(
            "NC106",
            batch_norm("bn1", running_var=dead(2)),
            batch_norm("bn2"),
            batch_norm("bn3", running_var=dead(1, 5.6e-45), weight=constant(2.0)),
        )
    )
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.HIGH)
    assert found.layers == ("bn1", "bn3")
    assert found.title == "3 dead channels in 2 layers"
    assert found.detail.startswith(f"3 of {2 * CHANNELS:,} channels")
    assert "amplified up to 632 times" in found.detail  # γ 2 over the root of 1e-5
    assert evidence(found) == {"dead channels": 3.0}


def test_amplification_goes_by_the_layers_own_eps() -> None:
    """A large eps protects: at 1e-3 and γ 1 it is 32 times."""
    layer = module_norm(running_var=dead(1), eps=1e-3, weight=constant(1.0))
    assert "up to 31.6 times" in only(judge("NC106", layer, modules=True)).detail


def test_dead_channel_without_eps() -> None:
    """With an eps of 0 there is no limit; the rule says so and does not break."""
    layer = module_norm(running_var=dead(1), eps=0.0)
    assert "up to infinity times" in only(judge("NC106", layer, modules=True)).detail


def test_wholly_dead_layer() -> None:
    """Where the median is zero as well, eps alone is the measure."""
    nearly = values([0.0] * (CHANNELS - 2) + [1e-10] * 2)
    found = only(judge("NC106", batch_norm(running_var=nearly)))
    assert evidence(found) == {"dead channels": float(CHANNELS)}


@pytest.mark.parametrize("variance", [1e-7, 1e-6, 1e-4])
def test_small_is_not_dead(variance: float) -> None:
    """Below eps is common; only far below it counts."""
    assert judge("NC106", batch_norm(running_var=dead(1, variance))) == []


def test_a_layer_that_is_small_throughout_is_alive() -> None:
    """Inputs of a small scale have small variances in every channel."""
    assert judge("NC106", batch_norm(running_var=values(1e-11 * VARIANCES))) == []


@pytest.mark.parametrize("weight", [None, constant(5.0, 3)])
def test_amplification_without_a_scale(weight: object) -> None:
    """No γ, or one of another layer, amplifies by eps alone."""
    layer = batch_norm(running_var=dead(1), weight=weight)
    assert "up to 316 times" in only(judge("NC106", layer)).detail


@pytest.mark.parametrize("other", [float("nan"), float("inf")])
def test_variances_that_are_not_finite_are_another_rule(other: float) -> None:
    """A layer with NaN or infinity is broken; that it has dead channels too does not matter."""
    assert judge("NC106", batch_norm(running_var=values([other, 0.0, *VARIANCES[2:]]))) == []


def test_negative_variances_are_not_dead() -> None:
    """A negative variance is ``negative-variance``, beside a dead channel that is counted."""
    found = only(judge("NC106", batch_norm(running_var=values([-1.0, 0.0, *VARIANCES[2:]]))))
    assert evidence(found) == {"dead channels": 1.0}


def test_a_rounding_below_zero_is_a_dead_channel() -> None:
    """As 1/invstd² - eps leaves it in an export: counted, and said to be below zero."""
    found = only(judge("NC106", batch_norm(running_var=values([-7.8e-13, 0.0, *VARIANCES[2:]]))))
    assert evidence(found) == {"dead channels": 2.0}
    assert "(1 a rounding below it, as an export may leave them)" in found.detail


def test_frozen_and_plain_norms_have_no_dead_channels() -> None:
    """Only layers that collect statistics are looked at."""
    half = batch_norm("half", running_var=None)
    assert judge("NC106", frozen_norm(running_var=dead(3)), plain_norm(), half) == []


def test_mostly_scaled_to_nothing() -> None:
    """Half of the channels with a γ of zero: info, with the share."""
    weight = values([0.0, 1e-9, -1e-8, 0.0, 0.9, 1.0, 1.1, -0.3])
    found = only(judge("NC502", plain_norm("ln", weight=weight), batch_norm("bn")))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.HIGH)
    assert found.layers == ("ln",)
    assert "4 of 8 channels, up to 50 %" in found.detail
    assert evidence(found) == {"share of channels off": 0.5}
    assert thresholds(found) == {"share of channels off": 0.5}


def test_worst_layer_is_told() -> None:
    """Of several layers the largest share is the evidence."""
    half = values([0.0] * 4 + [1.0] * 4)
    most = values([0.0] * 7 + [1.0])
    found = only(judge("NC502", batch_norm("a", weight=half), batch_norm("b", weight=most)))
    assert (found.layers, evidence(found)) == (("a", "b"), {"share of channels off": 0.875})


@pytest.mark.parametrize("off", [0, 1, 3])
def test_few_pruned_channels_are_silent(off: int) -> None:
    """Below one half a layer still does most of its work."""
    weight = values([0.0] * off + [1.0] * (CHANNELS - off))
    assert judge("NC502", batch_norm(weight=weight)) == []


def test_zero_initialised_residual_block_is_silent() -> None:
    """γ exactly zero in the whole layer is how residual blocks are initialised."""
    assert judge("NC502", batch_norm(weight=constant(0.0))) == []


def test_all_practically_but_not_exactly_zero() -> None:
    """Weight decay never reaches zero: a layer of 1e-9 is switched off, not initialised."""
    assert only(judge("NC502", batch_norm(weight=constant(1e-9)))).layers == ("bn",)


def test_offset_convention_counts_from_minus_one() -> None:
    """Where the layer adds 1 to its weight, 0 is a scale of one and -1 is nothing."""
    offset = {"kind": kind("RMSNorm (1 + weight)"), "unit_offset": True, "bias": None}
    assert judge("NC502", plain_norm(**offset, weight=constant(0.0))) == []
    off = values(np.repeat([-1.0, 0.2], 4))
    assert only(judge("NC502", plain_norm(**offset, weight=off))).layers == ("norm",)


def test_layers_without_a_scale_are_silent() -> None:
    """No γ, or none of any size."""
    assert judge("NC502", batch_norm(weight=None), plain_norm(weight=values([]))) == []
