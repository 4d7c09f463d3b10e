"""NC213: what a conversion leaves inside a norm of torch's own class."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.runs.scan import scan


class _NormAct(nn.BatchNorm2d):
    """A batch norm with an activation of its own, as image libraries have it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.drop, self.act = nn.Identity(), nn.ReLU()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.drop(super().forward(x)))  # type: ignore[no-any-return]


@pytest.mark.parametrize("convert", [False, True])
def test_children_that_a_conversion_left_uncalled(tmp_path: Path, *, convert: bool) -> None:
    """``convert_sync_batchnorm`` takes the activation along and never calls it."""
    model: nn.Module = nn.Sequential(
        nn.Conv2d(3, 4, 3), _NormAct(4), nn.Conv2d(4, 4, 3), _NormAct(4)
    )
    if convert:
        model = nn.SyncBatchNorm.convert_sync_batchnorm(model)
    torch.save(model, tmp_path / "model.pt")
    found = [f for f in scan([tmp_path / "model.pt"]).findings if f.rule == "NC213"]
    if not convert:
        assert found == []
        return
    (finding,) = found
    assert finding.layers == ("1", "3")
    assert "'act' (ReLU)" in finding.detail
    assert "SyncBatchNorm" in finding.detail
    assert "drop" not in finding.detail


def test_what_passes_its_input_through_is_no_loss(tmp_path: Path) -> None:
    """An identity does nothing whether it is called or not."""
    norm = nn.BatchNorm2d(4)
    norm.add_module("drop", nn.Identity())
    torch.save(nn.Sequential(nn.Conv2d(3, 4, 3), norm), tmp_path / "model.pt")
    assert "NC213" not in {f.rule for f in scan([tmp_path / "model.pt"]).findings}
