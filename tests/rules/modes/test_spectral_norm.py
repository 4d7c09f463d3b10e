"""NC212: power-iteration vectors that are no unit vectors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import normcheck
from normcheck.findings import Confidence, Finding, Severity
from tests.rules.layers import batch_norm, evidence, judge, only, spectral, thresholds

RULE = "stale-spectral-norm"
UNIT = np.array([0.6, 0.8])


def test_unit_vectors_are_silent() -> None:
    """As power iteration leaves them, in both spellings."""
    iterations = (
        spectral("conv", weight_u=UNIT, weight_v=[1.0, 0.0, 0.0]),
        spectral("fc.parametrizations.weight.0", _u=UNIT, _v=-UNIT),
    )
    assert judge(RULE, batch_norm(), power_iterations=iterations) == []


@pytest.mark.parametrize(
    ("scale", "shown"), [(0.0, "0"), (0.5, "0.5"), (0.98, "0.98"), (1.02, "1.02"), (7.0, "7")]
)
def test_vectors_of_another_length(scale: float, shown: str) -> None:
    """Zeroed, averaged or never normalised: a warning with the length farthest off."""
    iterations = (spectral("conv", weight_u=scale * UNIT, weight_v=UNIT),)
    found = only(judge(RULE, power_iterations=iterations))
    assert (found.severity, found.confidence) == (Severity.WARNING, Confidence.HIGH)
    assert found.layers == ("conv.weight_u",)
    assert found.title == "1 spectral norm vector is not of length 1"
    assert found.detail == f"The length farthest off is {shown}."
    assert evidence(found)["length of the vector"] == pytest.approx(scale, rel=1e-6)
    assert thresholds(found) == {"length of the vector": 0.01}


def test_all_vectors_are_one_finding() -> None:
    """An average shortens every vector; the model's own has no path before its name."""
    iterations = (
        spectral("", weight_u=0.9 * UNIT, weight_v=0.8 * UNIT),
        spectral("head", weight_u=0.3 * UNIT),
    )
    found = only(judge(RULE, power_iterations=iterations))
    assert found.layers == ("weight_u", "weight_v", "head.weight_u")
    assert found.title.startswith("3 spectral norm vectors are")
    assert evidence(found)["length of the vector"] == pytest.approx(0.3)


def test_length_farthest_from_one() -> None:
    """Too long counts as much as too short."""
    iterations = (spectral("conv", weight_u=0.5 * UNIT, weight_v=1.6 * UNIT),)
    found = only(judge(RULE, power_iterations=iterations))
    assert evidence(found)["length of the vector"] == pytest.approx(1.6)


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite(broken: float) -> None:
    """A NaN has no length, and is found all the same."""
    iterations = (spectral("conv", weight_u=[broken, 0.0]),)
    assert only(judge(RULE, power_iterations=iterations)).layers == ("conv.weight_u",)


@pytest.mark.parametrize(
    ("dtype", "length", "silent"),
    [
        ("float32", 1.005, True),
        ("float32", 1.03, False),
        ("float16", 1.03, True),
        ("bfloat16", 0.96, True),
        ("float16", 1.06, False),
        ("bfloat16", 0.94, False),
    ],
)
def test_half_precision_has_more_tolerance(dtype: str, length: float, silent: bool) -> None:
    """A long vector's rounding errors add up to percents in half precision."""
    iterations = (spectral("conv", dtype, weight_u=length * UNIT),)
    assert (judge(RULE, power_iterations=iterations) == []) is silent


@pytest.mark.parametrize("size", [64, 4096])
def test_rounding_a_long_unit_vector_to_half_is_silent(size: int) -> None:
    """A healthy model converted by .half() keeps within the tolerance."""
    vector = np.random.default_rng(size).normal(size=size)
    vector /= np.linalg.norm(vector)
    assert judge(RULE, power_iterations=(spectral("fc", "float16", weight_u=vector),)) == []


def test_nothing_to_judge_is_silent() -> None:
    """No spectral normalization, or vectors without values."""
    assert judge(RULE, batch_norm()) == []
    assert judge(RULE, power_iterations=(spectral("conv", weight_u=[]), spectral("fc"))) == []


def _net(*, old: bool, transposed: bool = False) -> nn.Module:
    torch.manual_seed(0)
    wrap = nn.utils.spectral_norm if old else nn.utils.parametrizations.spectral_norm
    conv: nn.Module = (
        nn.ConvTranspose2d(16, 16, 3, padding=1) if transposed else nn.Conv2d(16, 32, 3, padding=1)
    )
    return nn.Sequential(nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), wrap(conv))


def _found(net: nn.Module, file: Path) -> list[Finding]:
    torch.save(net.state_dict(), file)
    return [f for f in normcheck.scan(file).findings if f.rule == "NC212"]


def _train(net: nn.Module, steps: int) -> None:
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(steps):
        net(torch.randn(4, 3, 9, 9)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_vectors_of_trained_weights(tmp_path: Path, *, old: bool, transposed: bool) -> None:
    """A step of the optimizer lies between weights and vectors, and tells nothing."""
    net = _net(old=old, transposed=transposed)
    _train(net, 20)
    assert _found(net, tmp_path / "net.pt") == []


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("old", [False, True])
def test_vectors_that_were_never_iterated(tmp_path: Path, *, old: bool, transposed: bool) -> None:
    """Drawn again after training: of length 1, and of no weight."""
    net = _net(old=old, transposed=transposed)
    _train(net, 20)
    for name, buffer in net.named_buffers():
        if name.endswith(("_u", "_v")):
            buffer.copy_(nn.functional.normalize(torch.randn_like(buffer), dim=0))
    found = only(_found(net, tmp_path / "net.pt"))
    assert (found.severity, found.discriminator) == (Severity.WARNING, "drawn")
    assert "of other weights" in found.detail


def test_a_new_model(tmp_path: Path) -> None:
    """The old function draws its vectors and iterates in the first forward pass: info."""
    assert only(_found(_net(old=True), tmp_path / "net.pt")).severity is Severity.INFO
    assert _found(_net(old=False), tmp_path / "other.pt") == []
