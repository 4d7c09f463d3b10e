"""A model and its average in one flat state dict are two models."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from normcheck.cli.flags.run_words import requested
from normcheck.config.flags.running_flags import RunFlags
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.repair.repair_request import Fixing
from normcheck.runs.fix import fix
from tests.conftest import SAMPLES
from tests.norms.saved import save
from tests.verdict import report_on

DATA = str(SAMPLES / "digits.npz")
MODEL = "sample_models.networks:DigitsNet"
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


def sharded(state: State, folder: Path) -> Path:
    """Two shards, each with half of both models, and an index."""
    names, placed = list(state), {}
    for number, part in enumerate((names[::2], names[1::2])):
        file = f"model-0000{number + 1}-of-00002.safetensors"
        save_file({name: state[name] for name in part}, folder / file)
        placed.update(dict.fromkeys(part, file))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": placed}))
    return index


def alone(state: State, folder: Path) -> Path:
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


@pytest.mark.parametrize("write", [alone, sharded])
def test_files_without_order(write: Callable[[State, Path], Path], tmp_path: Path) -> None:
    """Safetensors keep names alone, and these tell it as well."""
    both = {**below("online_model.", healthy()), **below("ema_model.", with_initial(healthy(), 1))}
    path = write(both, tmp_path)
    assert [model.where for model in read_checkpoint(path).models] == ["", "ema_model"]
    assert {f.where for f in report_on(path).findings if f.severity.rank} == {"ema_model"}


@pytest.mark.parametrize("lost", ["running_var", ""])
def test_the_average_is_repaired_where_it_lies(lost: str, tmp_path: Path) -> None:
    """In place where the bytes are there, in a new file where statistics are missing."""
    sick = with_initial(healthy(), 1.0)
    sick = {name: tensor for name, tensor in sick.items() if not lost or lost not in name}
    # Both lack what is lost, or the average would not have the names of the model.
    raw = {name: tensor for name, tensor in healthy().items() if name in sick}
    path = alone({**below("online_model.", raw), **below("ema_model.", sick)}, tmp_path)
    words = RunFlags(model=MODEL, data=DATA, samples=10_000)
    output = tmp_path / "fixed.safetensors"
    result = fix(path, Fixing(str(output), places=("ema_model",), running=requested(words)))
    assert result.written is not None
    fixed, before = load_file(output), load_file(path)
    assert set(fixed) >= set(before)
    new = {name for name in fixed if name not in before or not fixed[name].equal(before[name])}
    assert {name.rpartition(".")[2] for name in new} >= {"running_mean", "running_var"}
    assert all(name.startswith("ema_model.") for name in new)
    for name, tensor in healthy().items():
        if name.endswith("running_var"):
            apart = (fixed[f"ema_model.{name}"] / tensor).log().abs()
            assert float(apart.median()) < 0.2
