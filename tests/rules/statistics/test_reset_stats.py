"""NC102: running statistics at 0 and 1 although batches were counted."""

from normcheck.findings import Confidence, Severity
from tests.rules.layers import (
    CHANNELS,
    batch_norm,
    count,
    evidence,
    frozen_norm,
    judge,
    module_norm,
    new_norm,
    only,
    reset_norm,
    thresholds,
)

RULE = "reset-stats"


def test_reset_with_a_count() -> None:
    """A count above zero beside 0/1: a warning with the span of the counts."""
    found = only(judge(RULE, reset_norm("bn1", 420), reset_norm("bn2", 1900), batch_norm("bn3")))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("bn1", "bn2")
    assert found.title == "2 batch norm layers were reset to 0 and 1"
    assert f"all {2 * CHANNELS} channels" in found.detail
    assert "num_batches_tracked is 420 to 1,900" in found.detail
    assert "reset after counting" in found.detail
    assert evidence(found) == {
        "running_mean in every channel": 0.0,
        "running_var in every channel": 1.0,
        "num_batches_tracked": 420.0,
    }
    assert thresholds(found) == {**evidence(found), "num_batches_tracked": 0.0}


def test_one_layer_is_told_in_the_singular() -> None:
    """One layer was reset, at one count."""
    found = only(judge(RULE, reset_norm(batches=5)))
    assert found.title == "1 batch norm layer was reset to 0 and 1"
    assert "num_batches_tracked is 5. " in found.detail


def test_both_readings_are_named() -> None:
    """Folded statistics and training in eval mode need the values as they are."""
    found = only(judge(RULE, reset_norm(batches=5)))
    assert "folded" in found.consequence
    assert "trained in eval mode" in found.consequence
    assert "compare accuracy" in found.fix


def test_one_batch_is_enough() -> None:
    """After a single update no statistic is exactly at its initial value."""
    assert only(judge(RULE, new_norm(batches=1))).layers == ("bn",)


def test_momentum_zero_is_named_as_the_cause() -> None:
    """A whole module shows why: statistics cannot move at momentum 0."""
    still = module_norm(
        running_mean=reset_norm().running_mean,
        running_var=reset_norm().running_var,
        momentum=0.0,
    )
    assert "Momentum is 0 in 1 of them" in only(judge(RULE, still)).detail


def test_count_of_zero_or_none_is_another_rule() -> None:
    """Without counted batches it is ``never-updated-stats``."""
    assert judge(RULE, reset_norm("bn1"), reset_norm("bn2", None)) == []


def test_genuine_statistics_are_silent() -> None:
    """Any channel off its initial value is no reset."""
    half = reset_norm(batches=50, running_var=batch_norm().running_var)
    assert judge(RULE, half, batch_norm("bn2")) == []


def test_frozen_norms_are_silent() -> None:
    """A frozen norm has no updates that a reset could undo."""
    at_start = reset_norm()
    frozen = frozen_norm(
        running_mean=at_start.running_mean, running_var=at_start.running_var, batches=count(3)
    )
    assert judge(RULE, frozen) == []
