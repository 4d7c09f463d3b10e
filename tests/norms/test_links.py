"""Finding what stands between two norms."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.belonging.structure.link import Link, WeightStructure
from normcheck.norms.belonging.structure.links import find_links
from normcheck.norms.find_norms import anatomy_of
from normcheck.norms.layer import Confidence
from normcheck.runs.scan import scan
from normcheck.sources.source import FileSource

from .settled import reorder, settle


def _links(model: nn.Module, folder: Path, *, whole: bool = False) -> tuple[Link, ...]:
    torch.save(model if whole else model.state_dict(), folder / "model.pt")
    saved = read_checkpoint(folder / "model.pt").models[0]
    return find_links(saved, anatomy_of(saved).layers)


def _between(weights: nn.Module, norm: Callable[[int], nn.Module], out: int = 16) -> nn.Module:
    return nn.Sequential(norm(16), nn.ReLU(), weights, norm(out))


@pytest.mark.parametrize(
    ("weights", "norm", "shape", "kind"),
    [
        (nn.Linear(16, 16), nn.BatchNorm1d, (16,), WeightStructure.LINEAR),
        (nn.Conv1d(16, 16, 3), nn.BatchNorm1d, (16, 9), WeightStructure.CONVOLUTION),
        (nn.Conv2d(16, 16, 3), nn.BatchNorm2d, (16, 9, 9), WeightStructure.CONVOLUTION),
        (nn.Conv3d(16, 16, 3), nn.BatchNorm3d, (16, 5, 5, 5), WeightStructure.CONVOLUTION),
        (nn.Conv2d(16, 16, 3, groups=16), nn.BatchNorm2d, (16, 9, 9), WeightStructure.DEPTHWISE),
        (nn.Conv2d(16, 16, 3, groups=4), nn.BatchNorm2d, (16, 9, 9), WeightStructure.GROUPED),
    ],
)
@pytest.mark.parametrize("whole", [False, True])
def test_every_kind_of_weights(
    tmp_path: Path,
    weights: nn.Module,
    norm: Callable[[int], nn.Module],
    shape: tuple[int, ...],
    kind: WeightStructure,
    *,
    whole: bool,
) -> None:
    """Kind, ends and certainty of a link in a Sequential, from names and from modules."""
    (link,) = _links(settle(_between(weights, norm), *shape), tmp_path, whole=whole)
    assert (link.source.path, link.weights_path, link.target.path) == ("0", "2", "3")
    assert link.kind is kind
    assert link.recognition.confidence is Confidence.HIGH
    assert "Sequential" in link.recognition.reason


def test_transposed_convolution_is_told_by_its_shape(tmp_path: Path) -> None:
    """Its first dimension is the inputs'."""
    model = _between(nn.ConvTranspose2d(16, 24, 4, 2, 1), nn.BatchNorm2d, 24)
    (link,) = _links(settle(model, 16, 9, 9), tmp_path)
    assert link.kind is WeightStructure.TRANSPOSED


@pytest.mark.parametrize("seed", range(3))
def test_a_bias_tells_how_many_channels_weights_make(tmp_path: Path, seed: int) -> None:
    """Statistics in another order make all orders of the blocks be tried: none may misread it."""
    model = nn.Sequential(
        nn.BatchNorm2d(32),
        nn.ConvTranspose2d(32, 32, 3, 2, 1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 3, 2, 1),
        nn.BatchNorm2d(16),
    )
    torch.manual_seed(seed)
    state = settle(model, 32, 7, 7, seed=seed).state_dict()
    reorder(state, "2")
    torch.save(state, tmp_path / "model.pt")
    report = scan([tmp_path / "model.pt"])
    assert not report.errors
    assert [link.target for link in report.models[0].agreement.links] == ["2", "5"]


def test_prelu_between_gives_its_slopes(tmp_path: Path) -> None:
    """A PReLU is no obstacle, and its slopes are known."""
    model = nn.Sequential(nn.BatchNorm1d(16), nn.PReLU(16), nn.Linear(16, 8), nn.BatchNorm1d(8))
    (link,) = _links(settle(model, 16), tmp_path)
    assert link.slopes is not None
    assert link.slopes.numel == 16


class _Gated(nn.Module):
    """Something with weights of its own between the norm and the convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(16)
        self.gate = nn.Conv2d(16, 16, 1)
        self.scale = nn.Parameter(torch.ones(16))
        self.conv2 = nn.Conv2d(16, 16, 3)
        self.bn2 = nn.BatchNorm2d(16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.bn1(x)
        out: torch.Tensor = self.bn2(self.conv2(x * self.gate(x).sigmoid()))
        return out


def test_other_weights_between_break_the_link(tmp_path: Path) -> None:
    """Where a gate stands in between, nothing is predicted."""
    assert _links(settle(_Gated(), 16, 9, 9), tmp_path) == ()


class _Branches(nn.Module):
    """A shortcut whose keys follow the main path's, as in every ResNet."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.conv2, self.bn2 = nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.downsample = nn.Sequential(nn.Conv2d(8, 16, 1), nn.BatchNorm2d(16))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        main = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu()))
        out: torch.Tensor = (main + self.downsample(x)).relu()
        return out


def test_side_branches_are_no_certain_links(tmp_path: Path) -> None:
    """Inside the block the link is sure; into the shortcut there is none worth trusting."""
    links = _links(settle(_Branches(), 8, 9, 9), tmp_path)
    sure = {link.weights_path: link.recognition.confidence for link in links}
    assert sure["conv2"] is Confidence.HIGH
    assert sure.get("downsample.0", Confidence.LOW) is Confidence.LOW


def test_within_a_branch_of_one_sequential_links_are_certain(tmp_path: Path) -> None:
    """Beside it others stand, inside nothing has room; into it no link is worth trusting."""
    model = nn.Module()
    model.stem = nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU())
    layers = [nn.Conv2d(16, 16, 1), nn.BatchNorm2d(16), nn.ReLU()]
    layers += [nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    model.branch2 = nn.Sequential(*layers, nn.Conv2d(16, 16, 3), nn.BatchNorm2d(16))
    model.forward = lambda x: model.branch2(model.stem(x))
    sure = {
        link.weights_path: link.recognition.confidence
        for link in _links(settle(model, 3, 12, 12), tmp_path)
    }
    assert sure.pop("branch2.0", Confidence.LOW) is Confidence.LOW
    assert sure == {"branch2.3": Confidence.HIGH, "branch2.7": Confidence.LOW}


def test_a_file_without_order_has_only_guesses(tmp_path: Path) -> None:
    """Safetensors sort by name: links are found by the usual order, and none is trusted."""
    model = settle(_Branches(), 8, 9, 9)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    saved = read_checkpoint(tmp_path / "model.safetensors").models[0]
    links = find_links(saved, anatomy_of(saved).layers)
    assert ("bn1", "conv2", "bn2") in {
        (link.source.path, link.weights_path, link.target.path) for link in links
    }
    assert {link.recognition.confidence for link in links} == {Confidence.LOW}


def test_prefixes_do_not_disturb(tmp_path: Path) -> None:
    """``module.`` in front of every name changes nothing but the names."""
    plain = _links(settle(_Branches(), 8, 9, 9), tmp_path)
    wrapped = _links(settle(nn.DataParallel(_Branches()), 8, 9, 9), tmp_path)
    assert [f"module.{link.weights_path}" for link in plain] == [
        link.weights_path for link in wrapped
    ]


def test_only_the_weights_between_norms_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large layer that no link needs costs no reading."""
    chain = [nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 16), nn.BatchNorm1d(16)]
    model = settle(nn.Sequential(*chain, nn.Linear(16, 50_000)), 16)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    read: list[int] = []
    original = FileSource.read_at

    def counting(source: FileSource, offset: int, length: int) -> bytes:
        read.append(length)
        return original(source, offset, length)

    monkeypatch.setattr(FileSource, "read_at", counting)
    anatomy = anatomy_of(read_checkpoint(tmp_path / "model.pt").models[0])
    assert anatomy.agreement is not None
    assert len(anatomy.agreement.fits) == 1
    # Pickle, zip directory and buffered reading take some 200 kB; the head has 3.2 MB.
    assert sum(read) < 500_000


@pytest.mark.parametrize(
    ("weights", "out", "groups", "seen"),
    [
        (nn.ConvTranspose2d(16, 16, 4, 2, groups=4), 16, 4, 1 / 4),
        (nn.ConvTranspose2d(16, 8, 4, 4, groups=2), 8, 2, 1 / 16),
        (nn.ConvTranspose2d(16, 16, 3, 1), 16, 1, 1.0),
    ],
)
def test_a_module_tells_the_axes_of_a_transposed_convolution(
    tmp_path: Path, weights: nn.Module, out: int, groups: int, seen: float
) -> None:
    """As many outputs as inputs look like a convolution; the module knows better."""
    model = settle(_between(weights, nn.BatchNorm2d, out), 16, 6, 6)
    (link,) = _links(model, tmp_path, whole=True)
    assert link.kind is WeightStructure.TRANSPOSED
    assert (link.groups, link.seen) == (groups, seen)
    agreement = anatomy_of(read_checkpoint(tmp_path / "model.pt").models[0]).agreement
    assert agreement is not None
    (fit,) = agreement.fits
    # By shape: how many of its taps an output sees depends on the border, too.
    assert fit.alignment > 0.9


class _AddedUp(nn.Module):
    """RepVGG's parts in the order in which it names them; it adds up what they make."""

    def __init__(self) -> None:
        super().__init__()
        for name, size in (("conv_kxk", 3), ("conv_1x1", 1)):
            branch = nn.Module()
            branch.conv, branch.bn = nn.Conv2d(16, 16, size, padding=size // 2), nn.BatchNorm2d(16)
            self.add_module(name, branch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        made = [branch.bn(branch.conv(x)) for branch in self.children()]
        return (made[0] + made[1]).relu()


def test_branches_that_are_added_up(tmp_path: Path) -> None:
    """A 3 × 3 and a 1 × 1 convolution side by side, registered one behind the other."""
    links = _links(settle(nn.Sequential(_AddedUp(), _AddedUp()), 16, 9, 9), tmp_path)
    assert links
    assert {link.recognition.confidence for link in links} == {Confidence.LOW}
