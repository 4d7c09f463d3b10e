"""What a count or a variance would accuse, and the weights acquit; and the other side of each."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from normcheck.runs.scan import scan
from tests.norms.settled import CHANNELS, settle


def _net(blocks: int = 4) -> nn.Sequential:
    parts: list[nn.Module] = []
    for block in range(blocks):
        made_of = 3 if block == 0 else CHANNELS
        parts += [nn.Conv2d(made_of, CHANNELS, 3, bias=False), nn.BatchNorm2d(CHANNELS), nn.ReLU()]
    return nn.Sequential(*parts)


def _trained_look(model: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.4, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.5)
        if isinstance(module, nn.Conv2d):
            # Variances above 1: no channel gives away that nothing initial is in it.
            module.weight.data *= 8.0
    return model


def _batches(count: int) -> Iterator[torch.Tensor]:
    for _ in range(count):
        yield torch.randn(32, 3, 14, 14) + 0.5


def _loud(path: Path) -> list[str]:
    return [f.rule for f in scan([path]).findings if f.severity.rank]


def _infos(path: Path) -> list[str]:
    return [f"{f.rule} {f.discriminator}" for f in scan([path]).findings if not f.severity.rank]


@pytest.mark.parametrize("whole", [False, True])
def test_update_bn_counts_one_pass(tmp_path: Path, *, whole: bool) -> None:
    """Averages over 12 batches, no residue: 28 % is left by count, nothing by the weights."""
    model = _trained_look(_net())
    update_bn(list(_batches(12)), model)
    torch.save(model.eval() if whole else model.state_dict(), tmp_path / "model.pt")
    assert _loud(tmp_path / "model.pt") == []
    assert "NC103 acquitted" in _infos(tmp_path / "model.pt")


def test_few_batches_at_a_momentum_are_accused(tmp_path: Path) -> None:
    """The same number of batches in running averages: the weights see what is missing."""
    model = _trained_look(_net()).train()
    with torch.no_grad():
        for batch in _batches(12):
            model(batch)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert "NC103" in _loud(tmp_path / "model.pt")


@pytest.mark.parametrize("ema", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_an_average_with_buffers_keeps_a_count_that_tells_nothing(
    tmp_path: Path, *, ema: bool, wrapped: bool
) -> None:
    """``AveragedModel(use_buffers=True)``: the running average of an integer is truncated."""
    model = _trained_look(_net())
    options = {"multi_avg_fn": get_ema_multi_avg_fn(0.9)} if ema else {}
    average = AveragedModel(model, use_buffers=True, **options)
    model.train()
    with torch.no_grad():
        for batch in _batches(150):
            model(batch)
            average.update_parameters(model)
    saved = average if wrapped else average.module
    torch.save(saved.state_dict(), tmp_path / "model.pt")
    report = scan([tmp_path / "model.pt"])
    assert [f.rule for f in report.findings if f.severity.rank] == []
    if wrapped and not ema:
        (finding,) = [f for f in report.findings if f.discriminator == "acquitted"]
        assert "n_averaged is 150" in finding.detail


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("kernel", "stride"), [(4, 2), (3, 1)])
def test_square_transposed_convolutions(
    tmp_path: Path, kernel: int, stride: int, *, whole: bool
) -> None:
    """Weights [in, out, …] with as many outputs as inputs read the same as those of the other."""
    parts: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    for _ in range(3):
        up = nn.ConvTranspose2d(32, 32, kernel, stride, 1, bias=False)
        parts += [up, nn.BatchNorm2d(32), nn.ReLU()]
    model = settle(nn.Sequential(*parts), 3, 6, 6)
    torch.save(model if whole else model.state_dict(), tmp_path / "model.pt")
    report = scan([tmp_path / "model.pt"])
    assert report.findings == () or all(not f.severity.rank for f in report.findings)
    agreement = report.models[0].agreement
    assert agreement is not None
    assert {link.kind for link in agreement.links} == {"transposed convolution"}
    assert len(agreement.agreeing) == 3


def test_foreign_statistics_behind_square_transposed_convolutions(tmp_path: Path) -> None:
    """The freedom to read weights either way acquits nobody."""
    parts: list[nn.Module] = [nn.Conv2d(3, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()]
    for _ in range(4):
        parts += [nn.ConvTranspose2d(32, 32, 4, 2, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    model = settle(nn.Sequential(*parts), 3, 3, 3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            order = torch.randperm(32)
            module.running_mean.copy_(module.running_mean[order].clone())
            module.running_var.copy_(module.running_var[order].clone())
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert _loud(tmp_path / "model.pt") == ["NC108"]


def _smooth_kernels(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            out, inner = module.weight.shape[:2]
            one = torch.randn(out, inner, 1, 1) / (inner * 25) ** 0.5
            module.weight.data = one.expand(out, inner, 5, 5).contiguous()


@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_smooth_inputs_have_large_variances(tmp_path: Path, factor: float) -> None:
    """Variances many times those of independent inputs, slopes of 1: only a slope accuses."""
    parts: list[nn.Module] = []
    for block in range(5):
        made_of = 3 if block == 0 else CHANNELS
        conv = nn.Conv2d(made_of, CHANNELS, 5, padding=2, bias=False)
        parts += [conv, nn.BatchNorm2d(CHANNELS), nn.ReLU()]
    model = nn.Sequential(*parts)
    torch.manual_seed(0)
    _smooth_kernels(model)
    model = _trained_look(model).train()
    with torch.no_grad():
        for _ in range(60):
            small = torch.randn(12, 3, 3, 3)
            model(nn.functional.interpolate(small, size=(24, 24), mode="bicubic"))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.mul_(factor)
            module.running_var.mul_(factor**2)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert _loud(tmp_path / "model.pt") == ([] if factor == 1.0 else ["NC108"])
