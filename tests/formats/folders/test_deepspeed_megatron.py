"""DeepSpeed's and Megatron's folders, laid out as these write them."""

from collections import OrderedDict
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import normcheck
from normcheck.errors import UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.sources.targets import expand


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        OrderedDict(conv=nn.Conv2d(3, 5, 3), bn=nn.BatchNorm2d(5), out=nn.Linear(5, 7))
    )


def zero_3(folder: Path, world: int) -> dict[str, torch.Tensor]:
    """A ZeRO-3 checkpoint: empty parameters, buffers whole, flat parts in two groups."""
    folder.mkdir(parents=True)
    model = network()
    state = model.state_dict()
    parameters = dict(model.named_parameters())
    module = {n: torch.empty(0) if n in parameters else t for n, t in state.items()}
    shapes = [OrderedDict((n, p.shape) for n, p in parameters.items())]
    flats: list[list[torch.Tensor]] = [[] for _ in range(world)]
    for parameter in parameters.values():
        flat = parameter.detach().flatten()
        each = ceil(flat.numel() / world)
        padded = torch.cat([flat, torch.zeros(each * world - flat.numel())])
        for rank in range(world):
            flats[rank].append(padded[rank * each : (rank + 1) * each])
    for rank in range(world):
        torch.save(
            {"module": module, "param_shapes": shapes, "buffer_names": [], "ds_version": "0.14"},
            folder / f"zero_pp_rank_{rank}_mp_rank_00_model_states.pt",
        )
        groups = [torch.cat(flats[rank][:2]), torch.cat(flats[rank][2:])]
        torch.save(
            {"optimizer_state_dict": {"zero_stage": 3, "partition_count": world,
                                      "fp32_flat_groups": groups}},
            folder / f"zero_pp_rank_{rank}_mp_rank_00_optim_states.pt",
        )  # fmt: skip
    return state


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_zero_3(world: int, tmp_path: Path, read: Any) -> None:
    """Parameters that were cut over the ranks come back whole, whatever the number of ranks."""
    state = zero_3(tmp_path / "step", world)
    checkpoint = read(tmp_path / "step")
    (model,) = checkpoint.models
    assert model.where == "module"
    assert list(model.tensors) == list(state)
    for name, tensor in state.items():
        assert model.tensors[name].shape == tuple(tensor.shape)
        assert model.tensors[name].values().tolist() == tensor.tolist(), name
    assert "DeepSpeed" in checkpoint.format


def test_zero_3_without_a_part(tmp_path: Path) -> None:
    """A missing part is an error that says where the parameters lie."""
    zero_3(tmp_path / "step", 3)
    (tmp_path / "step" / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()
    with pytest.raises(UnreadableError, match="some of which are missing") as caught:
        read_checkpoint(tmp_path / "step")
    assert "zero_to_fp32" in caught.value.hint


def test_zero_3_of_different_saves(tmp_path: Path) -> None:
    """Parts that are too short for the shapes make no parameter."""
    zero_3(tmp_path / "step", 2)
    state = {"optimizer_state_dict": {"fp32_flat_groups": [torch.ones(9)]}}
    torch.save(state, tmp_path / "step" / "zero_pp_rank_1_mp_rank_00_optim_states.pt")
    with pytest.raises(UnreadableError, match="shorter than the parameters"):
        read_checkpoint(tmp_path / "step")


def test_folder_as_target(tmp_path: Path) -> None:
    """A run's folder is searched for its steps; each is one target, its files are none."""
    zero_3(tmp_path / "run" / "global_step10", 2)
    zero_3(tmp_path / "run" / "global_step20", 2)
    (tmp_path / "run" / "latest").write_text("global_step20")
    assert [t.path.name for t in expand([str(tmp_path / "run")])] == [
        "global_step10", "global_step20",
    ]  # fmt: skip
    report = normcheck.scan([str(tmp_path / "run")])
    assert [len(model.layers) for model in report.models] == [1, 1]
    assert report.errors == ()
    assert report.skipped == () or all(entry.rule for entry in report.skipped)


def test_zero_1_and_2(tmp_path: Path, read: Any) -> None:
    """With whole parameters in the model's file the optimizer's are not opened."""
    state = network().state_dict()
    torch.save({"module": state}, tmp_path / "mp_rank_00_model_states.pt")
    (tmp_path / "zero_pp_rank_0_mp_rank_00_optim_states.pt").write_bytes(b"")
    (model,) = read(tmp_path).models
    assert model.tensors["bn.weight"].values().tolist() == state["bn.weight"].tolist()


def test_pipeline_layers(tmp_path: Path, read: Any) -> None:
    """Files of single layers are one model."""
    for layer in range(2):
        state = {"norm.weight": torch.full((4,), float(layer)), "norm.bias": torch.zeros(4)}
        torch.save(state, tmp_path / f"layer_{layer:02d}-model_00-model_states.pt")
    torch.save({"step": 3}, tmp_path / "mp_rank_00_optim_states.pt")
    (model,) = read(tmp_path).models
    assert model.tensors["layer_01.norm.weight"].values().tolist() == [1.0] * 4
    assert len(model.tensors) == 4


def megatron(folder: Path, ranks: list[str]) -> Path:
    """Files of Megatron's ranks; each holds its stage and its part of the weights."""
    for name in ranks:
        stage = int(name.split("_")[3]) if name.count("_") > 2 else 0
        below = folder / "iter_0000100" / name
        below.mkdir(parents=True)
        model = {
            "decoder.layers.0.norm.weight": torch.full((4,), float(stage)),
            "decoder.layers.0.linear.weight": torch.ones(8, 4),
        }
        torch.save({"model": model, "iteration": 100}, below / "model_optim_rng.pt")
    (folder / "latest_checkpointed_iteration.txt").write_text("100")
    return folder


def test_megatron(tmp_path: Path) -> None:
    """Tensor-parallel ranks are one model, pipeline stages are parts of it."""
    names = [f"mp_rank_{t:02d}_{p:03d}" for t in range(2) for p in range(2)]
    folder = megatron(tmp_path / "run", names)
    (target,) = expand([str(folder)])
    assert target.path.name == "iter_0000100"
    checkpoint = read_checkpoint(target.path)
    (model,) = checkpoint.models
    assert sorted(n for n in model.tensors if n.endswith("norm.weight")) == [
        "decoder.layers.0.norm.weight", "stage_1.decoder.layers.0.norm.weight",
    ]  # fmt: skip
    assert model.tensors["stage_1.decoder.layers.0.norm.weight"].values().tolist() == [1.0] * 4
    assert "2 tensor-parallel ranks" in checkpoint.notes[0]
    checkpoint.close()


def test_megatron_without_a_rank(tmp_path: Path) -> None:
    """An empty folder of a rank is an error that names it."""
    folder = megatron(tmp_path / "run", ["mp_rank_00", "mp_rank_01"]) / "iter_0000100"
    (folder / "mp_rank_01" / "model_optim_rng.pt").unlink()
    with pytest.raises(UnreadableError, match="mp_rank_01"):
        read_checkpoint(folder)


def test_failures_leave_no_files_open(tmp_path: Path) -> None:
    """A hundred failed reads keep no descriptor."""
    descriptors = Path("/proc/self/fd")
    if not descriptors.exists():
        pytest.skip("needs /proc")
    zero_3(tmp_path / "step", 2)
    (tmp_path / "step" / "zero_pp_rank_1_mp_rank_00_optim_states.pt").write_bytes(b"nothing")
    before = len(list(descriptors.iterdir()))
    for _ in range(100):
        with pytest.raises(UnreadableError):
            read_checkpoint(tmp_path / "step")
    assert len(list(descriptors.iterdir())) == before
