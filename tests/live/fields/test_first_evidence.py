"""A first norm shows that its statistics are of the weights before it, or it does not."""

import pytest
import torch
from torch import Tensor, nn

from normcheck.live.fields.decisions import looked_at
from normcheck.live.fields.first_response import StoredFirst
from normcheck.live.fields.fitted_field import Field, likeliest_field, usual_field
from normcheck.live.fields.smooth_fields import Smoothness, smooth_fields
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes

pytestmark = [pytest.mark.slow, pytest.mark.kernels]

SHAPES = ((1, 8, 8), (3, 16, 16))
SEEDS = range(6)


def images(shape: tuple[int, int, int], seed: int) -> Tensor:
    """Of another smoothness than any that is tried, in other units, and not about 0."""
    return 3.0 * smooth_fields(64, shape, Smoothness(0.63, 0.7), seed) + 1.5


def stem(shape: tuple[int, int, int], seed: int) -> nn.Sequential:
    """A convolution and its norm, with statistics of such images."""
    torch.manual_seed(seed)
    conv, norm = nn.Conv2d(shape[0], 24, 3, padding=1, bias=False), nn.BatchNorm2d(24, momentum=1.0)
    with torch.no_grad():
        nn.Sequential(conv, norm).train()(images(shape, seed))
    return nn.Sequential(conv, norm)


def field_of(model: nn.Module, shape: tuple[int, int, int], *, doubted: bool) -> Field:
    regimes = Regimes(Forward(model.eval(), torch.device("cpu")), reachable(model), set())
    looked = looked_at(regimes, usual_field(shape).drawn(2, 0))
    assert looked.first is not None
    return likeliest_field(regimes, looked.collected, looked.first, shape, doubted=doubted)


@pytest.mark.parametrize("shape", SHAPES)
def test_its_own_statistics_are_believed(shape: tuple[int, int, int]) -> None:
    """However much is doubted; the field has the units of the images then."""
    for seed in SEEDS:
        found = field_of(stem(shape, seed), shape, doubted=True)
        assert found.fitted
        assert 2.0 < found.factor < 4.5
        assert all(1.0 < offset < 2.0 for offset in found.offsets)


@pytest.mark.parametrize("shape", SHAPES)
def test_those_of_other_weights_are_not(shape: tuple[int, int, int]) -> None:
    """Though a field fits some of them by accident, as it does where nothing is doubted."""
    by_accident = 0
    for seed in SEEDS:
        model, other = stem(shape, seed), stem(shape, seed + 100)
        model[1].load_state_dict(other[1].state_dict())
        assert not field_of(model, shape, doubted=True).fitted
        by_accident += field_of(model, shape, doubted=False).fitted
    assert by_accident


@pytest.mark.parametrize(
    ("scatter", "doubted", "fits"), [(0.5, False, True), (0.5, True, False), (0.4, True, True)]
)
def test_a_doubted_one_has_to_fit_as_closely_as_intact_ones_do(
    monkeypatch: pytest.MonkeyPatch, scatter: float, doubted: bool, fits: bool
) -> None:
    """One of an early time of training is of these weights, nearly, and fits a field loosely."""
    monkeypatch.setattr(StoredFirst, "scatter", lambda *_: scatter)
    assert field_of(stem(SHAPES[0], 0), SHAPES[0], doubted=doubted).fitted is fits
