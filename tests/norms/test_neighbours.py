"""What stands right before a norm, and vectors of spectral normalization."""

from pathlib import Path

import pytest
from torch import nn
from torch.nn.utils import parametrizations

from tests.norms.saved import anatomies, as_module, as_state_dict


def biases(model: nn.Module, tmp_path: Path) -> tuple[object, object]:
    """Pairs found in the state dict, and in the whole module."""
    (state,), (module,) = (anatomies(save(model, tmp_path)) for save in (as_state_dict, as_module))
    return state.biases_before_norms, module.biases_before_norms


@pytest.mark.parametrize(
    ("layer", "norm"),
    [
        (nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)),
        (nn.Linear(3, 8), nn.BatchNorm1d(8)),
        (nn.Conv1d(3, 8, 3), nn.InstanceNorm1d(8, affine=True)),
    ],
)
def test_bias_before_norm(layer: nn.Module, norm: nn.Module, tmp_path: Path) -> None:
    """A bias right before a norm that takes the mean away, in both forms."""
    pair = (("1.bias", "2"),)
    assert biases(nn.Sequential(nn.Identity(), layer, norm), tmp_path) == (pair, pair)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8)),
        (nn.Conv2d(3, 8, 3), nn.ReLU(), nn.BatchNorm2d(8)),
        (nn.Linear(3, 8), nn.LayerNorm(8)),
        (nn.Conv2d(3, 8, 3), nn.GroupNorm(2, 8)),
        (nn.ConvTranspose2d(3, 4, 3), nn.BatchNorm2d(8)),
        (nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)),
        (nn.LayerNorm(8), nn.BatchNorm1d(8)),
    ],
    ids=["no bias", "activation", "LayerNorm", "GroupNorm", "sizes", "after", "norm"],
)
def test_no_bias_before_norm(layers: tuple[nn.Module, ...], tmp_path: Path) -> None:
    """No bias, something between, or a norm that keeps the mean across channels."""
    assert biases(nn.Sequential(*layers), tmp_path) == ((), ())


def test_bias_before_norm_in_a_nested_sequential(tmp_path: Path) -> None:
    """The pair lies in one Sequential, wherever that sits."""
    body = nn.Sequential(nn.ReLU(), nn.ReLU(), nn.Linear(3, 8), nn.BatchNorm1d(8))
    pair = (("1.2.bias", "1.3"),)
    assert biases(nn.Sequential(nn.ReLU(), body), tmp_path) == (pair, pair)


class Forked(nn.ModuleList):
    """Branches with numbers for names, which do not run one after the other."""


def test_numbers_of_a_list_are_no_order(tmp_path: Path) -> None:
    """Only an nn.Sequential runs in the order of its numbers; a module tree tells."""
    _, in_module = biases(Forked([nn.Linear(3, 8), nn.BatchNorm1d(8)]), tmp_path)
    assert in_module == ()


def dropouts(model: nn.Module, tmp_path: Path) -> tuple[tuple[str, float, str], ...]:
    (anatomy,) = anatomies(as_module(model, tmp_path))
    return anatomy.dropouts_before_norms


def test_dropout_before_norm(tmp_path: Path) -> None:
    """A dropout and the next batch norm of the same Sequential, whatever is between."""
    model = nn.Sequential(
        nn.Dropout(0.3), nn.Linear(4, 8), nn.ReLU(), nn.BatchNorm1d(8), nn.BatchNorm1d(8)
    )
    assert dropouts(model, tmp_path) == (("0", 0.3, "3"),)


@pytest.mark.parametrize(
    "layers",
    [
        (nn.BatchNorm1d(8), nn.Dropout(0.5)),
        (nn.Dropout(0.0), nn.BatchNorm1d(8)),
        (nn.Dropout(0.5), nn.LayerNorm(8)),
        (nn.Sequential(nn.Dropout(0.5)), nn.Sequential(nn.BatchNorm1d(8))),
    ],
    ids=["behind", "off", "LayerNorm", "another Sequential"],
)
def test_no_dropout_before_norm(layers: tuple[nn.Module, ...], tmp_path: Path) -> None:
    """Behind the norm, switched off, before another kind, or not certain."""
    assert dropouts(nn.Sequential(*layers), tmp_path) == ()


class Power(nn.Module):
    """A layer with a ``p`` that drops nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.p = 2.0


def test_other_layers_with_a_p_are_no_dropout(tmp_path: Path) -> None:
    """The class counts, not the attribute."""
    assert dropouts(nn.Sequential(Power(), nn.BatchNorm1d(8)), tmp_path) == ()


def test_the_order_of_a_list_is_not_known(tmp_path: Path) -> None:
    """A ModuleList tells nothing of what runs after what."""
    assert dropouts(nn.ModuleList([nn.Dropout(0.5), nn.BatchNorm1d(8)]), tmp_path) == ()


def test_vectors_of_spectral_norm(tmp_path: Path) -> None:
    """Both spellings are found, under the path of the module and with unit length."""
    model = nn.Sequential(
        nn.utils.spectral_norm(nn.Linear(4, 8)), parametrizations.spectral_norm(nn.Linear(8, 4))
    )
    (anatomy,) = anatomies(as_state_dict(model, tmp_path))
    found = {item.path: item.vectors for item in anatomy.power_iterations}
    assert set(found) == {"0", "1.parametrizations.weight.0"}
    assert set(found["0"]) == {"weight_u", "weight_v"}
    for vectors in found.values():
        for vector in vectors.values():
            assert (vector.numbers**2).sum() == pytest.approx(1.0, abs=1e-5)


def test_other_vectors_are_no_power_iterations(tmp_path: Path) -> None:
    """A buffer that ends in _u without a weight_orig or a parametrization is something else."""
    model = nn.Linear(4, 4)
    model.register_buffer("weight_u", model.bias.detach().clone())
    model.register_buffer("_u", model.bias.detach().clone())
    (anatomy,) = anatomies(as_state_dict(model, tmp_path))
    assert anatomy.power_iterations == ()


def test_spectral_norm_at_the_root(tmp_path: Path) -> None:
    """The whole model is one reparametrised layer: its path is empty."""
    (anatomy,) = anatomies(as_state_dict(nn.utils.spectral_norm(nn.Linear(4, 8)), tmp_path))
    (iteration,) = anatomy.power_iterations
    assert (iteration.path, set(iteration.vectors)) == ("", {"weight_u", "weight_v"})
