"""NC104, NC105 and NC109: statistics that no training writes."""

from typing import Any

import numpy as np
import pytest

from normcheck.findings import Confidence, Severity
from normcheck.norms.layer import Momentum
from tests.rules.layers import (
    CHANNELS,
    MEANS,
    VARIANCES,
    batch_norm,
    constant,
    evidence,
    frozen_norm,
    judge,
    module_norm,
    only,
    plain_norm,
    thresholds,
    values,
)

NAN, INF = float("nan"), float("inf")


def with_channel(base: np.ndarray, *replaced: float) -> list[float]:
    """The statistics with the first channels replaced."""
    return [*replaced, *base[len(replaced) :]]


def test_nan_in_a_mean() -> None:
    """One NaN is an error, with the share of the channels."""
    sick = batch_norm("bn2", running_mean=values(with_channel(MEANS, NAN)))
    found = only(judge("NC104", batch_norm("bn1"), sick))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert found.layers == ("bn2",)
    assert found.detail == f"1 of {CHANNELS} channels is not finite."
    assert evidence(found) == {"channels not finite": 1.0}


def test_channels_count_once() -> None:
    """A channel with a NaN mean and an infinite variance is one channel."""
    sick = batch_norm(
        running_mean=values(with_channel(MEANS, NAN, NAN)),
        running_var=values(with_channel(VARIANCES, 1.0, INF, -INF)),
    )
    assert evidence(only(judge("NC104", sick))) == {"channels not finite": 3.0}


def test_nan_everywhere_is_one_finding() -> None:
    """One bad batch reaches all layers: one finding lists them."""
    sick = [batch_norm(f"bn{i}", running_var=constant(NAN)) for i in range(3)]
    found = only(judge("NC104", *sick))
    assert found.layers == ("bn0", "bn1", "bn2")
    assert evidence(found) == {"channels not finite": 3.0 * CHANNELS}


def test_nan_beside_a_statistic_of_another_size() -> None:
    """A damaged layer whose statistics differ in size is judged all the same."""
    sick = batch_norm(running_mean=values([NAN, 0.0]), running_var=values(VARIANCES))
    assert evidence(only(judge("NC104", sick))) == {"channels not finite": 1.0}


def test_frozen_norms_are_judged_too() -> None:
    """A frozen norm applies its statistics in both modes."""
    assert only(judge("NC104", frozen_norm(running_mean=constant(NAN)))).layers == ("bn",)


def test_infinity_in_float32_is_not_saturation() -> None:
    """Above 3e38 nothing genuine overflows: NC104, not NC109."""
    sick = batch_norm(running_var=values(with_channel(VARIANCES, INF)))
    assert only(judge("NC104", sick)).severity is Severity.ERROR
    assert judge("NC109", sick) == []


def test_infinity_in_half_precision_is_saturation() -> None:
    """The value overflowed on conversion: NC109, not NC104."""
    sick = batch_norm(running_var=values(with_channel(VARIANCES, 180_000.0), "float16"))
    assert judge("NC104", sick) == []
    found = only(judge("NC109", sick, batch_norm("bn2")))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert found.layers == ("bn",)
    assert found.detail == "1 of 8 channels is at the limit; float16 ends at 65,504."
    assert evidence(found) == {"channels at the limit": 1.0}


def test_nan_in_half_precision_is_no_saturation() -> None:
    """A NaN did not come from an overflow: NC104, not NC109."""
    sick = batch_norm(running_mean=values(with_channel(MEANS, NAN), "float16"))
    assert only(judge("NC104", sick)).severity is Severity.ERROR
    assert judge("NC109", sick) == []


def test_clipped_at_the_largest_value() -> None:
    """A conversion that clips leaves the type's largest value, either sign."""
    sick = batch_norm(
        running_mean=values(with_channel(MEANS, -65504.0, 65504.0), "float16"),
        running_var=values(with_channel(VARIANCES, 65504.0), "float16"),
    )
    assert evidence(only(judge("NC109", sick))) == {"channels at the limit": 2.0}


@pytest.mark.parametrize(("dtype", "limit"), [("float8_e4m3fn", 448.0), ("float8_e5m2", 57344.0)])
def test_eight_bits_saturate_early(dtype: str, limit: float) -> None:
    """Eight-bit floats end at a few hundred, or at 57,344."""
    sick = batch_norm(running_var=values(with_channel(VARIANCES, limit), dtype))
    assert f"{dtype} ends at {limit:,.0f}" in only(judge("NC109", sick)).detail


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_within_range_is_silent(dtype: str) -> None:
    """Large and vanished variances are no overflow; bfloat16 has the range of float32."""
    fine = batch_norm(running_var=values(with_channel(VARIANCES, 65_000.0, 0.0, 6e-8), dtype))
    assert judge("NC109", fine) == []
    assert judge("NC109", batch_norm(running_var=values([7e4] * 8, "bfloat16"))) == []


def test_large_genuine_variance_is_silent() -> None:
    """In float32 65,504 is a number like any other."""
    assert judge("NC109", batch_norm(running_var=constant(65504.0))) == []


def test_negative_variance() -> None:
    """Below -eps the square root is NaN: an error with the lowest value and the channels."""
    sick = batch_norm(running_var=values(with_channel(VARIANCES, -0.5, -0.002, 0.0)))
    found = only(judge("NC105", batch_norm("bn1"), sick))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert found.layers == ("bn",)
    assert found.detail == "2 of 8 channels are below zero, the lowest -0.5."
    assert evidence(found) == {"lowest running_var": -0.5}
    assert thresholds(found) == {"lowest running_var": 0.0}
    assert "NaN" in found.consequence


@pytest.mark.parametrize(
    ("lowest", "eps", "severity"),
    [
        (-1.1e-11, None, Severity.WARNING),
        (-1e-6, None, Severity.WARNING),
        (-1e-5, None, Severity.ERROR),
        (-1e-4, None, Severity.ERROR),
        (-1e-4, 1e-3, Severity.WARNING),
        (-1e-6, 1e-7, Severity.ERROR),
        (-1e-30, 0.0, Severity.ERROR),
    ],
)
def test_eps_decides_how_severe_a_negative_variance_is(
    lowest: float, eps: float | None, severity: Severity
) -> None:
    """Within eps outputs stay finite; a state dict's eps is taken to be 1e-5."""
    variances = values(with_channel(VARIANCES, lowest), "float64")
    sick = (
        batch_norm(running_var=variances)
        if eps is None
        else module_norm(running_var=variances, eps=eps)
    )
    found = only(judge("NC105", sick, modules=eps is not None))
    assert found.severity is severity
    assert ("stay finite" in found.consequence) is (severity is Severity.WARNING)


def test_one_fatal_layer_makes_it_an_error() -> None:
    """All layers with negative values are one finding, the worst decides."""
    mild = batch_norm("mild", running_var=values(with_channel(VARIANCES, -1e-7)))
    fatal = batch_norm("fatal", running_var=values(with_channel(VARIANCES, -3.0)))
    found = only(judge("NC105", mild, fatal))
    assert (found.severity, found.layers) == (Severity.ERROR, ("mild", "fatal"))


@pytest.mark.parametrize("beside", [NAN, INF, -INF])
def test_negative_variance_beside_values_that_are_not_finite(beside: float) -> None:
    """A NaN in the same layer neither hides the negative variance nor breaks the rule."""
    sick = batch_norm(running_var=values(with_channel(VARIANCES, beside, -3.0)))
    assert only(judge("NC105", sick)).severity is Severity.ERROR
    assert only(judge("NC104", sick)).severity is Severity.ERROR


@pytest.mark.parametrize("smallest", [0.0, -0.0, 5.6e-45, -7.8e-13, -9e-12])
def test_zero_and_denormal_variances_are_not_negative(smallest: float) -> None:
    """Dead channels are not negative ones, nor are those that an export left a rounding below 0."""
    assert judge("NC105", batch_norm(running_var=values(with_channel(VARIANCES, smallest)))) == []


def test_norms_without_statistics_are_silent() -> None:
    """There is nothing to be wrong."""
    for rule in ("NC104", "NC105", "NC109"):
        assert judge(rule, plain_norm(), plain_norm("gn", "GroupNorm")) == []


def _many(path: str, dtype: str, **changes: object) -> object:
    """A norm of 40 channels whose numbers were rounded to a type and are stored in float32."""
    numbers = np.random.default_rng(3).uniform(0.2, 900.0, (4, 40))
    if dtype == "float16":
        numbers = numbers.astype(np.float16).astype(np.float64)
    parts = {
        name: values(row)
        for name, row in zip(
            ("running_mean", "running_var", "weight", "bias"), numbers, strict=True
        )
    }
    return batch_norm(path, features=40, **{**parts, **changes})


def _pair(dtype: str, **changes: object) -> tuple[object, object]:
    return _many("bn1", dtype), _many("bn2", dtype, **changes)


def test_infinity_of_a_model_that_went_through_float16() -> None:
    """All other numbers lie on float16's grid: no batch is to blame."""
    infinite = values([INF, *np.full(39, 512.0)])
    found = only(
        judge("NC104", _many("bn1", "float16"), _many("bn2", "float16", running_var=infinite))
    )
    assert "went through float16" in found.detail
    assert "find the batch" not in found.fix


def test_infinity_of_a_batch() -> None:
    """Numbers between those of float16: a batch brought it."""
    infinite = values([INF, *np.full(39, 512.0)])
    found = only(
        judge("NC104", _many("bn1", "float32"), _many("bn2", "float32", running_var=infinite))
    )
    assert "float16" not in found.detail
    assert "find the batch" in found.fix


def test_nan_is_no_overflow() -> None:
    """float16 turns what is too large into infinity; NaN has another cause on any grid."""
    found = only(
        judge(
            "NC104",
            _many("bn1", "float16"),
            _many("bn2", "float16", running_mean=values([NAN] * 40)),
        )
    )
    assert "find the batch" in found.fix


def test_few_numbers_prove_no_grid() -> None:
    """Eight round numbers lie on it by chance."""
    round_ones = {
        "running_mean": values([1.0, 2.0, 3.0, 4.0] * 2),
        "running_var": values([INF, *[2.0] * 7]),
        "weight": constant(1.0),
        "bias": constant(0.5),
    }
    assert "find the batch" in only(judge("NC104", batch_norm(**round_ones))).fix


def on_grid(numbers: Any) -> Any:
    """The values of bfloat16 below these of float32."""
    return (numbers.view(np.uint32) & 0xFFFF0000).view(np.float32).astype(np.float64)


@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("momentum", "severity"),
    [(None, Severity.INFO), (0.1, Severity.INFO), (0.03, Severity.WARNING),
     (0.003, Severity.WARNING), (Momentum.CUMULATIVE, Severity.INFO)],
)  # fmt: skip
def test_statistics_that_were_accumulated_in_bfloat16(
    momentum: float | Momentum | None, severity: Severity, stored: str
) -> None:
    """Buffers on its grid beside γ and β that are not; how bad it is depends on the momentum."""
    numbers = np.random.default_rng(4).uniform(0.2, 9.0, (4, 40)).astype(np.float32)
    layer = batch_norm(
        features=40,
        running_mean=values(on_grid(numbers[0]), stored),
        running_var=values(on_grid(numbers[1]), stored),
        weight=values(numbers[2].astype(np.float64)),
        bias=values(numbers[3].astype(np.float64)),
        momentum=momentum,
    )
    found = only(judge("NC109", layer))
    assert (found.severity, found.discriminator) == (severity, "bfloat16")
    said: dict[Any, str] = {
        None: "at momentum 0.01 up to 36 % short, 64 % above",
        0.1: "5.2 % short",
        0.03: "15 % short, 15 % above",
        0.003: "at momentum 0.003 up to 62 % short.",
    }
    assert said.get(momentum, "at momentum 0.1") in found.detail


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("stored", ["float32", "bfloat16"])
def test_a_model_that_was_converted(*, affine: bool, stored: str) -> None:
    """All of it on the grid, or nothing to compare with: no finding, however slow it was."""
    numbers = np.random.default_rng(4).uniform(0.2, 9.0, (4, 40)).astype(np.float32)
    coarse = on_grid(numbers)
    layer = batch_norm(
        features=40,
        running_mean=values(coarse[0], stored),
        running_var=values(coarse[1], stored),
        weight=values(coarse[2], stored) if affine else None,
        bias=values(coarse[3], stored) if affine else None,
        momentum=0.003,
    )
    assert judge("NC109", layer) == []
