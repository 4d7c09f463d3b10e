"""Parameters and buffers apart, and ensembles stacked into one state dict."""

from pathlib import Path

import pytest
import torch
from torch import nn
from torch.func import stack_module_state

from normcheck.formats.read_checkpoint import read_checkpoint
from tests.conftest import SAMPLES
from tests.norms.saved import save
from tests.verdict import accused, report_on

Half = dict[str, torch.Tensor]


def network() -> nn.Module:
    """With the tensors of a trained sample."""
    from sample_models.networks import DigitsNet

    model = DigitsNet()
    model.load_state_dict(torch.load(SAMPLES / "digits-healthy.pt"))
    return model


def reset(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
    return model


def halves(model: nn.Module) -> tuple[Half, Half]:
    return dict(model.named_parameters()), dict(model.named_buffers())


@pytest.mark.parametrize("keyed", [False, True], ids=["a pair", "by name"])
def test_halves_are_one_model(keyed: bool, tmp_path: Path) -> None:
    """Its order and verdict are those of the state dict; buffers that were reset are accused."""
    for name, model in (("healthy", network()), ("sick", reset(network()))):
        parameters, buffers = halves(model)
        content = {"params": parameters, "buffers": buffers} if keyed else (parameters, buffers)
        path = save(content, tmp_path / f"{name}.pt")
        (found,) = read_checkpoint(path).models
        assert list(found.tensors) == list(model.state_dict())
        assert accused(path) == ({"NC101"} if name == "sick" else set())


def test_halves_of_two_models_stay_apart(tmp_path: Path) -> None:
    """Statistics of modules that the other half does not have belong to nobody here."""
    parameters, _ = halves(nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3)))
    _, buffers = halves(network())
    path = save({"params": parameters, "buffers": buffers}, tmp_path / "model.pt")
    assert len(read_checkpoint(path).models) == 2


@pytest.mark.parametrize("merged", [False, True], ids=["two halves", "one dictionary"])
def test_every_member_is_judged(merged: bool, tmp_path: Path) -> None:
    """Of three members the one whose statistics were lost is accused, and it alone."""
    models = [network(), reset(network()), network()]
    parameters, buffers = stack_module_state(models)  # type: ignore[arg-type]
    content = {**parameters, **buffers} if merged else (parameters, buffers)
    path = save(content, tmp_path / "ensemble.pt")
    found = read_checkpoint(path).models
    assert len(found) == 3
    for member, model in zip(found, models, strict=True):
        for name, tensor in model.state_dict().items():
            assert member.tensors[name].values().tolist() == tensor.tolist()
    loud = {f.where for f in report_on(path).findings}
    assert len(loud) == 1
    assert next(iter(loud)).endswith("[1]")


def test_statistics_of_two_dimensions_are_no_ensemble(tmp_path: Path) -> None:
    """One count for all rows: types of nodes, not members."""
    state = {
        "weight": torch.ones(3, 4),
        "bias": torch.zeros(3, 4),
        "running_mean": torch.ones(3, 4),
        "running_var": torch.ones(3, 4) * 2,
        "num_batches_tracked": torch.tensor(50),
    }
    assert len(read_checkpoint(save(state, tmp_path / "model.pt")).models) == 1
