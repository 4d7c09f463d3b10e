"""Exported programs that keep the buffers of norms which no operator applies."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.verdict import report_on


class Net(nn.Module):
    """Two norms, of which the second is applied where it is wanted."""

    def __init__(self, *, both: bool) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.unused = nn.BatchNorm2d(8)
        self.both = both

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return self.unused(self.bn(y)) if self.both else y


@pytest.mark.parametrize("both", [False, True])
def test_buffers_without_a_user(both: bool, tmp_path: Path) -> None:
    """They are no layers of the program, and a note says what they are."""
    program = torch.export.export(Net(both=both).eval(), (torch.ones(2, 3, 8, 8),))
    torch.export.save(program, tmp_path / "p.pt2")
    (model,) = report_on(tmp_path / "p.pt2").models
    assert [layer.path for layer in model.layers] == (["bn", "unused"] if both else [])
    told = [note for note in model.notes if "used by no operator" in note]
    assert bool(told) is not both
    assert all("running statistics of 2 batch norms" in note for note in told)
