"""NC103: part of the initial 0 and 1 is left, by count and momentum."""

import numpy as np
import pytest

from normcheck.findings import Confidence, Severity
from normcheck.norms.layer import Momentum
from normcheck.norms.traces.bias_trace import BiasTrace
from normcheck.norms.traces.gradient_trace import Used
from normcheck.rules.evidence.residue import residue
from normcheck.rules.rule import count_is_trusted
from tests.rules.layers import (
    CHANNELS,
    MEANS,
    VARIANCES,
    batch_norm,
    constant,
    count,
    evidence,
    judge,
    kind,
    module_norm,
    new_norm,
    only,
    plain_norm,
    reset_norm,
    thresholds,
    values,
)

RULE = "under-warmed-stats"


def cold(batches: int, /, path: str = "bn", momentum: float = 0.1, **changes: object) -> object:
    """A norm after so many batches of the healthy model's data."""
    left = (1 - momentum) ** batches
    mixed = {
        "running_mean": values((1 - left) * MEANS),
        "running_var": values(left + (1 - left) * VARIANCES),
        "batches": count(batches),
    }
    return batch_norm(path, **{**mixed, **changes})


@pytest.mark.parametrize(
    ("batches", "severity", "left"),
    [
        (1, Severity.ERROR, "90 %"),
        (5, Severity.ERROR, "59 %"),
        (21, Severity.ERROR, "11 %"),
        (22, Severity.WARNING, "9.8 %"),
        (43, Severity.WARNING, "1.1 %"),
    ],
)
def test_too_few_batches(batches: int, severity: Severity, left: str) -> None:
    """An error above 10 % (22 batches at momentum 0.1), a warning above 1 % (44 batches)."""
    found = only(judge(RULE, cold(batches)))
    assert (found.severity, found.confidence) == (severity, Confidence.MEDIUM)
    assert found.layers == ("bn",)
    assert found.title == f"1 layer saw too few batches: {left} is still the initial value"
    assert f"After {batches} batch" in found.detail
    assert "momentum 0.1 (assumed: a state dict does not hold it)" in found.detail
    assert evidence(found)["residue of the initial value"] == pytest.approx(0.9**batches)
    assert evidence(found)["num_batches_tracked"] == batches
    assert thresholds(found)["residue of the initial value"] == 0.01


@pytest.mark.parametrize("batches", [44, 45, 80, 5000])
def test_enough_batches(batches: int) -> None:
    """From 44 batches at momentum 0.1 on less than 1 % is left, 80 certainly suffice."""
    assert judge(RULE, cold(batches)) == []


def _narrow(batches: int, scale: float) -> object:
    """A norm whose inputs are small: variances of so much of the healthy model's."""
    left = 0.9**batches
    return cold(batches, running_var=values(left + (1 - left) * scale * VARIANCES))


@pytest.mark.parametrize(
    ("batches", "scale", "severity"),
    [(42, 0.005, Severity.ERROR), (50, 0.004, Severity.ERROR), (60, 0.003, Severity.WARNING)],
)
def test_a_small_rest_is_most_of_small_variances(
    batches: int, scale: float, severity: Severity
) -> None:
    """Less than 1 % of the initial 1 is half of a variance of a hundredth, and harms as much."""
    found = only(judge(RULE, _narrow(batches, scale)))
    assert found.severity is severity
    share = evidence(found)["share of the initial value in running_var"]
    assert isinstance(share, float)
    assert share == pytest.approx(0.9**batches / (0.9**batches + scale), rel=0.1)
    assert found.title.endswith(" of the variances is still the initial value")
    assert "in bn that rest is" in found.detail


@pytest.mark.parametrize(("batches", "scale"), [(80, 0.004), (100, 0.001), (200, 1e-6)])
def test_enough_batches_for_small_variances(batches: int, scale: float) -> None:
    """Where little of them is the rest, and where what is added to all variances is more."""
    assert judge(RULE, _narrow(batches, scale)) == []


def test_constant_channels_have_no_variance_that_could_be_wrong() -> None:
    """Most channels are dead and store the rest alone; those that are not are right."""
    left = 0.9**50
    norm = cold(50, running_var=values([*[left] * (CHANNELS - 4), *VARIANCES[-4:]]))
    assert judge(RULE, norm) == []
    assert judge(RULE, cold(50, running_var=constant(left))) == []


@pytest.mark.parametrize(
    ("norm", "batches"), [(cold(20), 50), (_narrow(20, 0.01), 90), (_narrow(50, 0.004), 100)]
)
def test_how_many_batches_would_do(norm: object, batches: int) -> None:
    """The fix counts what variances of this size need."""
    assert f"until some {batches} batches are counted" in only(judge(RULE, norm)).fix


def test_known_momentum_is_certain() -> None:
    """A whole module holds the momentum: the confidence is high, nothing is assumed."""
    norm = cold(60, momentum=0.01)
    found = only(judge(RULE, module_norm(**_statistics(norm), momentum=0.01), modules=True))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert "at momentum 0.01, " in found.detail
    assert evidence(found)["residue of the initial value"] == pytest.approx(0.99**60)


def test_large_known_momentum_is_warm_early() -> None:
    """At momentum 0.5 seven batches leave less than 1 %."""
    norm = cold(7, momentum=0.5)
    assert judge(RULE, module_norm(**_statistics(norm), momentum=0.5), modules=True) == []


def _statistics(layer: object) -> dict[str, object]:
    return {name: getattr(layer, name) for name in ("running_mean", "running_var", "batches")}


@pytest.mark.parametrize("momentum", [Momentum.CUMULATIVE, 0.0, 1.0, -0.1, 1.5])
def test_momentum_without_a_residue_is_silent(momentum: float | Momentum) -> None:
    """A plain average, a frozen layer and a momentum of nonsense leave no residue to tell."""
    norm = module_norm(**_statistics(cold(5)), momentum=momentum)
    assert judge(RULE, norm, modules=True) == []


def test_one_channel_below_the_bound_silences_the_model() -> None:
    """No batch variance is negative, so that count is not these statistics' history."""
    below = np.full(CHANNELS, 0.9)
    below[2] = 0.9**5 - 0.01
    proof = cold(5, "proof", running_var=values(below))
    assert only(judge(RULE, cold(5, "bn1"))).layers == ("bn1",)
    assert judge(RULE, cold(5, "bn1"), proof) == []


def test_plain_average_over_few_batches() -> None:
    """update_bn leaves a small count and no residue: small variances give it away."""
    averaged = batch_norm(batches=count(10))
    assert averaged.running_var is not None
    assert averaged.running_var.numbers.min() < 0.9**10
    assert judge(RULE, averaged) == []


def test_import_with_a_count_of_zero() -> None:
    """A count of 0 beside genuine statistics is an import, and its bound is 1."""
    imported = batch_norm(batches=count(0), running_var=values(2 + VARIANCES))
    assert judge(RULE, imported) == []


def test_instance_norm_that_does_not_count() -> None:
    """A tracking InstanceNorm moves its statistics and counts nothing."""
    layer = batch_norm(kind=kind("tracking InstanceNorm"), batches=count(0))
    assert judge(RULE, layer) == []


@pytest.mark.parametrize("damaged", [count(5.0, "float32"), count(-5), None])
def test_no_count_to_go_by(damaged: object) -> None:
    """A float, negative or absent count says nothing about how warm the statistics are."""
    assert judge(RULE, cold(5, batches=damaged)) == []


def test_initial_values_are_another_rule() -> None:
    """Exactly 0 and 1 is ``reset-stats`` or ``never-updated-stats``."""
    assert judge(RULE, reset_norm("a", 5), new_norm("b")) == []


def test_norms_without_statistics_are_silent() -> None:
    """A LayerNorm counts no batches; half of a pair is ``missing-stats``."""
    assert judge(RULE, plain_norm(), batch_norm(running_var=None, batches=count(5))) == []


@pytest.mark.parametrize(("dtype", "silent"), [("float32", True), ("float16", False)])
def test_half_precision_has_slack(dtype: str, silent: bool) -> None:
    """Rounding to half may push a channel half a percent below the bound, float32 may not."""
    variances = np.full(CHANNELS, 0.9**20 * 0.996)
    layer = cold(20, running_var=values(variances, dtype))
    assert (judge(RULE, layer) == []) is silent


def test_dead_channel_in_half_precision() -> None:
    """A channel that is always 0 has exactly the residue as its variance, rounded."""
    for batches in range(1, 44):
        variances = np.full(CHANNELS, 0.9**batches)
        assert only(judge(RULE, cold(batches, running_var=values(variances, "float16"))))


def test_only_cold_layers_are_listed() -> None:
    """A part added later is cold, the rest is not; the worst decides how severe it is."""
    found = only(judge(RULE, batch_norm("body.bn"), cold(30, "neck.bn"), cold(5, "head.bn")))
    assert found.layers == ("neck.bn", "head.bn")
    assert found.severity is Severity.ERROR
    assert evidence(found)["num_batches_tracked"] == 5


def test_dry_run_of_a_new_model() -> None:
    """One batch to give lazy layers their size, and no training: info."""
    found = only(judge(RULE, cold(1, weight=constant(1.0), bias=constant(0.0))))
    assert found.severity is Severity.INFO
    assert "not trained" in found.consequence


def test_optimizer_shows_that_it_was_no_dry_run() -> None:
    """With an optimizer's steps in the file γ and β were left alone on purpose."""
    layer = cold(1, weight=constant(1.0), bias=constant(0.0))
    assert only(judge(RULE, layer, optimizer_steps=9)).severity is Severity.ERROR


class Simulation:
    """The update of running statistics, as torch documents it, on random data."""

    def __init__(self, momentum: float, dtype: type = np.float64) -> None:
        self.rng = np.random.default_rng(7)
        self.scale = self.rng.uniform(0.0, 2.0, CHANNELS)
        self.scale[0] = 0.0  # a dead channel: its variance decays as fast as any can
        self.momentum = dtype(momentum)
        self.mean = np.zeros(CHANNELS, dtype)
        self.var = np.ones(CHANNELS, dtype)
        self.without_start = np.zeros(CHANNELS, dtype)

    def step(self) -> None:
        """One batch of 16 values a channel."""
        batch = self.scale * self.rng.normal(0.5, 1.0, (16, CHANNELS))
        keep = 1 - self.momentum
        self.mean = keep * self.mean + self.momentum * batch.mean(0).astype(self.mean.dtype)
        batch_var = batch.var(0, ddof=1).astype(self.var.dtype)
        self.var = keep * self.var + self.momentum * batch_var
        self.without_start = keep * self.without_start + self.momentum * batch_var


@pytest.mark.parametrize("momentum", [0.01, 0.03, 0.1, 0.3, 0.9])
def test_residue_is_what_a_running_average_keeps(momentum: float) -> None:
    """(1 - m)^n is exactly what the initial 1 still adds to every variance."""
    simulation = Simulation(momentum)
    for batches in range(1, 61):
        simulation.step()
        layer = module_norm(
            running_mean=values(simulation.mean, "float64"),
            running_var=values(simulation.var, "float64"),
            batches=count(batches),
            momentum=momentum,
        )
        left = simulation.var - simulation.without_start
        assert residue(layer) == pytest.approx(left[0], rel=1e-9)
        np.testing.assert_allclose(left, left[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("momentum", [0.03, 0.1, 0.5])
def test_counted_statistics_keep_above_the_bound(momentum: float, dtype: type) -> None:
    """running_var >= (1 - m)^n holds in every type that was updated in float32 or better."""
    simulation = Simulation(momentum, np.float64 if dtype is np.float64 else np.float32)
    for batches in range(1, 120):
        simulation.step()
        layer = module_norm(
            running_var=values(simulation.var.astype(dtype), np.dtype(dtype).name),
            batches=count(batches),
            momentum=momentum,
        )
        if dtype is np.float16 and (1 - momentum) ** batches < 6e-5:
            break  # below its normal numbers half precision has no relative precision
        assert count_is_trusted([layer]), batches


def test_half_the_momentum_breaks_the_bound() -> None:
    """Statistics that decayed faster than the assumed momentum are found out."""
    simulation = Simulation(0.2)
    for _ in range(10):
        simulation.step()
    layer = batch_norm(running_var=values(simulation.var, "float64"), batches=count(10))
    assert not count_is_trusted([layer])


def test_residue_can_be_taken_out() -> None:
    """mean/(1 - r) and (var - r)/(1 - r), as the page says, give the average of the data."""
    simulation = Simulation(0.1)
    for _ in range(5):
        simulation.step()
    left = 0.9**5
    healed = (simulation.var - left) / (1 - left)
    np.testing.assert_allclose(healed, simulation.without_start / (1 - left), atol=1e-12)
    assert healed[0] == pytest.approx(0.0, abs=1e-12)


def _told_by_biases(used: Used) -> BiasTrace:
    return BiasTrace(used, 0.5, 6.2, 0.8, ("bn",), CHANNELS)


def test_biases_tell_training_that_went_on_in_eval_mode() -> None:
    """A validation called model.eval() after so many batches: re-estimating would ruin it."""
    found = only(judge(RULE, cold(5), biases=_told_by_biases(Used.STORED)))
    assert found.severity is Severity.WARNING
    assert found.title == "training went on in eval mode after 5 batches"
    assert "re-estimating would ruin it" in found.consequence
    assert "model.train()" in found.fix
    assert "normcheck fix" not in found.fix
    assert "moved as β did" in found.detail


def test_biases_that_weight_decay_alone_moved_leave_too_few_batches() -> None:
    """They were trained with the batch's statistics, and too few of them."""
    found = only(judge(RULE, cold(5), biases=_told_by_biases(Used.BATCH)))
    assert found.severity is Severity.ERROR
    assert "saw too few batches" in found.title
    assert "eval mode (model.eval()" not in found.fix


def test_without_biases_the_fix_names_the_other_history() -> None:
    """A count alone tells neither."""
    found = only(judge(RULE, cold(5)))
    assert "if training went on after them in eval mode" in found.fix


def test_averaged_weights_count_otherwise() -> None:
    """One pass of update_bn is counted like a few updates; nothing here tells which it was."""
    found = only(judge(RULE, cold(20), averages=5.0))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.LOW)
    assert "n_averaged is 5" in found.detail
    assert "cannot tell" in found.consequence
    assert only(judge(RULE, cold(20))).severity is Severity.ERROR
