"""NC101: running statistics at 0 and 1 that no batch was counted for."""

import numpy as np
import pytest

from normcheck.findings import Confidence, Severity
from normcheck.norms.traces.bias_trace import BiasTrace
from normcheck.norms.traces.gradient_trace import GradientTrace, Used
from tests.rules.layers import (
    CHANNELS,
    GAMMAS,
    batch_norm,
    constant,
    copy_of,
    count,
    evidence,
    frozen_norm,
    judge,
    kind,
    new_norm,
    only,
    plain_norm,
    reset_norm,
    thresholds,
    values,
)

RULE = "never-updated-stats"


def test_trained_model_without_statistics() -> None:
    """Trained γ and β over 0/1: a warning that names both histories, and all layers at once."""
    found = only(judge(RULE, *(reset_norm(f"bn{i}") for i in range(3))))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("bn0", "bn1", "bn2")
    assert found.title == "3 batch norm layers were never updated"
    assert "lost" in found.consequence
    assert "trained in eval mode throughout" in found.consequence
    assert "cannot tell" in found.consequence
    assert f"all {3 * CHANNELS} channels after 0 batches" in found.detail
    assert evidence(found) == {
        "running_mean in every channel": 0.0,
        "running_var in every channel": 1.0,
        "num_batches_tracked": 0.0,
    }
    assert thresholds(found) == evidence(found)


def test_new_model() -> None:
    """γ 1 and β 0 as well: a model that was never trained, which is info."""
    found = only(judge(RULE, new_norm("bn1"), new_norm("bn2")))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.MEDIUM)
    assert found.layers == ("bn1", "bn2")
    assert "never trained" in found.title
    assert "γ is 1 and β 0 as well" in found.detail
    assert found.consequence.startswith("A freshly initialised model")


@pytest.mark.parametrize(
    "gamma",
    [constant(0.0), constant(0.5), values(np.random.default_rng(0).normal(1, 0.02, CHANNELS))],
    ids=["zero-initialised residual block", "damped", "DCGAN"],
)
def test_new_model_with_another_initialisation(gamma: object) -> None:
    """γ is not always initialised to 1; β is the witness, and here it says: not trained."""
    found = only(judge(RULE, new_norm("bn1", weight=gamma), new_norm("bn2")))
    assert found.severity is Severity.INFO
    assert found.layers == ("bn1", "bn2")
    assert "show no training either" in found.detail


def test_new_model_that_was_pruned() -> None:
    """Some γ masked to 0, no β moved: pruning is no training."""
    masked = values([1.0, 0.0] * (CHANNELS // 2))
    assert only(judge(RULE, new_norm(weight=masked))).severity is Severity.INFO


def test_new_layer_in_a_trained_model() -> None:
    """A fresh head beside layers that counted: info, and only the fresh layer."""
    found = only(judge(RULE, batch_norm("body.bn"), new_norm("head.bn")))
    assert (found.severity, found.layers) == (Severity.INFO, ("head.bn",))
    assert "new or unused" in found.consequence


@pytest.mark.parametrize("seed", range(5))
def test_layer_that_nobody_calls_in_an_old_model(seed: int) -> None:
    """PyTorch before 1.2 drew γ between 0 and 1: with β at 0 it is no sign of training."""
    drawn = values(np.random.default_rng(seed).random(128))
    unused = new_norm("bn2", weight=drawn, bias=values(np.zeros(128)))
    found = only(judge(RULE, batch_norm("bn1"), unused))
    assert (found.severity, found.layers) == (Severity.INFO, ("bn2",))
    lost = new_norm("bn2", weight=values(drawn.numbers + 0.5), bias=values(np.zeros(128)))
    found = only(judge(RULE, batch_norm("bn1"), lost))
    assert (found.severity, found.layers) == (Severity.ERROR, ("bn2",))


def test_branch_that_no_input_took() -> None:
    """A domain's norm that never ran, shrunk by weight decay alone, is no lost one."""
    decayed = new_norm("norms.2", weight=constant(0.97))
    found = only(judge(RULE, batch_norm("norms.0"), batch_norm("norms.1"), decayed))
    assert (found.severity, found.layers) == (Severity.INFO, ("norms.2",))


def test_new_and_trained_layers_are_two_findings() -> None:
    """What was trained and what was not have different causes."""
    first, second = judge(RULE, reset_norm("bn1"), new_norm("bn2"))
    assert (first.severity, first.layers) == (Severity.WARNING, ("bn1",))
    assert (second.severity, second.layers) == (Severity.INFO, ("bn2",))


def test_copy_with_real_statistics() -> None:
    """Raw weights without statistics beside an EMA copy that has them: an error."""
    siblings = (copy_of("ema", batch_norm("bn1"), batch_norm("bn2")),)
    found = only(judge(RULE, reset_norm("bn1"), reset_norm("bn2"), siblings=siblings))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert "copy under 'ema'" in found.detail
    assert "if the statistics were lost" not in found.fix  # they were: nothing is left open
    assert "were lost" in found.consequence
    assert found.fix.startswith("use the copy under 'ema', or re-estimate")


def test_an_average_that_a_callback_keeps() -> None:
    """Lightning's StochasticWeightAveraging collects its statistics when the training ends."""
    where = "callbacks.StochasticWeightAveraging.average_model_state"
    siblings = (copy_of("state_dict", batch_norm("bn1")),)
    found = only(judge(RULE, reset_norm("bn1"), where=where, siblings=siblings))
    assert found.severity is Severity.INFO
    assert "no model to predict with" in found.consequence
    alone = only(judge(RULE, reset_norm("bn1"), where=where))
    assert alone.severity is Severity.WARNING


def test_copy_below_data_parallel() -> None:
    """``module.`` in one of the copies does not hide the other."""
    siblings = (copy_of("ema", batch_norm("bn1")),)
    found = only(judge(RULE, reset_norm("module.bn1"), siblings=siblings))
    assert found.severity is Severity.ERROR


@pytest.mark.parametrize(
    "copy",
    [
        copy_of("ema", reset_norm("bn1")),
        copy_of("ema", plain_norm("bn1")),
        copy_of("discriminator", batch_norm("bn2")),
        copy_of("discriminator", batch_norm("bn1", features=2 * CHANNELS)),
    ],
    ids=["also at 0/1", "parameters only", "other names", "another size"],
)
def test_other_models_that_prove_nothing(copy: object) -> None:
    """A second model is a witness only with statistics for the same layers."""
    found = only(judge(RULE, reset_norm("bn1"), siblings=(copy,)))
    assert found.severity is Severity.WARNING


def test_other_layers_counted() -> None:
    """The rest ran in train mode, these trained layers did not: an error."""
    found = only(judge(RULE, batch_norm("a.bn"), reset_norm("b.bn"), batch_norm("c.bn")))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert found.layers == ("b.bn",)
    assert "other 2 layers counted up to 1,000 batches" in found.detail


@pytest.mark.parametrize("counted", [count(0), None])
def test_other_layers_were_imported(counted: object) -> None:
    """Genuine statistics that were never counted do not show that the rest ran: a warning."""
    found = only(judge(RULE, batch_norm("a.bn", batches=counted), reset_norm("b.bn")))
    assert (found.severity, found.layers) == (Severity.WARNING, ("b.bn",))


def test_no_count_stored() -> None:
    """Without a count it may be folded statistics: a warning at the most, and said so."""
    found = only(judge(RULE, reset_norm(batches=None)))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert "no batch count stored" in found.detail
    assert evidence(found)["num_batches_tracked"] == "absent"


def test_no_count_stored_beside_counted_layers() -> None:
    """Folded norms beside live ones: not even then an error, and less sure."""
    found = only(judge(RULE, batch_norm("bn1"), reset_norm("bn2", batches=None)))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.MEDIUM)


def test_frozen_batch_norm_is_silent() -> None:
    """FrozenBatchNorm with statistics folded into γ and β is how detection models are made."""
    at_start = {"running_mean": constant(0.0), "running_var": constant(1.0)}
    assert judge(RULE, frozen_norm("body.bn1", **at_start), plain_norm("head")) == []


def test_zero_count_beside_genuine_statistics_is_silent() -> None:
    """Converted weights count no batches and have statistics all the same."""
    large = values(np.linspace(-3.0, 531.0, CHANNELS))
    assert judge(RULE, batch_norm(batches=count(0), running_mean=large)) == []


@pytest.mark.parametrize("last_bit", [np.nextafter(np.float32(1), np.float32(0)), 1 + 2.0**-23])
def test_one_moved_channel_is_silent(last_bit: float) -> None:
    """Equality without a tolerance: a single last bit shows an update."""
    moved = [1.0] * CHANNELS
    moved[3] = float(last_bit)
    assert judge(RULE, reset_norm(running_var=values(moved))) == []
    assert judge(RULE, reset_norm(running_mean=values([0.0, 1e-45] * 4))) == []


def test_counted_batches_are_another_rule() -> None:
    """0/1 with a count above zero is ``reset-stats``."""
    assert judge(RULE, reset_norm("a", batches=7), reset_norm("b", batches=1)) == []


def test_untouched_affine_with_an_optimizer_stays_info() -> None:
    """An optimizer's steps do not show that these layers took part."""
    found = only(judge(RULE, new_norm(), optimizer_steps=500))
    assert found.severity is Severity.INFO


def test_steps_of_the_optimizer_are_told() -> None:
    """Steps in the same file are a witness that the model was trained."""
    found = only(judge(RULE, reset_norm(), optimizer_steps=12_500))
    assert "12,500 steps" in found.detail


def test_norm_without_affine() -> None:
    """No γ and β: info by itself, part of the loss beside trained layers or an optimizer."""
    bare = new_norm("bare", weight=None, bias=None)
    alone = only(judge(RULE, bare))
    assert alone.severity is Severity.INFO
    assert "no γ and β" in alone.detail
    stepped = only(judge(RULE, bare, optimizer_steps=10))
    assert stepped.severity is Severity.WARNING
    assert "the model around them was trained" in stepped.detail
    both = only(judge(RULE, bare, reset_norm("bn")))
    assert (both.severity, both.layers) == (Severity.WARNING, ("bare", "bn"))


def test_norm_without_affine_in_a_model_of_trained_layer_norms() -> None:
    """Trained norms of another kind do not show that the untouched ones took part: info."""
    layers = [new_norm("bn"), new_norm("bare", weight=None, bias=None), plain_norm("ln")]
    found = only(judge(RULE, *layers))
    assert (found.severity, found.layers) == (Severity.INFO, ("bn", "bare"))
    assert "γ is 1 and β 0 as well" in found.detail


def test_norm_with_a_frozen_beta() -> None:
    """γ trained and β kept at 0, as in a BNNeck, is training where other layers show it."""
    neck = reset_norm("neck", bias=constant(0.0), weight=values(GAMMAS))
    found = only(judge(RULE, reset_norm("bn"), neck))
    assert (found.severity, found.layers) == (Severity.WARNING, ("bn", "neck"))


def test_norms_without_statistics_are_not_concerned() -> None:
    """LayerNorm, GroupNorm, RMSNorm and InstanceNorm keep nothing to lose."""
    names = ("LayerNorm", "GroupNorm", "RMSNorm", "InstanceNorm2d")
    assert judge(RULE, *(plain_norm(f"n{i}", name) for i, name in enumerate(names))) == []


def test_tracking_instance_norm_and_custom_norms_are_concerned() -> None:
    """Whatever keeps running statistics can lose them."""
    layers = [
        reset_norm("in", kind=kind("tracking InstanceNorm")),
        reset_norm("own", kind=kind("custom norm")),
    ]
    assert only(judge(RULE, *layers)).layers == ("in", "own")


def told_by_biases(used: Used, **changes: float) -> BiasTrace:
    numbers = {"correlation": 0.5, "errors": 6.2, "spread": 0.8, **changes}
    return BiasTrace(used, **numbers, layers=("bn1", "bn2"), channels=2 * CHANNELS)


def test_biases_that_moved_with_beta() -> None:
    """Without an optimizer the weights alone can tell that the model was trained in eval mode."""
    found = only(
        judge(RULE, reset_norm("bn1"), reset_norm("bn2"), biases=told_by_biases(Used.STORED))
    )
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert found.title == "2 batch norm layers were trained in eval mode throughout"
    assert "rank correlation 0.50, in 16 channels 6.2 standard errors" in found.detail
    assert "model.train()" in found.fix
    assert evidence(found)["biases rank channels as β, standard errors"] == 6.2


def test_biases_that_decay_took() -> None:
    """Nothing but decay acted on them: the norms used batch statistics, and theirs were lost."""
    trace = told_by_biases(Used.BATCH, correlation=0.02, errors=0.1, spread=2e-4)
    found = only(judge(RULE, reset_norm("bn1"), reset_norm("bn2"), biases=trace))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert "lost after training" in found.consequence
    assert "normcheck fix" in found.fix


def test_optimizer_before_biases() -> None:
    """The last steps decide where an optimizer shows them."""
    found = only(
        judge(
            RULE,
            reset_norm("bn1"),
            trace=GradientTrace(Used.BATCH, (1e-5,)),
            biases=told_by_biases(Used.STORED),
        )
    )
    assert "lost after training" in found.consequence


def test_copy_before_biases() -> None:
    """A copy with real statistics settles it."""
    found = only(
        judge(
            RULE,
            reset_norm("bn1"),
            siblings=(copy_of("ema", batch_norm("bn1")),),
            biases=told_by_biases(Used.STORED),
        )
    )
    assert found.severity is Severity.ERROR
