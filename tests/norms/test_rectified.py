"""Norms behind a ReLU, and what their statistics tell of the values before it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from normcheck import scan
from normcheck.findings import Finding
from normcheck.norms.belonging.rectified import before_rectifying
from normcheck.report.report import Standing
from normcheck.rules.evidence.belonging_evidence import readings
from normcheck.rules.rule import CannotTell, Subject
from normcheck.rules.statistics.foreign_stats import check
from tests.norms.settled import CHANNELS, agreement_in, anatomy, settle

pytestmark = [pytest.mark.slow, pytest.mark.kernels]


def test_normal_values_are_put_back_before_the_relu() -> None:
    """Mean and variance of what a ReLU left determine those of what it took."""
    rng = np.random.default_rng(0)
    mean, deviation = np.array([-2, -1, 0, 1, 4.0]), np.array([1, 0.5, 2, 1, 0.4])
    values = mean + deviation * rng.normal(size=(1_000_000, 5))
    after = np.maximum(values, 0)
    found = before_rectifying(after.mean(axis=0), after.var(axis=0))
    assert np.abs(found[0] - mean).max() < 0.02
    assert np.abs(np.sqrt(found[1]) - deviation).max() < 0.02


def test_a_dead_channel_stays_at_zero() -> None:
    """Zeros and denormals make neither an error nor a number that is none."""
    with np.errstate(all="raise", under="ignore"):
        found = before_rectifying(np.array([0.0, 1e-30, 5e-324]), np.array([0.0, 0.0, 0.0]))
    assert np.isfinite(found).all()
    assert found[0][0] == found[1][0] == 0


def _norms_last(blocks: int) -> nn.Sequential:
    parts: list[nn.Module] = []
    for block in range(blocks):
        made_of = 3 if block == 0 else CHANNELS
        parts += [nn.Conv2d(made_of, CHANNELS, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(CHANNELS)]
    return nn.Sequential(*parts)


def _found(model: nn.Module, folder: Path) -> list[Finding]:
    try:
        return list(check(Subject(anatomy(model, folder))))
    except CannotTell:
        return []


def test_healthy_norms_behind_activations_accuse_nobody(tmp_path: Path) -> None:
    """They are held against the weights, and none of their readings speaks."""
    model = settle(_norms_last(5), 3, 16, 16)
    found = anatomy(model, tmp_path)
    assert found.agreement is not None
    assert found.agreement.activation == "ReLU before the norm"
    taken = {r.key: r for r in readings(found.agreement, found.first)}
    assert taken["rectified"].value < 0.25
    assert _found(model, tmp_path) == []


def _mostly_initial(norm: nn.BatchNorm2d) -> None:
    norm.running_mean.mul_(0.1)  # type: ignore[union-attr]
    norm.running_var.mul_(0.1).add_(0.9)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "fault",
    [
        lambda n: n.running_mean.mul_(3),
        lambda n: n.running_var.mul_(0.1),
        _mostly_initial,
    ],
    ids=["means", "variances", "initial value"],
)
def test_a_mean_and_a_variance_that_no_relu_leaves(tmp_path: Path, fault) -> None:  # type: ignore[no-untyped-def]
    """Either alone in other units shows: behind a ReLU the two are tied to each other."""
    model = settle(_norms_last(5), 3, 16, 16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            fault(module)
    (finding,) = _found(model, tmp_path)
    assert "rectified" in finding.discriminator


def _exported(model: nn.Module, path: Path) -> Path:
    example = torch.rand(2, 3, 16, 16)
    if path.suffix == ".pt2":
        torch.export.save(torch.export.export(model, (example,)), path)
    elif path.suffix == ".onnx":
        torch.onnx.export(model, (example,), str(path), dynamo=False)
    else:
        torch.jit.trace(model, example).save(path)  # type: ignore[no-untyped-call]
    return path


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["program.pt2", "graph.onnx", "traced.pt"])
def test_an_export_tells_what_its_state_dict_tells(tmp_path: Path, name: str) -> None:
    """A graph shows the ReLU between weights and norm, of one norm as of several."""
    model = settle(_norms_last(5), 3, 16, 16)
    here = anatomy(model, tmp_path).agreement
    there = agreement_in(_exported(model, tmp_path / name))
    assert here is not None
    assert there.activation == here.activation
    assert [f.explained for f in there.fits] == pytest.approx([f.explained for f in here.fits])
    assert {f.link.target.path for f in there.agreeing} == {f.link.target.path for f in here.fits}
    alone = agreement_in(_exported(settle(_norms_last(2), 3, 16, 16), tmp_path / name))
    assert [f.link.rectified for f in alone.rectified] == [True]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["program.pt2", "graph.onnx"])
@pytest.mark.parametrize(("fault", "accused"), [(0.5, True), (1.0, False), (3.0, True)])
def test_means_that_no_relu_leaves_in_an_export(
    tmp_path: Path, name: str, fault: float, accused: bool
) -> None:
    model = settle(_norms_last(5), 3, 16, 16)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.mul_(fault)  # type: ignore[union-attr]
            module.running_var.mul_(fault**2)  # type: ignore[union-attr]
    found = scan(_exported(model, tmp_path / name), select=["NC108"]).findings
    assert bool(found) is accused


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("between", [nn.LeakyReLU(0.2), nn.SiLU(), nn.Sequential(nn.ReLU(),
                                     nn.MaxPool2d(2))])  # fmt: skip
def test_what_is_not_a_relu_alone_is_not_put_back(tmp_path: Path, between: nn.Module) -> None:
    """Two moments behind them do not tell what was before."""
    parts: list[nn.Module] = []
    for made_of in (3, CHANNELS, CHANNELS):
        parts += [nn.Conv2d(made_of, CHANNELS, 3, padding=1), between, nn.BatchNorm2d(CHANNELS)]
    model = settle(nn.Sequential(*parts), 3, 16, 16)
    found = scan(_exported(model, tmp_path / "program.pt2"))
    assert not found.findings
    assert not any(layer.standing is Standing.VOUCHED for layer in found.models[0].layers)


def test_means_above_zero_by_chance_are_not_put_back(tmp_path: Path) -> None:
    """One norm of several: its neighbours show that norms stand before activations."""
    model = nn.Sequential()
    for block in range(4):
        made_of = 3 if block == 0 else CHANNELS
        model.extend([nn.Conv2d(made_of, CHANNELS, 3), nn.BatchNorm2d(CHANNELS), nn.ReLU()])
    settle(model, 3, 16, 16)
    model[4].running_mean.abs_()  # type: ignore[union-attr,operator]
    agreement = anatomy(model, tmp_path).agreement
    assert agreement is not None
    assert agreement.rectified == ()
    assert "behind the activation" in dict(agreement.unjudged)["4"]
    assert torch.isfinite(torch.tensor([f.explained for f in agreement.fits])).all()


def _factors(model: nn.Module, folder: Path) -> list[tuple[float, bool]]:
    found = anatomy(model, folder)
    taken = readings(found.agreement, found.first)
    return [(r.value, r.speaks) for r in taken if r.key == "one factor"]


@pytest.mark.parametrize("channels", [24, CHANNELS])
def test_one_factor_shows_behind_a_relu(tmp_path: Path, channels: int) -> None:
    """Mean and variance in other units agree with each other, but not with the weights."""
    for seed in range(4):
        torch.manual_seed(seed)
        parts: list[nn.Module] = []
        for block in range(5):
            made_of = 3 if block == 0 else channels
            parts += [nn.Conv2d(made_of, channels, 3, padding=1), nn.ReLU()]
            parts += [nn.BatchNorm2d(channels)]
        model = settle(nn.Sequential(*parts), 3, 16, 16, seed=seed)
        ((healthy, speaks),) = _factors(model, tmp_path)
        assert not speaks
        assert abs(healthy) < 0.2
        kept = {k: v.clone() for k, v in model.state_dict().items()}
        for factor in (0.5, 2.0, 3.0):
            scaled = {"running_mean": factor, "running_var": factor**2}
            model.load_state_dict(
                {k: v * scaled.get(k.rpartition(".")[2], 1) for k, v in kept.items()}
            )
            assert [speaks for _, speaks in _factors(model, tmp_path)] == [True]


def test_values_that_are_not_normal_before_the_relu_tell_no_factor(tmp_path: Path) -> None:
    """Of images of very different contrast both moments together are off, and accuse nobody."""
    for seed in range(4):
        torch.manual_seed(seed)
        model = _norms_last(5)
        settle(model, 3, 16, 16, seed=seed)
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.reset_running_stats()
        model.train()
        with torch.no_grad():
            for _ in range(12):
                model(torch.randn(16, 3, 16, 16) * torch.randn(16, 1, 1, 1).exp())
        for norm in model.modules():
            if isinstance(norm, nn.BatchNorm2d):
                norm.num_batches_tracked.fill_(1000)  # type: ignore[union-attr]
        assert not any(speaks for _, speaks in _factors(model.eval(), tmp_path))
        assert _found(model, tmp_path) == []
