"""NC114, and NC103 in its light: batches counted against the clocks of a file."""

import pytest

from normcheck.findings import Severity
from normcheck.norms.traces.gradient_trace import GradientTrace, Used
from normcheck.saved.clocks import OPTIMIZER, Clock, Unit
from tests.rules.layers import (
    CHANNELS,
    batch_norm,
    copy_of,
    count,
    judge,
    new_norm,
    only,
    reset_norm,
    values,
)
from tests.rules.statistics.test_under_warmed_stats import cold

RULE = "count-behind-steps"
STEPS = Clock("global_step", 10_000, Unit.STEPS)
STORED = GradientTrace(Used.STORED, (1.0, 0.7))
BATCH = GradientTrace(Used.BATCH, (1e-7, 1e-6))


def test_far_fewer_batches_than_steps() -> None:
    """Healthy models read the same: info that names the readings."""
    found = only(judge(RULE, batch_norm(batches=count(300)), clocks=(STEPS,)))
    assert found.severity is Severity.INFO
    assert "10,000 steps (global_step)" in found.detail
    assert "update_bn" in found.consequence


@pytest.mark.parametrize(
    ("clock", "said"),
    [
        (Clock(OPTIMIZER, 5000, Unit.STEPS), "The optimizer saved with it counted 5,000 steps"),
        (Clock("loops", 5000, Unit.BATCHES), "went through 5,000 batches"),
        (Clock("scheduler.last_epoch", 5000, Unit.AT_LEAST), "5,000 steps or epochs (scheduler"),
        (Clock("epoch", 700, Unit.EPOCHS), "700 epochs (epoch)"),
    ],
)
def test_every_clock_speaks(clock: Clock, said: str) -> None:
    """Epochs are the weakest of them: there is a batch in each at least."""
    assert said in only(judge(RULE, batch_norm(batches=count(300)), clocks=(clock,))).detail


@pytest.mark.parametrize(("epoch", "batches"), [(4, 2000), (5, 2000), (39, 250)])
def test_one_epoch_and_stored_statistics(epoch: int, batches: int) -> None:
    """``eval()`` at the first validation, never ``train()`` again; epochs from 0 or 1."""
    clocks = (STEPS, Clock("epoch", epoch, Unit.EPOCHS))
    norm = batch_norm(batches=count(batches))
    found = only(judge(RULE, norm, clocks=clocks, trace=STORED))
    assert (found.severity, found.discriminator) == (Severity.WARNING, "stored")
    assert "as one epoch has" in found.detail
    assert "re-estimating would ruin it" in found.consequence
    assert "model.train()" in found.fix
    assert only(judge(RULE, norm, clocks=clocks, trace=BATCH)).severity is Severity.INFO


def test_frozen_after_some_epochs() -> None:
    """Quantization-aware training does that: stored statistics, and three epochs of twenty."""
    clocks = (STEPS, Clock("epoch", 20, Unit.EPOCHS))
    found = only(judge(RULE, batch_norm(batches=count(1500)), clocks=clocks, trace=STORED))
    assert found.severity is Severity.INFO


@pytest.mark.parametrize(
    "healthy",
    [
        {"clocks": ()},
        {"clocks": (Clock("global_step", 1000, Unit.STEPS),)},
        {"clocks": (Clock("global_step", 250, Unit.STEPS),)},
        {"clocks": (Clock("global_step", 2000, Unit.STEPS),)},
        {"clocks": (STEPS,), "averages": 40.0},
        {"clocks": (STEPS,), "siblings": (copy_of("model", batch_norm(batches=count(10_000))),)},
    ],
    ids=["no clock", "one each", "accumulation", "half", "averaged", "a copy that counted"],
)
def test_healthy_counts(healthy: dict[str, object]) -> None:
    """Nothing to say of them."""
    assert judge(RULE, batch_norm(), **healthy) == []


def test_converted_and_reset_layers_are_not_its_business() -> None:
    """Neither are those that saw too few batches, nor new ones."""
    norms = batch_norm("a", batches=count(0)), reset_norm("b", 5), cold(5, "c"), new_norm("d")
    assert judge(RULE, *norms, batch_norm("e", batches=None), clocks=(STEPS,)) == []


class TestUnderWarmed:
    """Five batches in ten thousand steps."""

    def test_without_a_trace_both_readings(self) -> None:
        """A warning, and no advice that would ruin one of them."""
        found = only(judge("NC103", cold(5), clocks=(STEPS,)))
        assert found.severity is Severity.WARNING
        assert "10,000 steps" in found.detail
        assert "The file alone cannot tell" in found.consequence

    def test_trained_in_eval_mode(self) -> None:
        """The optimizer proves that the stored statistics were used."""
        found = only(judge("NC103", cold(5), clocks=(STEPS,), trace=STORED))
        assert found.title == "1 layer was trained in eval mode after 5 batches"
        assert "model.train()" in found.fix

    def test_begun_anew(self) -> None:
        """Batch statistics in the last steps: an error as without any clock."""
        found = only(judge("NC103", cold(5), clocks=(STEPS,), trace=BATCH))
        assert found.severity is Severity.ERROR
        assert "began anew" in found.detail
        assert "re-estimate" in found.fix

    def test_a_short_training_stays_what_it_is(self) -> None:
        """As many batches as steps: too few of both."""
        clock = Clock("global_step", 15, Unit.STEPS)
        found = only(judge("NC103", cold(12), clocks=(clock,)))
        assert found.severity is Severity.ERROR
        assert found.title.startswith("1 layer saw too few batches")


def test_never_updated_names_the_clock() -> None:
    """A loop without an optimizer in its file still counted."""
    assert (
        "10,000 steps (global_step)" in only(judge("NC101", reset_norm(), clocks=(STEPS,))).detail
    )


def test_reset_after_training_is_certain_with_a_trace() -> None:
    """Counted, at 0 and 1, and trained with batch statistics."""
    assert only(judge("NC102", reset_norm(batches=500))).severity is Severity.WARNING
    found = only(judge("NC102", reset_norm(batches=500), trace=BATCH))
    assert found.severity is Severity.ERROR
    assert "reset after training" in found.consequence


def test_statistics_without_a_count_are_passed_over() -> None:
    """One layer that has none does not hide the others."""
    bare = batch_norm("a", batches=None, running_mean=values([0.5] * CHANNELS))
    found = only(judge(RULE, bare, batch_norm("b", batches=count(300)), clocks=(STEPS,)))
    assert found.layers == ("b",)
