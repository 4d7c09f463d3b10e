"""Maps of a few pixels: which taps meet them; healthy networks which end there are well."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional

from normcheck.findings import Finding
from normcheck.norms.belonging import small_maps
from normcheck.runs.scan import scan
from tests.norms.settled import anatomy, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]
every_seed = pytest.mark.parametrize("seed", range(3))


@pytest.mark.parametrize("length", [3, 5, 7])
@pytest.mark.parametrize("pixels", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("behind", [False, True], ids=["torch's padding", "TensorFlow's"])
def test_shares_are_those_of_a_convolution(
    length: int, pixels: int, stride: int, behind: bool
) -> None:
    """A kernel that is one tap, on an image of ones, counts the places where that tap meets it."""
    image = torch.ones(1, 1, pixels, pixels, dtype=torch.float64)
    if behind:
        out = -(-pixels // stride)
        both = max((out - 1) * stride + length - pixels, 0)
        image = functional.pad(image, (both // 2, both - both // 2) * 2)
    taps = torch.eye(length**2, dtype=torch.float64).reshape(-1, 1, length, length)
    counted = functional.conv2d(image, taps, None, stride, 0 if behind else length // 2)
    shares, maps = small_maps._maps((length, length))
    wanted = counted[0].flatten(1).mean(1)
    off = (torch.from_numpy(shares) - wanted[:, None]).abs().max(0).values
    assert off.min() < 1e-12
    assert maps[int(off.argmin())].mean(axis=1) == pytest.approx(wanted.numpy())


class _Unit(nn.Module):
    """Widened, filtered channel by channel, and narrowed, as in MobileNets."""

    def __init__(
        self, size: int, stride: int, act: Callable[[], nn.Module], dims: int, dilation: int
    ) -> None:
        super().__init__()
        conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dims == 1 else (nn.Conv2d, nn.BatchNorm2d)
        self.widen, self.bn1 = conv(24, 64, 1, bias=False), norm(64)
        self.deep = conv(
            64, 64, size, stride, dilation * (size // 2), dilation, groups=64, bias=False
        )
        self.bn2 = norm(64)
        self.narrow, self.bn3, self.act = conv(64, 24, 1, bias=False), norm(24), act()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Without a sum around it."""
        x = self.act(self.bn2(self.deep(self.act(self.bn1(self.widen(x))))))
        return self.bn3(self.narrow(x))


def _mobile(
    size: int, pixels: int, seed: int, act: Callable[[], nn.Module] = nn.ReLU6, dims: int = 2,
    dilation: int = 1,
) -> nn.Module:  # fmt: skip
    torch.manual_seed(seed)
    conv, norm = (nn.Conv1d, nn.BatchNorm1d) if dims == 1 else (nn.Conv2d, nn.BatchNorm2d)
    units = [_Unit(size, 2 if n == 1 else 1, act, dims, dilation) for n in range(5)]
    net = nn.Sequential(conv(3, 24, 3, 1, 1, bias=False), norm(24), *units)
    return settle(net, 3, *(pixels,) * dims, seed=seed)


def _scanned(state: dict[str, torch.Tensor], folder: Path) -> list[Finding]:
    torch.save(state, folder / "m.pt")
    return [f for f in scan([folder / "m.pt"]).findings if f.severity.rank]


@every_seed
@pytest.mark.parametrize("pixels", [1, 2, 4, 8])
@pytest.mark.parametrize("size", [3, 5, 7])
def test_healthy_depthwise_networks(size: int, pixels: int, seed: int, tmp_path: Path) -> None:
    """Whatever the map, and most of their channels are vouched for where it is one pixel."""
    net = _mobile(size, pixels, seed)
    assert not _scanned(net.state_dict(), tmp_path)
    agreement = anatomy(net, tmp_path).agreement
    assert agreement is not None
    if pixels == 1:
        deep = [f for f in agreement.fits if f.link.weights_path.endswith("deep")]
        assert [f.small_map for f in deep] == [True] * 5
        assert min(f.explained for f in deep) > 0.9


@every_seed
@pytest.mark.parametrize("act", [nn.SiLU, nn.Hardswish, nn.ReLU])
@pytest.mark.parametrize(
    ("dims", "pixels", "dilation"), [(1, 1, 1), (1, 2, 1), (1, 4, 1), (2, 4, 2), (2, 2, 4)]
)
def test_healthy_siblings(
    act: Callable[[], nn.Module], dims: int, pixels: int, dilation: int, seed: int, tmp_path: Path
) -> None:
    """Short sequences, wide gaps between taps, other activations."""
    net = _mobile(5, pixels, seed, act, dims, dilation)
    assert not _scanned(net.state_dict(), tmp_path)


@every_seed
@pytest.mark.parametrize("pixels", [1, 2, 4])
@pytest.mark.parametrize("factor", [0.25, 0.1])
def test_scaled_variances(pixels: int, factor: float, seed: int, tmp_path: Path) -> None:
    """Too small for any taps: known once it is known which of them see the map."""
    state = _mobile(5, pixels, seed).state_dict()
    state = {n: t * factor if n.endswith("running_var") else t for n, t in state.items()}
    assert [f.rule for f in _scanned(state, tmp_path)] == ["NC108"]


@every_seed
@pytest.mark.parametrize("pixels", [1, 4])
def test_statistics_of_other_weights(pixels: int, seed: int, tmp_path: Path) -> None:
    """They fit on no map."""
    state = _mobile(5, pixels, seed).state_dict()
    other = _mobile(5, pixels, seed + 10).state_dict()
    state = {n: other[n] if "running" in n else t for n, t in state.items()}
    assert [f.rule for f in _scanned(state, tmp_path)] == ["NC108"]


@every_seed
@pytest.mark.parametrize("factor", [0.4, 2.5])
def test_other_units(factor: float, seed: int, tmp_path: Path) -> None:
    """No map explains a factor: it is chosen by shape alone."""
    state = _mobile(5, 4, seed).state_dict()
    for name in state:
        if "running" in name:
            state[name] = state[name] * (factor if name.endswith("mean") else factor**2)
    assert [f.rule for f in _scanned(state, tmp_path)] == ["NC108"]


@every_seed
def test_activation_that_changes_on_the_way(seed: int, tmp_path: Path) -> None:
    """From ReLU to hardswish, as in MobileNetV3: half of the factors are no fault."""
    torch.manual_seed(seed)
    units = [_Unit(3, 1, nn.ReLU if n < 4 else nn.Hardswish, 2, 1) for n in range(10)]
    stem = [nn.Conv2d(3, 24, 3, 1, 1, bias=False), nn.BatchNorm2d(24)]
    net = settle(nn.Sequential(*stem, *units), 3, 8, 8, seed=seed)
    assert not _scanned(net.state_dict(), tmp_path)
