"""Which links vouch: those of the level of the rest, under an activation that others share."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck.norms.belonging.agreement import (
    AS_POOLED,
    OTHER_SIZE,
    OWN_ACTIVATION,
    Agreement,
)

from .settled import CHANNELS, agreement_in, anatomy, conv_net, settle

pytestmark = [
    pytest.mark.slow,
    pytest.mark.kernels,
    pytest.mark.filterwarnings("ignore"),  # of exporters
]
SEEDS = range(3)
FORMS = (".pt", ".pt2", ".onnx")


class Parts(nn.Module):
    """Pairs of convolutions under names of their own, as the levels of a U-Net are."""

    def __init__(self) -> None:
        super().__init__()
        for name in "abcd":
            takes = 3 if name == "a" else CHANNELS
            setattr(
                self,
                name,
                nn.Sequential(
                    nn.Conv2d(takes, CHANNELS, 3, padding=1),
                    nn.BatchNorm2d(CHANNELS),
                    nn.ReLU(),
                    nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
                    nn.BatchNorm2d(CHANNELS),
                    nn.ReLU(),
                ),
            )

    def forward(self, x: Tensor) -> Tensor:
        for part in self.children():
            x = part(x)
        return x


def _vouched(model: nn.Module, folder: Path) -> set[str]:
    agreement = anatomy(model, folder).agreement
    assert agreement is not None
    return {fit.link.target.path for fit in agreement.agreeing}


def _share_left(model: nn.Module, folder: Path, left: float) -> tuple[set[str], set[str]]:
    """The norms vouched for, and those that still are with so much of the initial value left."""
    healthy = _vouched(model, folder)
    still = set()
    for path in healthy:
        norm = model.get_submodule(path)
        kept = norm.running_mean.clone(), norm.running_var.clone()
        norm.running_mean.mul_(1 - left)
        norm.running_var.mul_(1 - left).add_(left)
        still |= {path} & _vouched(model, folder)
        norm.running_mean.copy_(kept[0])
        norm.running_var.copy_(kept[1])
    return healthy, still


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("left", [0.22, 0.5])
def test_a_layer_at_another_level_is_not_vouched_for(
    tmp_path: Path, left: float, seed: int
) -> None:
    """A rest of the initial value in one layer: its factor is not that of the others."""
    torch.manual_seed(seed)
    model = settle(conv_net(nn.ReLU(), 6), 3, 16, 16, seed=seed)
    healthy, still = _share_left(model, tmp_path, left)
    assert len(healthy) == 5
    assert not still


@pytest.mark.parametrize("activation", ["SiLU", "GELU", "tanh"])
def test_an_activation_that_one_link_has_alone_does_not_vouch(
    tmp_path: Path, activation: str
) -> None:
    """Half of a ReLU's means are those of a SiLU: chosen by its means alone, it is no sign."""
    agreement = anatomy(settle(Parts(), 3, 16, 16), tmp_path).agreement
    assert agreement is not None
    assert agreement.activation == "ReLU"
    fits = agreement.fits
    assert len(agreement.agreeing) == len(fits)
    for place, fit in enumerate(fits):
        alone = replace(fit, activation=activation)
        others = (*fits[:place], *fits[place + 1 :])
        changed = replace(agreement, fits=(*others, alone))
        assert alone not in changed.agreeing
        assert changed.doubted == {fit.link.target.path: OWN_ACTIVATION}
        # A module tree that names it leaves nothing to choose.
        named = replace(alone, link=replace(fit.link, among=(activation,)))
        assert named in replace(agreement, fits=(*others, named)).agreeing
    slope = replace(fits[0], activation="leaky ReLU 0.01")
    assert slope in replace(agreement, fits=(slope, *fits[1:])).agreeing


def test_an_activation_that_several_links_share_vouches(tmp_path: Path) -> None:
    """As where every block has none between its two layers."""
    torch.manual_seed(0)
    model = Parts()
    for part in (model.b, model.c, model.d):
        part[2] = nn.Identity()  # type: ignore[index]
    healthy = _vouched(settle(model, 3, 16, 16), tmp_path)
    assert {"b.1", "b.4", "c.1", "c.4", "d.1", "d.4"} <= healthy


@pytest.mark.parametrize("activation", [nn.SiLU(), nn.Tanh(), nn.LeakyReLU(0.2)])
def test_healthy_layers_are_of_one_level(tmp_path: Path, activation: nn.Module) -> None:
    """Whatever the activation: all are vouched for."""
    torch.manual_seed(0)
    assert len(_vouched(settle(conv_net(activation, 6), 3, 16, 16), tmp_path)) == 5


def _few_shot_encoder(seed: int) -> nn.Sequential:
    """Blocks of a Sequential each, as encoders for few-shot learning have, run on smooth images."""
    torch.manual_seed(seed)
    blocks: list[nn.Module] = [nn.Upsample(scale_factor=4, mode="bilinear")]
    for made_of in (3, CHANNELS, CHANNELS):
        convolution = nn.Conv2d(made_of, CHANNELS, 3, padding=1)
        norm = nn.BatchNorm2d(CHANNELS)
        blocks.append(nn.Sequential(convolution, norm, nn.ReLU(), nn.MaxPool2d(2)))
    model = settle(nn.Sequential(*blocks), 3, 16, 16, seed=seed)
    assert isinstance(model, nn.Sequential)
    return model


def _of_graph(model: nn.Module, folder: Path, form: str) -> Agreement:
    """How an export of a model fits its weights."""
    path, example = folder / f"model{form}", torch.zeros(2, 3, 16, 16)
    if form == ".pt2":
        torch.export.save(torch.export.export(model.eval(), (example,)), path)
    elif form == ".onnx":
        # Otherwise the exporter folds the norms into the weights.
        kept = torch.onnx.TrainingMode.PRESERVE
        torch.onnx.export(model.eval(), (example,), str(path), dynamo=False, training=kept)
    else:
        torch.jit.save(torch.jit.script(model.eval()), path)
    return agreement_in(path)


@pytest.mark.parametrize("seed", SEEDS)
def test_means_that_a_max_pooling_would_explain_are_left_open(tmp_path: Path, seed: int) -> None:
    """Larger than predicted is what a pooling makes, and so are statistics in other units.

    Where the module tree shows the pooling, nothing is left open.
    """
    model = _few_shot_encoder(seed)
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is not None
    assert set(agreement.doubted.values()) == {AS_POOLED}
    whole = anatomy(model, tmp_path, whole=True).agreement
    assert whole is not None
    assert {fit.link.target.path for fit in whole.agreeing} == {"2.1", "3.1"}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("form", FORMS)
def test_a_max_pooling_that_a_graph_shows_vouches(tmp_path: Path, form: str, seed: int) -> None:
    """As one of a module tree does, whatever the exporter."""
    agreement = _of_graph(_few_shot_encoder(seed), tmp_path, form)
    assert {fit.link.target.path for fit in agreement.agreeing} == {"2.1", "3.1"}
    assert {fit.pool for fit in agreement.agreeing} <= {1.5, 2.0, 3.0, 4.0}


@pytest.mark.parametrize("left", [0.5, 0.9])
@pytest.mark.parametrize(("form", "seed"), [*((None, s) for s in SEEDS), *((f, 0) for f in FORMS)])
def test_a_known_max_pooling_vouches_for_no_rest_of_the_initial_value(
    tmp_path: Path, form: str | None, left: float, seed: int
) -> None:
    """It makes means larger, never smaller."""
    model = _few_shot_encoder(seed)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean *= 1 - left
        norm.running_var.mul_(1 - left).add_(left)
    whole = anatomy(model, tmp_path, whole=True).agreement
    agreement = whole if form is None else _of_graph(model, tmp_path, form)
    assert agreement is not None
    assert not agreement.agreeing


@pytest.mark.parametrize("form", [None, *FORMS])
def test_a_known_max_pooling_vouches_for_no_statistics_of_another_training(
    tmp_path: Path, form: str | None
) -> None:
    """Other weights' statistics have another direction, which no strength changes."""
    model, other = _few_shot_encoder(0), _few_shot_encoder(1)
    for norm, theirs in zip(model.modules(), other.modules(), strict=True):
        if isinstance(norm, nn.BatchNorm2d) and isinstance(theirs, nn.BatchNorm2d):
            norm.running_mean, norm.running_var = theirs.running_mean, theirs.running_var
    whole = anatomy(model, tmp_path, whole=True).agreement
    agreement = whole if form is None else _of_graph(model, tmp_path, form)
    assert agreement is not None
    assert not agreement.agreeing


def test_means_of_half_the_size_follow_all_the_same(tmp_path: Path) -> None:
    """No pooling makes means smaller."""
    torch.manual_seed(0)
    model = settle(conv_net(nn.ReLU(), 4), 3, 16, 16)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.running_mean *= 0.5
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is not None
    assert set(agreement.doubted.values()) == {OTHER_SIZE}
