"""A model and its average in one flat state dict are two models."""

from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck.formats.read_checkpoint import read_checkpoint
from tests.conftest import SAMPLES
from tests.norms.saved import save
from tests.verdict import report_on

State = dict[str, torch.Tensor]


def healthy() -> State:
    """Of a trained sample."""
    state: State = torch.load(SAMPLES / "digits-healthy.pt")
    return {name: tensor.clone() for name, tensor in state.items()}


def below(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def with_initial(state: State, share: float) -> State:
    """As an average that holds so much of the initial values of norms."""
    mixed = dict(state)
    for name, tensor in state.items():
        if name.endswith("running_var"):
            mixed[name] = share + (1 - share) * tensor
        elif name.endswith("running_mean"):
            mixed[name] = (1 - share) * tensor
    return mixed


@pytest.mark.parametrize(
    ("raw", "averaged", "around"),
    [
        ("online_model.", "ema_model.", {"initted": torch.tensor(1), "step": torch.tensor(9)}),
        ("model.", "ema.ema_model.", {}),
        ("", "net_ema.module.", {"net_ema.n_averaged": torch.tensor(1)}),
        ("student.", "teacher.", {"centre": torch.ones(8)}),
    ],
)
def test_each_is_judged_alone(raw: str, averaged: str, around: State, tmp_path: Path) -> None:
    """What is wrong with one accuses it, at its place, and not the other."""
    state = healthy()
    sick = with_initial(state, 0.6)
    path = save({**below(raw, state), **around, **below(averaged, sick)}, tmp_path / "model.pt")
    first, second = read_checkpoint(path).models
    assert first.where == ""
    assert second.where == averaged.rstrip(".").removesuffix(".module")
    own = {f"{second.where}.{name}" for name in second.tensors}
    assert own >= set(below(averaged, state))
    assert {*first.tensors} == {*around, *below(raw, state)} - own
    loud = {f.where for f in report_on(path).findings if f.severity.rank}
    assert loud == {second.where}


@pytest.mark.parametrize(
    "prefixes",
    [
        ("left.", "right."),
        ("block1.ema.", "block2.ema."),
        ("semantic.", "instance."),
    ],
)
def test_what_is_called_no_average_stays_in_one(prefixes: tuple[str, str], tmp_path: Path) -> None:
    """Two towers, and blocks of which each has an efficient multi-scale attention (EMA)."""
    content = {name: t for p in prefixes for name, t in below(p, healthy()).items()}
    path = save(content, tmp_path / "model.pt")
    (found,) = read_checkpoint(path).models
    assert list(found.tensors) == list(content)


def test_an_average_of_other_layers_stays(tmp_path: Path) -> None:
    """A teacher of another size is a part of the model that it teaches."""
    teacher = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).state_dict()
    path = save({**below("student.", healthy()), **below("teacher.", teacher)}, tmp_path / "m.pt")
    assert len(read_checkpoint(path).models) == 1
