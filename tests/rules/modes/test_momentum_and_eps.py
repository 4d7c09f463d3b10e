"""NC206 and NC210: two numbers of the configuration that ruin a layer."""

import pytest

from normcheck.findings import Confidence, Finding, Severity
from normcheck.norms.layer import Momentum, NormLayer
from tests.rules.layers import (
    GAMMAS,
    VARIANCES,
    constant,
    count,
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


def with_momentum(*momenta: float | Momentum | None, **changes: object) -> list[Finding]:
    layers = [module_norm(f"bn{i}", momentum=m, **changes) for i, m in enumerate(momenta)]
    return judge("NC206", *layers)


@pytest.mark.parametrize("momentum", [0.9, 0.99, 0.997, 1.0])
def test_convention_of_another_framework(momentum: float) -> None:
    """Keras's 0.99 keeps one percent here: a warning that says which momentum was meant."""
    found = only(with_momentum(momentum, 0.1))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("bn0",)
    assert f"momentum {momentum:g} in 1 layer" in found.title
    assert "Keras counts the other way round" in found.detail
    assert "batch happened to come last" in found.consequence
    assert evidence(found) == {"momentum": momentum}
    assert thresholds(found) == {"momentum": 0.9}
    assert f"use momentum {max(1 - momentum, 0.01):.2g} " in found.fix


def test_one_batch_is_enough_for_the_momentum_to_act() -> None:
    """After the first batch the statistics are already that batch's."""
    assert only(with_momentum(0.99, batches=count(1))).severity is Severity.WARNING


@pytest.mark.parametrize("momentum", [0.5, 0.7, 0.899])
def test_large_but_not_confused(momentum: float) -> None:
    """From one half on the last batch outweighs all before it: info."""
    found = only(with_momentum(momentum))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.MEDIUM)
    assert thresholds(found) == {"momentum": 0.5}


@pytest.mark.parametrize("momentum", [0.001, 0.01, 0.03, 0.1, 0.4999])
def test_usual_momenta_are_silent(momentum: float) -> None:
    """EfficientNet's 0.01 and YOLO's 0.03 are choices, not mistakes."""
    assert with_momentum(momentum) == []


@pytest.mark.parametrize("unknown", [None, Momentum.CUMULATIVE])
def test_no_momentum_is_silent(unknown: Momentum | None) -> None:
    """A plain average has none, a state dict does not tell."""
    assert with_momentum(unknown) == []


def test_imported_weights() -> None:
    """No batch was counted: another framework's statistics, untouched by the momentum: info."""
    found = only(with_momentum(0.997, 0.997, batches=count(0)))
    assert found.severity is Severity.INFO
    assert "no batch was counted" in found.consequence


def test_new_model() -> None:
    """A model that never ran has nothing that the momentum could have ruined: info."""
    fresh = {"running_mean": constant(0.0), "running_var": constant(1.0), "batches": count(0)}
    assert only(with_momentum(0.99, **fresh)).severity is Severity.INFO


def test_count_absent() -> None:
    """Without a count the momentum may well have acted: a warning."""
    assert only(with_momentum(0.99, batches=None)).severity is Severity.WARNING


def test_instance_norm_acts_without_counting() -> None:
    """A tracking InstanceNorm counts nothing and moves its statistics all the same."""
    moved = {"kind": kind("tracking InstanceNorm"), "batches": count(0)}
    assert only(with_momentum(0.99, **moved)).severity is Severity.WARNING
    start = {"running_mean": constant(0.0), "running_var": constant(1.0)}
    assert only(with_momentum(0.99, **moved, **start)).severity is Severity.INFO


def test_momentum_zero_in_train_mode() -> None:
    """Train mode that updates nothing: info, as a layer is frozen that way too."""
    found = only(with_momentum(0.0, training=True))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.MEDIUM)
    assert found.title == "momentum is 0 in 1 layer"
    assert found.discriminator == "zero"


def test_momentum_zero_in_eval_mode_is_silent() -> None:
    """An import into a frozen layer, as it should be."""
    assert with_momentum(0.0, training=False) == []


def test_large_and_zero_are_two_findings() -> None:
    """Their fixes are opposite."""
    assert [f.layers for f in with_momentum(0.99, 0.0, training=True)] == [("bn0",), ("bn1",)]


def test_layers_without_tracking_are_silent() -> None:
    """A momentum that nothing uses, and layers that have none."""
    assert with_momentum(0.99, 0.0, track_running_stats=False, training=True) == []
    assert judge("NC206", plain_norm(), frozen_norm(momentum=0.99)) == []


def with_eps(eps: float | None, dtype: str = "float32", **changes: object) -> NormLayer:
    """A norm of a whole module with this eps, all of one type."""
    return module_norm(
        eps=eps,
        **{
            "weight": values(GAMMAS, dtype),
            "running_var": values(VARIANCES, dtype),
            **changes,
        },
    )


@pytest.mark.parametrize(
    ("eps", "dtype", "smallest"),
    [
        (0.0, "float32", 1.4e-45),
        (-1e-5, "float32", 1.4e-45),
        (1e-12, "float16", 6e-8),
        (1e-8, "float16", 6e-8),
        (1e-42, "bfloat16", 9.2e-41),
        (0.0, "bfloat16", 9.2e-41),
    ],
)
def test_eps_that_vanishes(eps: float, dtype: str, smallest: float) -> None:
    """Zero, negative, or below the smallest number of the type: info, torch uses float32."""
    found = only(judge("NC210", with_eps(eps, dtype)))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.LOW)
    assert f"eps {eps:g} vanishes in 1 layer" in found.title
    assert found.detail.startswith("The smallest number of their type is ")
    assert evidence(found) == {"eps": eps}
    assert thresholds(found)["eps"] == pytest.approx(smallest, rel=0.01)


@pytest.mark.parametrize(
    ("eps", "dtype"),
    [(1e-5, "float16"), (1e-6, "float16"), (1e-12, "float32"), (1e-12, "bfloat16")],
)
def test_eps_that_protects(eps: float, dtype: str) -> None:
    """BERT's 1e-12 is a number in float32 and bfloat16; 1e-6 is one in half precision."""
    assert judge("NC210", with_eps(eps, dtype)) == []


def test_division_by_zero_already_there() -> None:
    """A variance that eps cannot lift above zero is an error."""
    dead = values([0.0, *VARIANCES[1:]])
    found = only(judge("NC210", with_eps(0.0, running_var=dead)))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert found.detail == "A running variance plus eps is not above zero."
    assert "divided by zero" in found.consequence


def test_negative_eps_over_a_small_variance() -> None:
    """Variance plus eps below zero is the same error."""
    small = values([1e-6, *VARIANCES[1:]])
    assert only(judge("NC210", with_eps(-1e-5, running_var=small))).severity is Severity.ERROR


def test_dead_channel_in_half_precision_is_no_division_by_zero() -> None:
    """1e-12 in half vanishes, but torch adds it in float32: info."""
    dead = values([0.0, *VARIANCES[1:]], "float16")
    found = only(judge("NC210", with_eps(1e-12, "float16", running_var=dead)))
    assert found.severity is Severity.INFO


def test_negative_variances_are_another_rule() -> None:
    """A negative variance is no fault of eps."""
    negative = values([-1.0, *VARIANCES[1:]])
    assert judge("NC210", with_eps(1e-5, running_var=negative)) == []
    assert only(judge("NC210", with_eps(0.0, running_var=negative))).severity is Severity.INFO


def test_harm_and_risk_are_two_findings() -> None:
    """A layer that divides by zero is not hidden among those that might."""
    fatal = with_eps(0.0, running_var=constant(0.0))
    error, info = judge("NC210", plain_norm("rms", "RMSNorm", eps=0.0), fatal)
    assert (error.severity, error.layers) == (Severity.ERROR, ("bn",))
    assert (info.severity, info.layers) == (Severity.INFO, ("rms",))


def test_norms_without_an_eps_are_silent() -> None:
    """None is unknown, not zero."""
    assert judge("NC210", with_eps(None), plain_norm()) == []


def test_the_type_of_the_parameters_counts() -> None:
    """γ's type where there is a γ, that of the statistics where there is none."""
    mixed = with_eps(1e-12, "float16", running_var=values(VARIANCES))
    assert only(judge("NC210", mixed)).severity is Severity.INFO
    assert judge("NC210", with_eps(1e-12, running_var=values(VARIANCES, "float16"))) == []
    bare = with_eps(1e-12, "float16", weight=None, bias=None)
    assert only(judge("NC210", bare)).severity is Severity.INFO


def test_norm_without_numbers_of_its_own() -> None:
    """Without parameters there is no type: only zero and below vanish."""
    bare = {"weight": None, "bias": None}
    assert judge("NC210", plain_norm(eps=1e-300, **bare)) == []
    assert only(judge("NC210", plain_norm(eps=0.0, **bare))).severity is Severity.INFO
