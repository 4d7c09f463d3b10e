"""What a module tree tells of the way between two norms."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.module_tree import NAMES, Between
from normcheck.norms.weight_layout import layouts_of


def _between(model: nn.Module, folder: Path) -> Between:
    torch.save(model, folder / "model.pt")
    modules = read_checkpoint(folder / "model.pt").models[0].modules
    assert modules is not None
    return Between(modules)


def test_every_named_activation_is_one_that_links_are_predicted_under() -> None:
    """The two tables speak of the same things."""
    assert set(NAMES.values()) <= set(ACTIVATIONS)


@pytest.mark.parametrize(
    ("activation", "names"),
    [
        (nn.ReLU(), ("ReLU",)),
        (nn.LeakyReLU(0.2), ("leaky ReLU 0.2",)),
        (nn.LeakyReLU(0.3), ()),
        (nn.Hardswish(), ("hardswish",)),
        (nn.Softplus(), ()),
    ],
)
def test_in_a_sequential_the_activation_is_certain(
    tmp_path: Path, activation: nn.Module, names: tuple[str, ...]
) -> None:
    """The module between is the one that runs; one that is not predicted under leaves it open."""
    model = nn.Sequential(nn.BatchNorm1d(4), activation, nn.Linear(4, 4), nn.GELU())
    assert _between(model, tmp_path).activations("0", "2") == names


def test_elsewhere_it_is_one_of_the_tree(tmp_path: Path) -> None:
    """A forward may call any of them, or none, between two modules."""
    model = nn.ModuleDict({"bn": nn.BatchNorm1d(4), "fc": nn.Linear(4, 4), "act": nn.SiLU()})
    assert _between(model, tmp_path).activations("bn", "fc") == ("SiLU", "no activation")


def test_a_tree_without_activations_calls_functions(tmp_path: Path) -> None:
    """Any may stand there then."""
    model = nn.ModuleDict({"bn": nn.BatchNorm1d(4), "fc": nn.Linear(4, 4)})
    assert _between(model, tmp_path).activations("bn", "fc") == ()


def test_the_class_tells_a_transposed_convolution(tmp_path: Path) -> None:
    """Of a module that is not there nothing is known."""
    model = nn.ModuleDict({"up": nn.ConvTranspose2d(4, 4, 2), "conv": nn.Conv2d(4, 4, 2)})
    torch.save(model, tmp_path / "model.pt")
    layouts = layouts_of(read_checkpoint(tmp_path / "model.pt").models[0])
    assert layouts["up.weight"].inputs_first is True
    assert layouts["conv.weight"].inputs_first is False
    assert "nowhere.weight" not in layouts
