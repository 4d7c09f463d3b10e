"""Channels that grow by concatenation: links to the new ones, and the others stored twice."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Finding
from normcheck.norms.layer import Confidence
from normcheck.rules.evidence.belonging_evidence import readings
from normcheck.rules.rule import CannotTell, Subject
from normcheck.rules.statistics.foreign_stats import check
from tests.norms.settled import anatomy, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
GROWS = 16


class _Layer(nn.Module):
    def __init__(self, made_of: int, *, new_first: bool) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(made_of)
        self.conv = nn.Conv2d(made_of, GROWS, 3, padding=1, bias=False)
        self.new_first = new_first

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        new = self.conv(self.norm(x).relu())
        return torch.cat([new, x] if self.new_first else [x, new], 1)


def _dense(*, new_first: bool = False, layers: int = 5) -> nn.Module:
    parts: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1)]
    parts += [_Layer(32 + GROWS * n, new_first=new_first) for n in range(layers)]
    return settle(nn.Sequential(*parts), 3, 16, 16)


@pytest.fixture(scope="module", params=[False, True], ids=["new last", "new first"])
def healthy(request: pytest.FixtureRequest) -> nn.Module:
    """Five layers that grow, joined on either side."""
    return _dense(new_first=request.param)


def _found(model: nn.Module, folder: Path) -> list[Finding]:
    try:
        return list(check(Subject(anatomy(model, folder))))
    except CannotTell:
        return []


def test_new_channels_are_predicted(tmp_path: Path, healthy: nn.Module) -> None:
    """Each is a certain link, and the shared channels are equal."""
    found = anatomy(healthy, tmp_path)
    assert found.agreement is not None
    fits = found.agreement.fits
    assert [f.stored_mean.size for f in fits] == [GROWS] * 4
    assert min(f.explained for f in fits) > 0.9
    assert all(f.link.recognition.confidence is Confidence.HIGH for f in fits)
    assert all(f.link.grown is not None and f.link.grown.apart < 1e-3 for f in fits)
    assert not any(r.speaks for r in readings(found.agreement, found.first))
    assert _found(healthy, tmp_path) == []


def _permute(norm: nn.BatchNorm2d) -> None:
    order = torch.randperm(norm.num_features, generator=torch.Generator().manual_seed(3))
    norm.running_mean.copy_(norm.running_mean[order])
    norm.running_var.copy_(norm.running_var[order])


def test_one_norm_with_other_statistics_differs_from_its_neighbour(
    tmp_path: Path, healthy: nn.Module
) -> None:
    """Channels that two norms share are stored twice: one of the copies is wrong."""
    sick = copy.deepcopy(healthy)
    _permute(sick[3].norm)  # type: ignore[index]
    found = anatomy(sick, tmp_path)
    taken = {r.key: r for r in readings(found.agreement, found.first)}
    assert taken["shared channels"].speaks
    assert "3.norm" in taken["shared channels"].layers
    (finding,) = _found(sick, tmp_path)
    assert "3.norm" in finding.layers


@pytest.mark.parametrize("seed", range(3))
def test_a_lost_norm_leaves_nobody_else_to_share_its_channels(tmp_path: Path, seed: int) -> None:
    """Of as many channels, the norm of the stem saw other values: those before its activation."""
    torch.manual_seed(seed)
    stem = nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
    layers = [_Layer(32 + GROWS * n, new_first=False) for n in range(4)]
    model = settle(nn.Sequential(stem, *layers), 3, 16, 16)
    assert _found(model, tmp_path) == []
    layers[0].norm.reset_running_stats()
    assert _found(model, tmp_path) == []


def _halve(norm: nn.BatchNorm2d) -> None:
    norm.running_mean.mul_(0.5)
    norm.running_var.mul_(0.25)


@pytest.mark.parametrize("fault", [_permute, _halve])
def test_what_befell_all_alike_shows_in_the_links(
    tmp_path: Path, healthy: nn.Module, fault: Callable[[nn.BatchNorm2d], None]
) -> None:
    """Shared channels may agree with each other and still not belong to the weights."""
    sick = copy.deepcopy(healthy)
    for layer in list(sick)[1:]:  # type: ignore[call-overload]
        fault(layer.norm)
    assert _found(sick, tmp_path)


@pytest.mark.parametrize("seed", range(3))
def test_many_sizes_in_a_row_prove_growth_where_nothing_is_equal(
    tmp_path: Path, healthy: nn.Module, seed: int
) -> None:
    """Norms of other models of the same shape, or each one's channels in an order of its own."""
    sick = copy.deepcopy(healthy)
    torch.manual_seed(seed)
    for layer in list(sick)[1:]:  # type: ignore[call-overload]
        _permute(layer.norm)
    found = anatomy(sick, tmp_path)
    taken = {r.key: r for r in readings(found.agreement, found.first)}
    assert taken["shared channels"].value > 0.5
    assert _found(sick, tmp_path)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("new_first", [False, True])
def test_what_joins_its_normalised_input_stores_other_values(
    tmp_path: Path, new_first: bool, seed: int
) -> None:
    """Sizes in a row, but the later norm sees what the earlier one made: it accuses nobody."""

    class Normalised(_Layer):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen = self.norm(x).relu()
            new = self.conv(seen)
            return torch.cat([new, seen] if self.new_first else [seen, new], 1)

    torch.manual_seed(seed)
    parts: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1)]
    parts += [Normalised(32 + GROWS * n, new_first=new_first) for n in range(5)]
    model = settle(nn.Sequential(*parts), 3, 16, 16, seed=seed)
    found = anatomy(model, tmp_path)
    taken = {r.key for r in readings(found.agreement, found.first)}
    assert "shared channels" not in taken
    assert _found(model, tmp_path) == []


def test_sizes_alone_prove_no_growth(tmp_path: Path) -> None:
    """Two norms whose sizes fit by chance are no concatenation, and accuse nobody."""

    class Chance(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.na = nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32)
            self.b, self.nb = nn.Conv2d(32, 16, 3), nn.BatchNorm2d(48)
            self.c = nn.Conv2d(3, 48, 5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.b(self.na(self.a(x)))
            return self.nb(self.c(x))

    model = settle(Chance(), 3, 16, 16)
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is None
    assert _found(model, tmp_path) == []


class _Bottleneck(nn.Module):
    """As wide between its convolutions as the block is at its second layer."""

    def __init__(self, made_of: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.BatchNorm2d(made_of), nn.Conv2d(made_of, 48, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(48)
        self.conv2 = nn.Conv2d(48, GROWS, 3, padding=1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        new = self.conv2(self.norm2(self.conv1(self.norm1(x).relu())).relu())
        return torch.cat([x, new], 1)


@pytest.mark.parametrize("seed", range(3))
def test_bottleneck_as_wide_as_the_block(seed: int, tmp_path: Path) -> None:
    """It stands between two norms of the block, and has no channels in common with them."""
    torch.manual_seed(seed)
    parts = [nn.Conv2d(3, 32, 3, padding=1), *(_Bottleneck(32 + GROWS * n) for n in range(5))]
    net = settle(nn.Sequential(*parts), 3, 16, 16, seed=seed)
    assert not _found(net, tmp_path)
    found = anatomy(net, tmp_path)
    assert found.agreement is not None
    grown = [f.link.grown for f in found.agreement.fits if f.link.grown is not None]
    assert len(grown) == 4
    assert max(one.apart for one in grown) < 1e-3
