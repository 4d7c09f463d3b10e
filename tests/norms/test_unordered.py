"""Files that keep no order of their modules: what is found all the same, and what is not."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.find_norms import anatomy_of
from normcheck.report.report import Standing
from normcheck.runs.scan import scan
from tests.norms.saved import as_safetensors

from .settled import SICK, agreement_in, conv_net, settle, sick

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
SEEDS = range(4)


class ConvNorm(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, takes: int, makes: int, activation: nn.Module) -> None:
        super().__init__()
        self.conv = nn.Conv2d(takes, makes, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(makes)
        self.act = activation

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.act(self.norm(self.conv(x)))
        return made


class Words(nn.Module):
    """Blocks whose names in alphabetical order are not in the order in which they run."""

    def __init__(self, activation: nn.Module) -> None:
        super().__init__()
        self.stem = ConvNorm(3, 32, activation)
        self.lower = ConvNorm(32, 32, activation)
        self.middle = ConvNorm(32, 48, activation)
        self.body = ConvNorm(48, 48, activation)
        self.end = ConvNorm(48, 32, activation)

    def forward(self, x: Tensor) -> Tensor:
        made: Tensor = self.end(self.body(self.middle(self.lower(self.stem(x)))))
        return made


FOLLOWING = {"lower.norm", "middle.norm", "body.norm", "end.norm"}
ACTIVATIONS = {"ReLU": nn.ReLU(), "SiLU": nn.SiLU(), "leaky": nn.LeakyReLU(0.2)}


def _model(seed: int, activation: str = "ReLU") -> Words:
    torch.manual_seed(seed)
    model = Words(ACTIVATIONS[activation])
    settle(model, 3, 16, 16, seed=seed)
    return model


def _sources(model: nn.Module, folder: Path) -> dict[str, str]:
    """What feeds each norm that the weights vouch for, in a file that keeps no order."""
    agreement = anatomy_of(read_checkpoint(as_safetensors(model, folder)).models[0]).agreement
    return {f.link.target.path: f.link.source.path for f in agreement.agreeing} if agreement else {}


def _vouched(file: Path) -> set[str]:
    (model,) = scan([file]).models
    return {layer.path for layer in model.layers if layer.standing is Standing.VOUCHED}


def _accused(file: Path) -> bool:
    return any(finding.severity.rank for finding in scan([file]).findings)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_what_feeds_a_norm_is_found(tmp_path: Path, seed: int, activation: str) -> None:
    """Whatever the names are: the very norms that run before them."""
    found = _sources(_model(seed, activation), tmp_path)
    run = ["stem.norm", "lower.norm", "middle.norm", "body.norm", "end.norm"]
    assert found.items() <= dict(zip(run[1:], run[:-1], strict=True)).items()
    assert len(found) >= len(FOLLOWING) - 1


@pytest.mark.parametrize("fault", SICK)
def test_a_sick_norm_is_not_vouched_for(tmp_path: Path, fault: str) -> None:
    """Norm by norm: no other norm stands in for the one that feeds it."""
    still = asked = 0
    for seed in SEEDS:
        model = _model(seed)
        for path in _sources(model, tmp_path):
            with sick(model.get_submodule(path), fault):
                still += path in _vouched(as_safetensors(model, tmp_path))
            asked += 1
    assert asked >= 12
    assert 10 * still <= asked


@pytest.mark.parametrize("seed", SEEDS)
def test_statistics_of_other_weights_vouch_for_nothing(tmp_path: Path, seed: int) -> None:
    """However many norms are tried."""
    model, other = _model(seed), _model(seed + 100).state_dict()
    state = model.state_dict()
    model.load_state_dict({k: other[k] if "running" in k else v for k, v in state.items()})
    assert not _vouched(as_safetensors(model, tmp_path))


@pytest.mark.parametrize("factor", [0.6, 1.5, 2.0])
def test_other_units_are_not_vouched_for(tmp_path: Path, factor: float) -> None:
    """One factor in all layers leaves every shape as it is."""
    still = 0
    for seed in SEEDS:
        model = _model(seed)
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_mean *= factor
                module.running_var *= factor**2
        still += len(_vouched(as_safetensors(model, tmp_path)))
    assert still <= len(FOLLOWING)


@pytest.mark.parametrize("seed", SEEDS)
def test_numbers_of_a_sequential_tell_the_order(tmp_path: Path, seed: int) -> None:
    """They leave nothing to guess, in whatever order a file keeps them: sick ones are accused."""
    torch.manual_seed(seed)
    model = settle(conv_net(nn.ReLU(), 5), 3, 16, 16, seed=seed)
    assert not _accused(as_safetensors(model, tmp_path))
    assert len(_vouched(as_safetensors(model, tmp_path))) >= 3
    other = settle(conv_net(nn.ReLU(), 5), 3, 16, 16, seed=seed + 100).state_dict()
    state = model.state_dict()
    model.load_state_dict({k: other[k] if "running" in k else v for k, v in state.items()})
    assert _accused(as_safetensors(model, tmp_path))


class Block(nn.Module):
    """A residual block of two convolutions, its norms before or behind them."""

    def __init__(self, takes: int, makes: int, *, norms_first: bool) -> None:
        super().__init__()
        self.norms_first = norms_first
        self.conv1 = nn.Conv2d(takes, makes, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(takes if norms_first else makes)
        self.conv2 = nn.Conv2d(makes, makes, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(makes)
        self.shortcut = nn.Sequential(nn.Conv2d(takes, makes, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        if self.norms_first:
            made = self.conv2(self.bn2(self.conv1(self.bn1(x).relu())).relu())
            return made + self.shortcut(x)  # type: ignore[no-any-return]
        made = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        return (made + self.shortcut(x)).relu()


def _residual(seed: int, widths: tuple[int, ...], *, norms_first: bool) -> nn.Module:
    torch.manual_seed(seed)
    blocks = [
        Block(takes, makes, norms_first=norms_first)
        for takes, makes in zip((16, *widths), widths, strict=False)
    ]
    model = nn.Sequential()
    model.add_module("stem", nn.Conv2d(3, 16, 3, padding=1, bias=False))
    for number, block in enumerate(blocks):
        model.add_module(f"layer{number}", block)
    return settle(model, 3, 16, 16, seed=seed)


@pytest.mark.parametrize("norms_first", [False, True])
@pytest.mark.parametrize("widths", [(24, 32, 40, 48), (16, 24, 24, 32)])
def test_channels_tell_the_order_within_blocks(
    tmp_path: Path, widths: tuple[int, ...], norms_first: bool
) -> None:
    """Of conv1 and bn1 only one can run first where a block changes the number of channels."""
    for seed in SEEDS:
        model = _residual(seed, widths, norms_first=norms_first)
        assert not _accused(as_safetensors(model, tmp_path))
        other = _residual(seed + 100, widths, norms_first=norms_first).state_dict()
        state = model.state_dict()
        model.load_state_dict({k: other[k] if "running" in k else v for k, v in state.items()})
        assert _accused(as_safetensors(model, tmp_path))


def test_equal_channels_leave_the_order_open(tmp_path: Path) -> None:
    """Nothing tells which of the two it is, and nobody is accused by a guess."""
    for norms_first in (False, True):
        model = _residual(0, (16, 16, 16, 16), norms_first=norms_first)
        other = _residual(100, (16, 16, 16, 16), norms_first=norms_first).state_dict()
        state = model.state_dict()
        model.load_state_dict({k: other[k] if "running" in k else v for k, v in state.items()})
        file = as_safetensors(model, tmp_path)
        assert not _vouched(file)
        assert not _accused(file)


class Bottleneck(nn.Module):
    """Between its numbered convolutions stands one that has no number."""

    def __init__(self, takes: int, makes: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(takes, makes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(makes)
        self.depth_conv = nn.Conv2d(makes, makes, 3, padding=1, bias=False)
        self.depth_bn = nn.BatchNorm2d(makes)
        self.conv2 = nn.Conv2d(makes, makes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(makes)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.depth_bn(self.depth_conv(self.bn1(self.conv1(x)).relu())).relu()
        made: Tensor = self.bn2(self.conv2(inner)).relu()
        return made


@pytest.mark.parametrize("seed", SEEDS)
def test_modules_without_a_number_stand_anywhere(tmp_path: Path, seed: int) -> None:
    """Numbers of the others do not tell what feeds what."""
    torch.manual_seed(seed)
    blocks = (Bottleneck(3, 24), Bottleneck(24, 32), Bottleneck(32, 40), Bottleneck(40, 24))
    model = settle(nn.Sequential(*blocks), 3, 16, 16, seed=seed)
    file = as_safetensors(model, tmp_path)
    assert not agreement_in(file).likely
    assert not _accused(file)
    assert len(_vouched(file)) >= 6
