"""One norm under several names is one layer; equal norms are several. So is a compiled module."""

from pathlib import Path

import pytest
import torch
from torch import nn

from tests.norms.saved import layers_in, save
from tests.verdict import accused


def block() -> nn.Module:
    return nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU())


def test_shared_module(tmp_path: Path) -> None:
    """Its layer is listed once, with its other names."""
    one = block()
    model = nn.ModuleDict({"a": one, "b": one, "c": nn.Sequential(one), "d": block()})
    found = layers_in(save(model.state_dict(), tmp_path / "state.pt"))
    assert {path: layer.aliases for path, layer in found.items()} == {
        "a.1": ("b.1", "c.0.1"),
        "d.1": (),
    }


def test_equal_is_not_the_same(tmp_path: Path) -> None:
    """Copies with equal numbers, and modules that share γ alone, are layers of their own."""
    model = nn.ModuleDict({"a": block(), "b": block()})
    model["b"].load_state_dict(model["a"].state_dict())
    model["c"] = block()
    model["c"][1].weight = model["a"][1].weight
    assert list(layers_in(save(model.state_dict(), tmp_path / "state.pt"))) == ["a.1", "b.1", "c.1"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("training", [True, False])
def test_compiled_module(training: bool, tmp_path: Path) -> None:
    """Judged as the module alone would be: its mode is that of a file for use."""
    torch.manual_seed(0)
    model = block()
    with torch.no_grad():
        for _ in range(60):
            model(torch.randn(8, 8, 6, 6) * 2 + 1)
        model[1].bias.normal_()
        model[1].weight.uniform_(0.5, 1.5)
    model.train(training)
    alone = save(model, tmp_path / "alone.pt")
    compiled = save(torch.compile(model), tmp_path / "compiled.pt")
    assert accused(compiled) == accused(alone) == ({"NC201"} if training else set())
