"""Networks that are conditioned between norm and weights accuse nobody; others still do."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normcheck import scan
from normcheck.norms.belonging.modulation import MODULATED
from tests.norms.saved import as_state_dict
from tests.norms.settled import settle, sicken

WIDTHS = (32, 64, 64)


def _unit(takes: int, makes: int) -> nn.Sequential:
    conv = nn.Conv2d(takes, makes, 3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(makes), nn.ReLU())


def _by(x: torch.Tensor, scale: Any, shift: Any = None) -> torch.Tensor:
    """Images of shape (N, C, H, W) times a scale of shape (N, C), and shifted by as much."""
    scaled = x.mul(scale[:, :, None, None])
    return scaled if shift is None else scaled.add(shift[:, :, None, None])


class _Plain(nn.Module):
    """Four units of convolution, norm and ReLU, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.enc1, self.enc2, self.enc3 = _unit(3, 32), _unit(32, 64), _unit(64, 64)
        self.enc4 = _unit(64, 96)
        self.out = nn.Linear(96, 10)

    def between(self, place: int, x: torch.Tensor) -> torch.Tensor:
        """What happens behind a unit: nothing."""
        return x

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for place, unit in enumerate((self.enc1, self.enc2, self.enc3)):
            x = self.between(place, unit(x))
        scores: torch.Tensor = self.out(self.enc4(x).mean((2, 3)))
        return scores


class _FiLM(_Plain):
    """Scale and shift by a condition of seven values."""

    def __init__(self) -> None:
        super().__init__()
        self.gammas = nn.ModuleList([nn.Linear(7, c) for c in WIDTHS])
        self.betas = nn.ModuleList([nn.Linear(7, c) for c in WIDTHS])

    def between(self, place: int, x: torch.Tensor) -> torch.Tensor:
        condition = 10 * torch.rand(len(x), 7)
        return _by(x, 1 + self.gammas[place](condition), self.betas[place](condition))


class _OneMatrix(_Plain):
    """Both from one matrix, behind a small network for the condition."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = nn.Linear(5, 48)
        self.films = nn.ModuleList([nn.Linear(48, 2 * c) for c in WIDTHS])

    def between(self, place: int, x: torch.Tensor) -> torch.Tensor:
        both = self.films[place](self.reads(20 * torch.rand(len(x), 5)).relu())
        gamma, beta = both.chunk(2, dim=1)
        return _by(x, 1 + gamma, beta)


class _Label(_Plain):
    """Times an embedding of the label."""

    def __init__(self) -> None:
        super().__init__()
        self.labels = nn.ModuleList([nn.Embedding(10, c) for c in WIDTHS])

    def between(self, place: int, x: torch.Tensor) -> torch.Tensor:
        return _by(x, self.labels[place](torch.randint(10, (len(x),))))


class _Scale(_Plain):
    """Times a vector that is learned."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.scales = nn.ParameterList(
            [nn.Parameter(3 * torch.randn(c).reshape([c if n < 0 else n for n in shape]))
             for c in WIDTHS]
        )  # fmt: skip

    def between(self, place: int, x: torch.Tensor) -> torch.Tensor:
        return _by(x, self.scales[place].reshape(1, -1))


class _Excited(_Plain):
    """Squeeze-and-excitation: what scales comes from the channels themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.se = nn.ModuleList(
            [
                nn.Sequential(nn.Linear(c, c // 4), nn.ReLU(), nn.Linear(c // 4, c), nn.Sigmoid())
                for c in WIDTHS
            ]
        )
        for gate in self.se:
            nn.init.constant_(gate[2].bias, 3.0)  # type: ignore[index]  # mostly open

    def between(self, place: int, x: torch.Tensor) -> torch.Tensor:
        return _by(x, self.se[place](x.mean((2, 3))))


class _LongHead(_Plain):
    """A classifier of two matrices, as wide inside as the network is."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Sequential(nn.Linear(96, 64), nn.ReLU(), nn.Linear(64, 10))  # type: ignore[assignment]


class _Projection(_Plain):
    """An embedding in place of a classifier, as wide as the network is inside."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(96, 64)


class _NoBias(_Plain):
    """A classifier without bias behind as many channels as the units before have."""

    def __init__(self) -> None:
        super().__init__()
        self.enc4 = _unit(64, 64)
        self.out = nn.Linear(64, 10, bias=False)


class _Slopes(_Plain):
    """A PReLU that is registered apart, and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.act = nn.PReLU(64)
        self.lstm = nn.LSTM(96, 16)


class _Branch(_Plain):
    """Numbers beside the image, joined before the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.beside = nn.Linear(7, 64)
        self.out = nn.Linear(96 + 64, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        beside = self.beside(torch.rand(len(x), 7)).relu()
        x = self.enc4(self.enc3(self.enc2(self.enc1(x)))).mean((2, 3))
        scores: torch.Tensor = self.out(torch.cat([x, beside], dim=1))
        return scores


class _InSequence(nn.Module):
    """A network in one ``nn.Sequential``, and a matrix for something else beside it."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 64, 64)
        self.net = nn.Sequential(
            *(part for c in range(4) for part in _unit(widths[c], widths[c + 1]))
        )
        self.film = nn.Linear(7, 64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        features: torch.Tensor = self.net(x).mean((2, 3))
        return features


CONDITIONED: dict[str, Callable[[], nn.Module]] = {
    "FiLM": _FiLM,
    "one matrix": _OneMatrix,
    "label": _Label,
    "scale": lambda: _Scale(-1),
    "scale (1, C, 1, 1)": lambda: _Scale(1, -1, 1, 1),
}
OTHERS: dict[str, Callable[[], nn.Module]] = {
    "plain": _Plain,
    "squeeze-and-excitation": _Excited,
    "long head": _LongHead,
    "projection": _Projection,
    "classifier without bias": _NoBias,
    "slopes and LSTM": _Slopes,
    "branch": _Branch,
    "in sequence": _InSequence,
}


def _accused(model: nn.Module, folder: Path) -> bool:
    report = scan(as_state_dict(model, folder))
    return any(f.rule == "NC108" and f.severity.value != "info" for f in report.findings)


@pytest.mark.parametrize("seed", [3, 4])
@pytest.mark.parametrize("kind", CONDITIONED)
def test_healthy_conditioned_networks_are_accused_of_nothing(
    tmp_path: Path, kind: str, seed: int
) -> None:
    """Their statistics are none that the weights between predict, and all the same right."""
    torch.manual_seed(seed)
    report = scan(as_state_dict(settle(CONDITIONED[kind](), 3, 12, 12, seed=seed), tmp_path))
    assert not [f for f in report.findings if f.rule == "NC108"]
    (model,) = report.models
    assert MODULATED in {layer.why for layer in model.layers}


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_condition_hides_no_fault(tmp_path: Path, kind: str) -> None:
    """Heads, squeeze-and-excitation, slopes and branches: permuted statistics are accused."""
    torch.manual_seed(5)
    healthy = settle(OTHERS[kind](), 3, 12, 12, seed=5)
    assert not _accused(healthy, tmp_path)
    for norm in healthy.modules():
        if isinstance(norm, nn.BatchNorm2d):
            sicken(norm, "permuted")
    assert _accused(healthy, tmp_path)
