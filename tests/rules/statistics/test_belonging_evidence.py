"""NC108 by single readings and by values put back: each finds its slip, none a healthy model."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Finding, Severity
from normcheck.norms.anatomy import Anatomy
from normcheck.rules.evidence.belonging_evidence import readings
from normcheck.rules.rule import CannotTell, Subject
from normcheck.rules.statistics.foreign_stats import check
from tests.norms.settled import anatomy, conv_net, settle

Norm = nn.BatchNorm2d


def _varied(model: nn.Module) -> nn.Module:
    """Output channels of different strength, as training leaves them."""
    torch.manual_seed(5)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                shape = (-1, *[1] * (module.weight.ndim - 1))
                scale = torch.rand(module.weight.shape[0]).mul(2).exp()
                module.weight.mul_(scale.view(shape))
    return model


@pytest.fixture(scope="module")
def healthy() -> nn.Module:
    """Eight blocks whose statistics belong to their weights."""
    torch.manual_seed(0)
    return settle(_varied(conv_net(nn.ReLU(), blocks=8)), 3, 16, 16)


def _norms(model: nn.Module) -> list[Norm]:
    return [m for m in model.modules() if isinstance(m, Norm)]


def _exchange(norm: Norm) -> None:
    mean = norm.running_mean.clone()
    norm.running_mean.copy_(norm.bias.data)
    norm.bias.data.copy_(mean)


def _variance(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Norm], None]:
    return lambda norm: norm.running_var.copy_(change(norm.running_var))


def _sick(healthy: nn.Module, fault: Callable[[Norm], object], most: int = 99) -> nn.Module:
    sick = copy.deepcopy(healthy)
    for norm in _norms(sick)[:most]:
        fault(norm)
    return sick


def _found(model: nn.Module, folder: Path) -> list[Finding]:
    return list(check(Subject(anatomy(model, folder))))


@pytest.mark.parametrize(
    ("fault", "key"),
    [
        (lambda n: n.running_mean.neg_(), "sign"),
        (_exchange, "mean and bias"),
        (_variance(torch.reciprocal), "inverse"),
        (_variance(torch.sqrt), "deviations stored"),
        (_variance(lambda v: v / 30), "small variances"),
    ],
    ids=["negated", "mean and bias", "inverse", "deviation", "small"],
)
def test_each_slip_is_found_and_named(
    tmp_path: Path, healthy: nn.Module, fault: Callable[[Norm], object], key: str
) -> None:
    """One finding, whose discriminator is the slip or the readings that show it."""
    (finding,) = _found(_sick(healthy, fault), tmp_path)
    assert key in finding.discriminator
    assert finding.severity.rank >= Severity.WARNING.rank


def test_healthy_readings_stay_below_their_thresholds(tmp_path: Path, healthy: nn.Module) -> None:
    """All of them are taken, none speaks."""
    found = anatomy(healthy, tmp_path)
    taken = readings(found.agreement, found.first)
    assert {r.key for r in taken} >= {"shift", "small variances", "one link", "first norm"}
    assert [r.key for r in taken if r.speaks] == []
    assert _found(healthy, tmp_path) == []


def test_one_link_of_a_small_model_accuses(tmp_path: Path) -> None:
    """Two norms, one link, in a Sequential: 32 channels are enough for a clear word."""
    model = settle(conv_net(nn.ReLU(), blocks=2), 3, 16, 16)
    with pytest.raises(CannotTell):  # nothing to accuse, and too little to acquit by
        _found(model, tmp_path)
    last = _norms(model)[-1]
    order = torch.randperm(len(last.running_mean), generator=torch.Generator().manual_seed(1))
    last.running_mean.copy_(last.running_mean[order].clone())
    (finding,) = _found(model, tmp_path)
    assert finding.layers == ("4",)
    assert "one link" in finding.discriminator


def _mlp_on_few_sensors(seed: int) -> nn.Sequential:
    """Two links in a Sequential, whose weights take away most of what all their inputs share."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for made_of in (4, 64, 64):
        layers += [nn.Linear(made_of, 64), nn.BatchNorm1d(64), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Linear(64, 5))
    for place in (3, 6, None):
        for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d)):
            norm.reset_running_stats()
        settle(model, 4, seed=seed)
        if place is None:
            break
        with torch.no_grad():
            inputs = model[:place](torch.randn(512, 4))
            _, _, shared = torch.linalg.svd(inputs - inputs.mean(0), full_matrices=False)
            weight, most = model[place].weight, shared[:3]
            weight -= 0.63 * weight @ most.T @ most
    return model


@pytest.mark.parametrize("seed", range(4))
def test_small_variances_beside_exact_means_are_the_data_s(tmp_path: Path, seed: int) -> None:
    """Of two links as of many: what inputs share is taken away, and the means fit all the same."""
    model = _mlp_on_few_sensors(seed)
    found = anatomy(model, tmp_path)
    taken = readings(found.agreement, found.first)
    (small,) = [r.value for r in taken if r.key == "small variances"]
    assert small > 0.35  # more than there may be where means do not vouch for it
    assert [r.key for r in taken if r.speaks] == []
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm1d)):
        norm.running_var /= 30
    assert [f for f in _found(model, tmp_path) if f.severity.rank]


class _RegisteredOtherwise(nn.Module):
    """Norms registered before the convolutions that precede them, and additions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 24, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "bn1": Norm(24),
                    "conv1": nn.Conv2d(24, 24, 3, padding=1),
                    "bn2": Norm(24),
                    "conv2": nn.Conv2d(24, 24, 3, padding=1),
                }
            )
            for _ in range(3)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            y = block["bn1"](block["conv1"](x)).relu()  # type: ignore[index]
            x = x + block["bn2"](block["conv2"](y)).relu()  # type: ignore[index]
        return x


def test_the_order_of_registration_accuses_nobody(tmp_path: Path) -> None:
    """Every link of this block is false, and its names are those of certain ones."""
    assert _found(settle(_varied(_RegisteredOtherwise()), 3, 12, 12), tmp_path) == []


def _first(model: nn.Module, folder: Path) -> Anatomy:
    return anatomy(model, folder)


def test_the_first_norm_tells_the_input(tmp_path: Path) -> None:
    """Mean and deviation of the training input, from the file alone."""
    torch.manual_seed(2)
    model = _varied(nn.Sequential(nn.Conv2d(3, 48, 3, bias=False), Norm(48))).train()
    shift = torch.tensor([0.4, -0.2, 1.0]).view(3, 1, 1)
    with torch.no_grad():
        for _ in range(200):
            model(torch.randn(16, 3, 12, 12) * 0.5 + shift)
    first = _first(model, tmp_path).first
    assert first is not None
    assert first.means == pytest.approx((0.4, -0.2, 1.0), abs=0.05)
    assert first.deviation == pytest.approx(0.5, rel=0.1)
    assert first.leftover < 0.1
    assert first.spread == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(("power", "slope"), [(0.5, 0.5), (-1.0, -1.0), (-0.5, -0.5)])
def test_the_first_variances_tell_what_was_stored(
    tmp_path: Path, power: float, slope: float
) -> None:
    """Deviations and inverses in the place of variances, in a model of a single norm."""
    torch.manual_seed(2)
    model = _varied(nn.Sequential(nn.Conv2d(3, 48, 3, bias=False), Norm(48))).train()
    with torch.no_grad():
        for _ in range(200):
            model(torch.randn(16, 3, 12, 12) * 0.5)
    assert _found(model, tmp_path) == []
    (norm,) = _norms(model)
    norm.running_var.copy_(norm.running_var**power)
    first = _first(model, tmp_path).first
    assert first is not None
    assert first.spread == pytest.approx(slope, abs=0.1)
    (finding,) = _found(model, tmp_path)
    assert "first variances" in finding.discriminator


def test_a_first_norm_with_mixed_up_channels_fits_no_input(
    tmp_path: Path, healthy: nn.Module
) -> None:
    """One unknown for each input channel cannot explain any means."""

    def permute(norm: Norm) -> None:
        norm.running_mean.copy_(norm.running_mean.flip(0).clone())

    shifted = copy.deepcopy(healthy).train()
    for norm in _norms(shifted):
        norm.momentum = 0.1
    with torch.no_grad():
        for _ in range(60):
            shifted(torch.randn(16, 3, 16, 16) + 2.0)
    assert _found(shifted, tmp_path) == []
    (finding,) = _found(_sick(shifted, permute, most=1), tmp_path)
    assert finding.discriminator == "first norm"
    assert finding.layers == ("1",)
