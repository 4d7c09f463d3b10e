"""Signs of training, in one layer and in a file."""

import numpy as np
import pytest

from normcheck.norms.layer import NormLayer
from normcheck.rules.evidence.signs_of_training import (
    affine_as_drawn,
    affine_untouched,
    never_trained,
)
from normcheck.rules.rule import Subject
from tests.rules.layers import batch_norm, constant, model, new_norm, plain_norm, reset_norm, values


def subject(*layers: NormLayer, steps: int | None = None) -> Subject:
    return Subject(model(*layers), optimizer_steps=steps)


@pytest.mark.parametrize(
    ("layer", "untouched"),
    [
        (new_norm(), True),
        (new_norm(weight=constant(0.0)), True),
        (new_norm(weight=constant(0.93)), True),
        (new_norm(bias=None), True),
        (new_norm(weight=values([1.0, 0.9])), False),
        (new_norm(weight=values([1.0, 0.9]), bias=None), False),
        (new_norm(bias=values([0.0, 1e-9])), False),
        (new_norm(weight=None, bias=None), False),
        (new_norm(weight=None), True),
        (new_norm(weight=None, bias=values([0.0, 1e-9])), False),
        (new_norm(weight=values([]), bias=values([])), False),
    ],
)
def test_signs_of_training_in_one_layer(layer: NormLayer, untouched: bool) -> None:
    """One γ for all channels and a β of zero; without γ nothing can be said."""
    assert affine_untouched(layer) is untouched


@pytest.mark.parametrize(
    ("layers", "never"),
    [
        ([new_norm(), new_norm("b")], True),
        ([new_norm(weight=values([0.98, 1.03]))], True),
        ([plain_norm("rms", "RMSNorm", weight=constant(1.0), bias=None)], True),
        ([plain_norm("rms", "RMSNorm", bias=None)], False),
        ([new_norm(), batch_norm("b")], False),
        ([new_norm(), plain_norm("ln")], False),
        ([new_norm(weight=None, bias=None)], True),
        ([batch_norm(weight=None, bias=None)], False),
        ([reset_norm(), new_norm("bare", weight=None, bias=None)], False),
        ([plain_norm(weight=None, bias=None)], False),
        ([], False),
    ],
)
def test_signs_of_training_in_a_model(layers: list[NormLayer], never: bool) -> None:
    """Any β that moved is a sign; where there is no β, γ; where there is no γ, statistics."""
    assert never_trained(subject(*layers)) is never


def test_steps_of_an_optimizer_are_training() -> None:
    """Even where no norm shows it."""
    assert not never_trained(subject(new_norm(), steps=1))
    assert never_trained(subject(new_norm(), steps=None))


@pytest.mark.parametrize("channels", [16, 64, 512])
def test_gains_as_initialisations_draw_them(channels: int) -> None:
    """Both drawn kinds pass nearly always; 40 seeds, of which 1 % is expected to fall out."""
    rng = np.random.default_rng(channels)
    uniform = [new_norm(weight=values(rng.random(channels))) for _ in range(40)]
    normal = [new_norm(weight=values(rng.normal(1, 0.02, channels))) for _ in range(40)]
    assert sum(map(affine_as_drawn, uniform)) >= 37
    assert sum(map(affine_as_drawn, normal)) >= 37
    assert sum(map(affine_untouched, uniform)) >= 37


@pytest.mark.parametrize("channels", [64, 512])
def test_trained_gains_beside_a_frozen_shift_are_not_drawn(channels: int) -> None:
    """β frozen at 0 and γ trained: of other spreads and means than any initialisation."""
    rng = np.random.default_rng(channels)
    draws = [
        *(np.abs(rng.normal(1, 0.1, channels)) for _ in range(20)),
        *(rng.gamma(4, 0.1, channels) for _ in range(20)),
        *(rng.random(channels) * 0.6 for _ in range(20)),
        *(rng.random(channels) + 0.3 for _ in range(20)),
    ]
    assert not any(affine_untouched(new_norm(weight=values(gamma))) for gamma in draws)


def test_few_or_broken_gains_say_nothing() -> None:
    """Eight numbers between 0 and 1 may as well be trained; NaN follows no distribution."""
    assert not affine_as_drawn(new_norm(weight=values(np.linspace(0.1, 0.9, 8))))
    assert not affine_as_drawn(new_norm(weight=values([np.nan, *np.linspace(0.1, 0.9, 20)])))
    assert not affine_as_drawn(new_norm(weight=None))
