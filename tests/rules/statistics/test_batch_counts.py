"""NC110 and NC111: counts that differ, and counts that are none."""

import numpy as np
import pytest

from normcheck.findings import Confidence, Severity
from tests.rules.layers import (
    batch_norm,
    count,
    evidence,
    frozen_norm,
    judge,
    kind,
    new_norm,
    only,
    plain_norm,
    thresholds,
)


def counted(*counts: float, dtype: str = "int64") -> list[object]:
    """One norm for each count."""
    return [batch_norm(f"bn{i}", batches=count(n, dtype)) for i, n in enumerate(counts)]


def test_exactly_twice_as_many() -> None:
    """A whole multiple is a layer that runs twice per step, or checkpointing: info."""
    found = only(judge("NC110", *counted(500, 1000, 500, 500)))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.HIGH)
    assert found.layers == ("bn1",)
    assert found.detail.startswith("1,000 against 500 in 3 layers. Exactly 2 times as many")
    assert "checkpointing" in found.detail
    assert evidence(found) == {"different counts": 2.0}
    assert thresholds(found) == {"different counts": 1.0}


def test_several_multiples() -> None:
    """A head shared by three inputs and an encoder by two."""
    found = only(judge("NC110", *counted(100, 100, 100, 200, 300)))
    assert "Exactly 2, 3 times as many" in found.detail


def test_equally_common_counts() -> None:
    """Half of the layers twice as often: the smaller count is the usual one."""
    found = only(judge("NC110", *counted(1000, 500)))
    assert found.layers == ("bn0",)
    assert "Exactly 2 times as many" in found.detail


def test_fewer_is_frozen_or_added_later() -> None:
    """A part with a smaller count was frozen, added later, or is not always taken."""
    found = only(judge("NC110", *counted(1000, 1000, 1000, 250)))
    assert found.layers == ("bn3",)
    assert "a frozen part" in found.detail


def test_no_simple_ratio() -> None:
    """Counts without a pattern are shown without a reading too many."""
    found = only(judge("NC110", *counted(100, 100, 130, 90, 117, 163)))
    assert found.layers == ("bn2", "bn3", "bn4", "bn5")
    assert "No simple ratio" in found.detail
    assert found.detail.startswith("90, 117, 130 … against 100 in 2 layers")


@pytest.mark.parametrize("other", [250, 150, 50, 70])
def test_multiples_among_other_counts(other: int) -> None:
    """One whole multiple does not explain a count that is none."""
    found = only(judge("NC110", *counted(100, 100, 100, 200, other)))
    assert found.layers == ("bn3", "bn4")
    assert "No simple ratio" in found.detail


@pytest.mark.parametrize("counts", [(), (7,), (1000, 1000, 1000)])
def test_equal_counts_are_silent(counts: tuple[int, ...]) -> None:
    """All the same, or nothing to compare with."""
    assert judge("NC110", *counted(*counts)) == []


def test_what_did_not_count_is_no_difference() -> None:
    """Imports, layers that never ran, floats, negatives and frozen norms are left out."""
    others = [
        batch_norm("import", batches=count(0)),
        new_norm("new"),
        batch_norm("old", batches=None),
        batch_norm("averaged", batches=count(12.0, "float32")),
        batch_norm("damaged", batches=count(-3)),
        frozen_norm("frozen", batches=count(9)),
        plain_norm(),
    ]
    assert judge("NC110", *counted(500, 500), *others) == []


@pytest.mark.parametrize(
    ("value", "shown"),
    [(-1, "-1"), (-4096, "-4,096"), (10**12 + 1, "1e+12"), (2**61, "2.31e+18"), (10**13, "1e+13")],
)
def test_impossible_counts(value: int, shown: str) -> None:
    """Negative and absurd counts are a warning: buffers were calculated with."""
    found = only(judge("NC111", *counted(100, value)))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("bn1",)
    assert found.detail == f"For example {shown} in bn1."
    assert evidence(found) == {"num_batches_tracked": float(value)}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(float("nan"), "NaN"), (float("inf"), "infinity"), (float("-inf"), "-infinity")],
)
def test_counts_that_are_no_numbers(value: float, shown: str) -> None:
    """A count that overflowed half precision, or went through 0/0, does not break the rule."""
    found = only(judge("NC111", *counted(value, dtype="float16")))
    assert found.severity is Severity.WARNING
    assert f"For example {shown} in" in found.detail


def test_fractions_come_from_averaging() -> None:
    """A fraction is the fingerprint of averaged checkpoints: info."""
    found = only(judge("NC111", *counted(1000.0, 1033.4, dtype="float32")))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.HIGH)
    assert found.layers == ("bn0", "bn1")
    assert "float32, for example 1033.4 in bn1" in found.detail
    assert "averaging several models" in found.detail
    assert "lack what lies between the means" in found.consequence


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_whole_floats_come_from_a_conversion(dtype: str) -> None:
    """A model converted as a whole has whole numbers in a float type: info."""
    found = only(judge("NC111", *counted(2048.0, dtype=dtype)))
    assert found.severity is Severity.INFO
    assert f"Type {dtype}" in found.detail
    assert "conversion" in found.detail


def test_impossible_and_float_are_two_findings() -> None:
    """A negative count is not excused by another layer's fraction."""
    layers = [
        *counted(-2.5, dtype="float32"),
        *counted(-7),
        batch_norm(batches=count(1.5, "float32")),
    ]
    impossible, floating = judge("NC111", *layers)
    assert (impossible.severity, floating.severity) == (Severity.WARNING, Severity.INFO)
    assert evidence(impossible) == {"num_batches_tracked": -7.0}
    assert floating.layers == ("bn",)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8"])
def test_whole_counts_are_silent(dtype: str) -> None:
    """Zero and any plausible number of an integer type are counts."""
    assert judge("NC111", *counted(0, 1, 200, dtype=dtype)) == []
    assert judge("NC111", batch_norm(batches=None), plain_norm()) == []


def test_a_long_training_is_no_damage() -> None:
    """A year of a thousand batches a second is absurd nowhere below the threshold."""
    assert judge("NC111", *counted(10**12, 31_536_000_000)) == []


def test_every_kind_with_a_count_is_looked_at() -> None:
    """A frozen or custom norm's count can be damaged as well."""
    layers = [
        frozen_norm("a", batches=count(-1)),
        batch_norm("b", kind=kind("custom norm"), batches=count(-1)),
    ]
    assert only(judge("NC111", *layers)).layers == ("a", "b")


@pytest.mark.parametrize("number", [1.0, 0.1, 640.0])
def test_a_count_that_is_the_bits_of_a_float(number: float) -> None:
    """Memory that held a float64 before: no arithmetic gives such counts."""
    bits = int(np.float64(number).view(np.int64))
    found = only(judge("NC111", *counted(100, bits)))
    assert f"the bits of the float {number:g}" in found.detail
    assert "arithmetic" not in found.fix  # nothing was calculated: memory was read
    assert "read from memory" in found.consequence
