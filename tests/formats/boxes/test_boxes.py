"""Models in archives: found in every kind, as well read as by themselves, and judged alike."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from normcheck.errors import NoModelError, UnreadableError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.formats.targets import expand
from tests.conftest import SAMPLES
from tests.formats.boxes.boxes import FOREIGN, HEALTHY, PACKERS, REAL, Pack, box, gzipped, stored
from tests.verdict import accused, report_on

every_library = pytest.mark.parametrize("kind", REAL)
every_packer = pytest.mark.parametrize("pack", PACKERS.values(), ids=PACKERS)


def saved(thing: Any, path: Path) -> bytes:
    torch.save(thing, path)
    return path.read_bytes()


@every_library
def test_same_numbers_and_verdict(kind: str, tmp_path: Path, read: Any) -> None:
    """What is read of a box is what the file by itself holds; foreign statistics are accused."""
    alone = read_checkpoint(SAMPLES / "digits-healthy.pt").models[0]
    path = box(kind, tmp_path, HEALTHY)
    (model,) = read(path).models
    assert model.where == next(f"!{n}" for n in REAL[kind][2] if n.endswith("model.pt"))
    assert list(model.tensors) == list(alone.tensors)
    for name, tensor in alone.tensors.items():
        assert model.tensors[name].values().tolist() == tensor.values().tolist(), name
    assert not accused(path)
    assert "NC108" in accused(box(kind, tmp_path, FOREIGN))


@every_library
def test_found_in_a_folder(kind: str, tmp_path: Path) -> None:
    """Boxes that are for models are found without being named; any other archive by its name."""
    path = box(kind, tmp_path, HEALTHY)
    found = [target.path for target in expand([str(tmp_path)])]
    assert found == ([] if path.suffix == ".zip" else [path])


@every_packer
def test_several_checkpoints(pack: Pack, tmp_path: Path) -> None:
    """Each is a model of its own; the sick one is accused, and it alone."""
    members = {
        "a/one.pt": HEALTHY,
        "a/two.pt": FOREIGN,
        "notes.txt": b"..",
        "data.npy": b"\x93NUMPY",
    }
    report = report_on(pack(tmp_path / "box", members))
    assert [model.where for model in report.models] == ["!a/one.pt", "!a/two.pt"]
    assert {f.where for f in report.findings if f.rule == "NC108"} == {"!a/two.pt"}


@every_packer
def test_optimizers_are_told_apart(pack: Pack, tmp_path: Path, read: Any) -> None:
    """A policy beside its optimizer is one model whose steps are known."""
    model = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    members = {
        "policy.pth": saved(model.state_dict(), tmp_path / "m"),
        "policy.optimizer.pth": saved(optimizer.state_dict(), tmp_path / "o"),
        "pytorch_variables.pth": saved({}, tmp_path / "v"),
    }
    checkpoint = read(pack(tmp_path / "policy.zip", members))
    assert [m.where for m in checkpoint.models] == ["!policy.pth"]
    assert (checkpoint.optimizers, checkpoint.optimizer_steps) == (1, 1)


def test_boxes_in_boxes(tmp_path: Path) -> None:
    """A zip of archives of checkpoints: the path through all of them is the place."""
    inner = PACKERS["tar.gz"](tmp_path / "inner", {"model.pt": HEALTHY}).read_bytes()
    path = PACKERS["deflated"](tmp_path / "outer.zip", {"runs/1.tar.gz": inner})
    (model,) = report_on(path).models
    assert model.where == "!runs/1.tar.gz!model.pt"


def test_gzipped_checkpoint(tmp_path: Path) -> None:
    """A file that was packed by itself is read as it is."""
    assert not accused(gzipped(tmp_path / "model.pt.gz", HEALTHY))
    assert "NC108" in accused(gzipped(tmp_path / "foreign.pt.gz", FOREIGN))


def test_shown_as_box_and_member(tmp_path: Path, command: Any) -> None:
    """The report names the member behind its box."""
    path = stored(tmp_path / "p.zip", {"policy.pth": HEALTHY})
    assert f"{path}!policy.pth ·" in command("scan", str(path), COLUMNS="200").stdout


@every_packer
def test_no_model_in_it(pack: Pack, tmp_path: Path) -> None:
    """An archive of something else is no mistake in a folder, and says what it has."""
    path = pack(tmp_path / "box", {"a.txt": b"hello", "b.json": b"{}"})
    with pytest.raises(NoModelError, match="2 files, none of which"):
        read_checkpoint(path)


@every_packer
def test_folder_of_ranks_in_it(pack: Pack, tmp_path: Path) -> None:
    """As NeMo 2 packs it: read from a folder, so the hint says to unpack it."""
    members = {"weights/.metadata": b"\x80\x02.", "weights/__0_0.distcp": HEALTHY}
    with pytest.raises(NoModelError) as caught:
        read_checkpoint(pack(tmp_path / "box", {n: m[:40] for n, m in members.items()}))
    assert "torch.distributed.checkpoint" in caught.value.hint


@every_packer
def test_damaged_member(pack: Pack, tmp_path: Path) -> None:
    """A checkpoint in a box that cannot be read is an error that names box and member."""
    path = pack(tmp_path / "box", {"model.pt": HEALTHY[: len(HEALTHY) // 2]})
    with pytest.raises(UnreadableError, match=r"box!model\.pt"):
        read_checkpoint(path)


@every_packer
def test_flipped_bytes(pack: Pack, tmp_path: Path) -> None:
    """Damage anywhere ends in an error of ours, or in the numbers that were saved."""
    whole = pack(tmp_path / "box", {"model.pt": HEALTHY}).read_bytes()
    right = {n: t.numpy().tobytes() for n, t in torch.load(SAMPLES / "digits-healthy.pt").items()}
    dice = random.Random(0)  # noqa: S311  (no secret)
    for _ in range(40):
        data = bytearray(whole)
        data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        path = tmp_path / "damaged"
        path.write_bytes(data)
        try:
            (model,) = read_checkpoint(path).models
            for name, tensor in model.tensors.items():
                assert tensor.values().tobytes() == right[name], name
        except (UnreadableError, NoModelError):
            continue


def test_large_packed_member(tmp_path: Path, read: Any) -> None:
    """Reads at any offset of a packed member of several megabytes give what lies there."""
    state = {f"{i}.weight": torch.randn(300, 300) for i in range(20)}
    data = saved(state, tmp_path / "m.pt")
    (model,) = read(PACKERS["tar.gz"](tmp_path / "m.tar.gz", {"m.pt": data})).models
    for name in sorted(state, key=hash):
        assert model.tensors[name].values().tolist() == state[name].tolist()


def test_repair_is_refused(tmp_path: Path, command: Any) -> None:
    """``fix`` says that the model has to come out of its box, and writes nothing."""
    sick = (SAMPLES / "too-few-batches.pt").read_bytes()
    path = stored(tmp_path / "p.zip", {"policy.pth": sick})
    run = command("fix", str(path), "--unwarm", "--momentum", "0.1", "-o", str(tmp_path / "out"))
    assert run.returncode == 2
    assert "archive" in run.stderr
    assert not (tmp_path / "out").exists()
