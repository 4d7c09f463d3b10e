"""NC116: one batch norm behind several weights, told from a file alone."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.findings import Severity
from normcheck.report.report import Report
from tests.norms.saved import save
from tests.norms.settled import settle
from tests.verdict import report_on

CHANNELS = 16


def twice(made_of: int, *, shared: bool) -> nn.Sequential:
    """Two convolutions, each with its norm, or both with one."""
    norm = nn.BatchNorm2d(CHANNELS)
    return nn.Sequential(
        nn.Conv2d(made_of, CHANNELS, 3, padding=1, bias=False), norm, nn.ReLU(),
        nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1, bias=False),
        norm if shared else nn.BatchNorm2d(CHANNELS), nn.ReLU(),
    )  # fmt: skip


def network(*, shared: bool) -> nn.Sequential:
    torch.manual_seed(0)
    blocks = [twice(3 if i == 0 else CHANNELS, shared=shared) for i in range(4)]
    return nn.Sequential(*blocks)


@pytest.mark.parametrize("whole", [True, False])
def test_one_norm_for_two_convolutions(whole: bool, tmp_path: Path) -> None:
    """Named, with what stands before it; no weights are held against a mixture."""
    model = settle(network(shared=True), 3, 12, 12)
    report = report_on(save(model if whole else model.state_dict(), tmp_path / "model.pt"))
    (found,) = [f for f in report.findings if f.rule == "NC116"]
    assert found.severity is Severity.INFO
    assert found.layers == ("0.1", "1.1", "2.1", "3.1")
    assert "0.1 is right behind 0.0, 0.3" in found.detail
    assert not [f for f in report.findings if f.severity is not Severity.INFO]
    assert standings(report) == {"cannot tell"}


@pytest.mark.parametrize("whole", [True, False])
def test_a_norm_for_each(whole: bool, tmp_path: Path) -> None:
    """The usual network: silent, and its statistics are vouched for."""
    model = settle(network(shared=False), 3, 12, 12)
    report = report_on(save(model if whole else model.state_dict(), tmp_path / "model.pt"))
    assert "NC116" not in {f.rule for f in report.findings}
    assert "vouched for" in standings(report)


@pytest.mark.parametrize("whole", [True, False])
def test_a_block_under_two_names(whole: bool, tmp_path: Path) -> None:
    """Weights and norm are registered twice, together: one place."""
    one = settle(network(shared=False), 3, 12, 12)
    model = nn.ModuleDict({"encoder": one, "again": one})
    report = report_on(save(model if whole else model.state_dict(), tmp_path / "model.pt"))
    assert "NC116" not in {f.rule for f in report.findings}
    assert "vouched for" in standings(report)


def standings(report: Report) -> set[str]:
    return {layer.standing.value for model in report.models for layer in model.layers}
