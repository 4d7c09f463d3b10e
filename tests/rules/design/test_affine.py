"""NC501, NC503 and NC506: γ and β that are broken, untouched or something else."""

import numpy as np
import pytest

from normcheck.findings import Confidence, Severity
from normcheck.norms.layer import NormLayer
from tests.rules.layers import (
    BETAS,
    GAMMAS,
    batch_norm,
    constant,
    evidence,
    frozen_norm,
    judge,
    kind,
    new_norm,
    only,
    plain_norm,
    thresholds,
    values,
)

NAN, INF = float("nan"), float("inf")


def test_nan_in_the_affine_parameters() -> None:
    """NaN and infinity in γ and β are an error, counted together."""
    layers = [
        batch_norm("bn", weight=values([NAN, INF, *GAMMAS[2:]])),
        plain_norm("ln", bias=values([-INF, *BETAS[1:]])),
        plain_norm("fine", "GroupNorm"),
    ]
    found = only(judge("NC501", *layers))
    assert (found.severity, found.confidence) == (Severity.ERROR, Confidence.HIGH)
    assert found.layers == ("bn", "ln")
    assert found.detail == "3 values are not finite."
    assert evidence(found) == {"values not finite": 3.0}


def test_infinity_in_half_precision_is_reported_too() -> None:
    """An overflowed γ is infinite in both modes, whatever its type."""
    layer = plain_norm(weight=values([1e6, *GAMMAS[1:]], "float16"))
    assert only(judge("NC501", layer)).detail == "1 value is not finite."


def test_finite_extremes_are_silent() -> None:
    """Large, tiny and negative values are values; statistics are another rule's."""
    layers = [
        batch_norm("a", weight=values([3e38, -1e-45, 0.0]), bias=None),
        batch_norm("b", running_mean=constant(NAN)),
        batch_norm("c", weight=None, bias=None),
    ]
    assert judge("NC501", *layers) == []


def untouched(path: str = "still", **changes: object) -> NormLayer:
    """γ 1 and β 0 over genuine statistics."""
    return batch_norm(path, weight=constant(1.0), bias=constant(0.0), **changes)


def test_untouched_among_trained() -> None:
    """One layer stood still while others of its family moved: info."""
    found = only(judge("NC503", batch_norm("a"), untouched(), batch_norm("b")))
    assert (found.severity, found.confidence) == (Severity.INFO, Confidence.MEDIUM)
    assert found.layers == ("still",)
    assert evidence(found) == {"layers with untouched γ and β": 1.0}


def test_untouched_gain_without_beta() -> None:
    """An RMSNorm has no β; its γ alone decides."""
    ones = plain_norm("norm1", "RMSNorm", weight=constant(1.0), bias=None)
    moved = plain_norm("norm2", "RMSNorm", bias=None)
    assert only(judge("NC503", ones, moved)).layers == ("norm1",)


def test_offset_convention_starts_at_zero() -> None:
    """Where 1 is added to the weight, untouched is 0 and 1 is trained."""
    offset = {"kind": kind("RMSNorm (1 + weight)"), "unit_offset": True, "bias": None}
    still = plain_norm("norm1", **offset, weight=constant(0.0))
    moved = plain_norm("norm2", **offset, weight=constant(1.0))
    assert only(judge("NC503", still, moved)).layers == ("norm1",)


def test_wholly_untouched_model_is_silent() -> None:
    """Where nothing moved, the model is new or frozen: no odd one out."""
    assert judge("NC503", untouched("a"), untouched("b")) == []


def test_other_families_are_no_witness() -> None:
    """Trained LayerNorms say nothing of frozen batch norms beside them."""
    assert judge("NC503", untouched(), plain_norm("ln"), frozen_norm("f")) == []


def test_layers_that_never_ran_are_another_rule() -> None:
    """Statistics at 0 and 1 as well are ``never-updated-stats``."""
    assert judge("NC503", new_norm("new"), batch_norm("bn")) == []


@pytest.mark.parametrize(
    "moved", [{"weight": values([1.0, 1.0 + 2**-20])}, {"bias": values([1e-9, 0.0])}]
)
def test_any_movement_counts(moved: dict[str, object]) -> None:
    """Equality without a tolerance: one moved channel is training."""
    two = {"weight": constant(1.0, 2), "bias": constant(0.0, 2), **moved}
    assert judge("NC503", batch_norm("a"), batch_norm("b", **two)) == []


RNG = np.random.default_rng(3)
CENTRED = RNG.normal(0.0, 0.2, 64)
GAINS = RNG.normal(1.0, 0.1, 64)


def gains(path: str, numbers: np.ndarray = GAINS, **changes: object) -> NormLayer:
    """An RMSNorm of a numbered block."""
    return plain_norm(path, **{"kind": kind("RMSNorm"), "weight": values(numbers), **changes})


def test_gain_centred_on_zero_among_gains() -> None:
    """One layer with random signs where its siblings are positive: a warning."""
    layers = [gains(f"layers.{i}.norm") for i in range(3)]
    found = only(judge("NC506", *layers, gains("layers.3.norm", CENTRED)))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.MEDIUM)
    assert found.layers == ("layers.3.norm",)
    assert evidence(found)["share of positive values"] == pytest.approx(0.5, abs=0.2)
    assert thresholds(found) == {"share of positive values": 0.95}


def signed(positive: int, size: int) -> np.ndarray:
    """So many values above zero and the rest below."""
    return np.where(np.arange(size) < positive, 0.3, -0.3)


@pytest.mark.parametrize(
    ("odd", "sibling", "accused"),
    [
        (signed(26, 64), GAINS, True),
        (signed(8, 16), GAINS, True),
        (signed(8, 15), GAINS, False),
        (signed(44, 64), GAINS, True),
        (signed(46, 64), GAINS, False),
        (signed(18, 64), GAINS, False),
        (signed(26, 64), signed(61, 64), True),
        (signed(26, 64), signed(60, 64), False),
    ],
)
def test_what_counts_as_even_and_as_positive(
    odd: np.ndarray, sibling: np.ndarray, accused: bool
) -> None:
    """16 values, 30 to 70 % of them positive, among siblings of which 95 % are."""
    layers = [gains(f"layers.{i}.norm", sibling) for i in range(2)]
    found = judge("NC506", *layers, gains("layers.2.norm", odd))
    assert bool(found) is accused
    if accused:
        assert evidence(found[0])["share of positive values"] == pytest.approx((odd > 0).mean())


@pytest.mark.parametrize("nothing", [1e-3, 3e-5])
def test_gains_that_decay_took(nothing: float) -> None:
    """What lies on the other side of zero is next to nothing: half the gains are not needed."""
    left = np.where(np.arange(64) < 32, GAINS, np.linspace(-nothing, nothing, 64))
    layers = [gains(f"layers.{i}.norm") for i in range(3)]
    assert judge("NC506", *layers, gains("layers.3.norm", left)) == []
    assert judge("NC506", *layers, gains("layers.3.norm", np.linspace(-0.1, 0.1, 64))) != []


def test_siblings_centred_on_zero_too() -> None:
    """All centred on zero is the model's own convention: silent."""
    assert judge("NC506", *(gains(f"layers.{i}.norm", CENTRED) for i in range(4))) == []


def test_two_odd_ones_need_more_siblings() -> None:
    """Half and half is no odd one out: the odd must be few."""
    layers = [gains(f"layers.{i}.norm", CENTRED if i < 2 else GAINS) for i in range(5)]
    assert judge("NC506", *layers) == []
    more = [gains(f"layers.{i}.norm") for i in (5,)]
    assert only(judge("NC506", *layers, *more)).layers == ("layers.0.norm", "layers.1.norm")


def test_one_sibling_is_not_enough() -> None:
    """Two layers disagree, and nobody can say which is right."""
    assert judge("NC506", gains("layers.0.norm"), gains("layers.1.norm", CENTRED)) == []


def test_layers_of_another_name_are_no_siblings() -> None:
    """What q_norm learns says nothing of what the output norm does."""
    layers = [gains(f"layers.{i}.norm") for i in range(3)]
    assert judge("NC506", *layers, gains("layers.0.q_norm", CENTRED)) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"numbers": np.abs(CENTRED)},
        {"numbers": np.zeros(64)},
        {"numbers": np.array([NAN, *CENTRED[1:]])},
        {"unit_offset": True, "numbers": CENTRED},
        {"kind": kind("BatchNorm2d"), "numbers": CENTRED},
        {"kind": kind("InstanceNorm2d"), "numbers": CENTRED},
        {"kind": kind("custom norm"), "numbers": CENTRED},
        {"numbers": -GAINS},
    ],
    ids=[
        "positive",
        "zeros",
        "NaN",
        "1 + weight",
        "batch",
        "instance",
        "custom",
        "negative",
    ],
)
def test_what_is_no_misread_gain(changes: dict[str, object]) -> None:
    """Positive, short, zeroed and broken gains, and layers in which signs are free: silent."""
    layers = [gains(f"layers.{i}.norm") for i in range(3)]
    assert judge("NC506", *layers, gains("layers.3.norm", **changes)) == []


def _layer_norms(spreads: list[float], mean: float = 0.0, seed: int = 0) -> list[NormLayer]:
    """LayerNorms whose gains are drawn with these deviations."""
    rng = np.random.default_rng(seed)
    return [
        plain_norm(f"blocks.{i}.ln", weight=values(rng.normal(mean, s, 96)))
        for i, s in enumerate(spreads)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_gains_of_all_layers_drawn_around_zero(seed: int) -> None:
    """An initialisation that went through every parameter."""
    found = only(judge("NC506", *_layer_norms([0.02] * 4, seed=seed)))
    assert (found.discriminator, len(found.layers)) == ("drawn", 4)
    assert evidence(found)["deviation of the gains"] == pytest.approx(0.02, rel=0.1)


@pytest.mark.parametrize(
    "layers",
    [
        _layer_norms([0.02] * 4, mean=1.0),
        _layer_norms([0.1, 0.2, 0.4, 0.3]),
        _layer_norms([0.02] * 2),
        [gains(f"blocks.{i}.norm", RNG.normal(0, 0.02, 96), bias=None) for i in range(4)],
        [plain_norm(f"{i}", weight=values(np.tile(signed(48, 96), 1))) for i in range(4)],
    ],
    ids=["around 1", "trained around 0", "two layers", "RMSNorm", "not normal"],
)
def test_gains_that_were_not_drawn_around_zero(layers: list[NormLayer]) -> None:
    """Ordinary gains, a convention of 1 + weight that was trained, and too little to tell."""
    assert judge("NC506", *layers) == []


def test_work_grows_with_the_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers of a layer are looked at a few times, not once for every other layer."""
    looked = [0]
    original = NormLayer.affine_at_initial_values.fget
    assert original is not None

    def counted(self: NormLayer) -> bool:
        looked[0] += 1
        return bool(original(self))

    monkeypatch.setattr(NormLayer, "affine_at_initial_values", property(counted))
    ones = {"weight": constant(1.0), "bias": constant(0.0)}
    layers = [plain_norm(f"norm{number}", **ones) for number in range(300)]
    judge("NC503", *layers)
    assert looked[0] <= 3 * len(layers)
