"""Whatever is done with models: their files and folders stay bit for bit as they were.

Bytes, modification times, permissions, owners, links and inodes; only times of access move.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.torch import save_file
from torch import nn

from normcheck.sources.targets import Target, expand
from tests.cli.conftest import Normcheck
from tests.conftest import SAMPLES
from tests.writing.writers import listing

_LONG_AGO = 1_000_000_000_123_456_789
"""Nanoseconds: a time that no writing sets by chance."""


@pytest.fixture
def zoo(tmp_path: Path) -> Path:
    """A folder of models in every kind of file, in odd modes, behind links and in folders."""
    torch.set_num_threads(1)
    folder = tmp_path / "zoo"
    folder.mkdir()
    for path in sorted(SAMPLES.iterdir()):
        if path.suffix in {".pt", ".npz", ".onnx", ".pt2", ".safetensors"}:
            shutil.copy(path, folder / path.name)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU())
    state = model.eval().state_dict()
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(model, folder / "module.pt")
    save_file(state, folder / "tensors.safetensors")
    torch.jit.script(model).save(folder / "scripted.jit")
    dcp.save(state, checkpoint_id=folder / "distributed")
    (folder / "deep" / "er").mkdir(parents=True)
    shutil.copy(SAMPLES / "digits-healthy.pt", folder / "deep" / "er" / "epoch-1.pt")
    shutil.copy(SAMPLES / "statistics-lost.pt", folder / "deep" / "er" / "epoch-2.pt")
    (folder / "linked.pt").symlink_to(Path("deep", "er", "epoch-1.pt"))
    (folder / "dangling.pt").symlink_to("nowhere.pt")
    (folder / "hard.pt").hardlink_to(folder / "module.pt")
    (folder / "broken.pt").write_bytes(b"PK\x03\x04 and no more")
    (folder / "empty.pt").touch()
    (folder / "optimizer.bin").write_bytes(b"\x80\x02}q\x00.")
    (folder / "protected.pt").write_bytes((SAMPLES / "too-few-batches.pt").read_bytes())
    (folder / "protected.pt").chmod(0o444)
    (folder / "private.pt").write_bytes((SAMPLES / "too-few-batches.pt").read_bytes())
    (folder / "private.pt").chmod(0o600)
    if os.geteuid() == 0:
        os.chown(folder / "private.pt", 12345, 23456)
    for path in (*folder.rglob("*"), folder):
        os.utime(path, ns=(_LONG_AGO, _LONG_AGO), follow_symlinks=False)
    return folder


Run = Callable[[Path, Path, Normcheck], None]


def _scanned(*more: str) -> Run:
    def run(zoo: Path, beside: Path, normcheck: Normcheck) -> None:
        ran = normcheck("scan", zoo, "-f", "json", "-o", beside / "report.json", *more)
        assert ran.code == 2  # some of the files are broken
        assert "digits-healthy.pt" in (beside / "report.json").read_text(encoding="utf-8")

    return run


def _cached(zoo: Path, beside: Path, normcheck: Normcheck) -> None:
    for _ in range(2):
        _scanned("--cache", str(beside / "cache"))(zoo, beside, normcheck)


def _compared(zoo: Path, beside: Path, normcheck: Normcheck) -> None:
    for words in (
        ("diff", zoo / "deep"),
        ("diff", zoo / "linked.pt", zoo / "statistics-lost.pt"),
        ("diff", zoo / "module.pt", zoo / "scripted.jit"),
        ("diff", zoo / "legacy.pth", zoo / "tensors.safetensors", zoo / "distributed"),
    ):
        ran = normcheck(*words, "-f", "json", "-o", beside / "diff.json")
        assert ran.code in {0, 1}, ran.err


def _run(zoo: Path, beside: Path, normcheck: Normcheck) -> None:
    ran = normcheck("scan", zoo / "module.pt", zoo / "hard.pt", "--run", "--input-shape", "1x8x8")
    assert ran.code in {0, 1}, ran.err


def _run_on_data(zoo: Path, beside: Path, normcheck: Normcheck) -> None:
    ran = normcheck(
        "scan", zoo / "digits-healthy.pt", "--model", "sample_models.networks:DigitsNet",
        "--data", zoo / "digits.npz", "--samples", "64",
    )  # fmt: skip
    assert ran.code in {0, 1}, ran.err


def _repaired(zoo: Path, beside: Path, normcheck: Normcheck) -> None:
    fixed = beside / "fixed.pt"
    for words, code in (
        (("saved-in-train-mode-module.pt", "--modes", "eval"), 0),
        (("protected.pt", "--unwarm", "--momentum", "0.1"), 0),
        (("private.pt", "--unwarm", "--momentum", "0.1"), 0),
        (("broken.pt", "--counts"), 2),
        (("digits-healthy.pt", "--counts"), 2),  # nothing to repair
        (
            ("never-updated-trained-in-eval.pt", "--model", "sample_models.networks:DigitsNet",
             "--data", str(zoo / "digits.npz"), "--batch-size", "256"),
            1,  # refused
        ),
    ):  # fmt: skip
        ran = normcheck("fix", zoo / words[0], *words[1:], "-o", fixed)
        assert ran.code == code, ran.err
        assert fixed.exists() == (code == 0)
        fixed.unlink(missing_ok=True)


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(_scanned(), id="scan"),
        pytest.param(_scanned("--jobs", "2"), id="scan by several processes"),
        pytest.param(_scanned("--statistics", "-f", "text", "-o", "-"), id="scan with statistics"),
        pytest.param(_cached, id="scan with a cache"),
        pytest.param(_compared, id="diff"),
        pytest.param(_run, id="scan --run"),
        pytest.param(_run_on_data, id="scan --data"),
        pytest.param(_repaired, id="fix -o"),
    ],
)
def test_nothing_of_it_changes(run: Run, zoo: Path, normcheck: Normcheck, tmp_path: Path) -> None:
    beside = tmp_path / "beside"
    beside.mkdir()
    before = listing(zoo)
    run(zoo, beside, normcheck)
    assert listing(zoo) == before


def test_the_zoo_has_every_kind_of_target(zoo: Path) -> None:
    """What the test above says of all files it says of these: files, folders, links, hard links."""
    found = [target for target in expand([str(zoo)]) if isinstance(target, Target)]
    names = {Path(str(target.path)).name for target in found}
    assert {
        "distributed",
        "linked.pt",
        "hard.pt",
        "private.pt",
        "scripted.jit",
        "legacy.pth",
    } <= names


@pytest.mark.parametrize("name", ["private.pt", "linked.pt", "module.pt"])
def test_in_place_changes_the_file_alone(
    name: str, zoo: Path, normcheck: Normcheck, tmp_path: Path
) -> None:
    """Its backup is the very file that was there; its other names and all other files stay."""
    words = {
        "private.pt": ("--unwarm", "--momentum", "0.1"),
        "linked.pt": ("--counts",),
        "module.pt": ("--modes", "eval"),
    }[name]
    path = Path(os.path.realpath(zoo / name))
    if name == "module.pt":
        torch.save(nn.Sequential(nn.BatchNorm2d(4)).train(), path)
    if name == "linked.pt":
        state = torch.load(path, weights_only=True)
        state["stem.norm.num_batches_tracked"] = torch.tensor(-5)
        torch.save(state, path)
    os.utime(path, ns=(_LONG_AGO, _LONG_AGO))
    for folder in (path.parent, zoo):
        os.utime(folder, ns=(_LONG_AGO, _LONG_AGO))
    before = listing(zoo)
    ran = normcheck("fix", zoo / name, *words, "--in-place")
    assert ran.code == 0, ran.err
    after = listing(zoo)
    key = str(path.relative_to(zoo))
    new, backup = after.pop(key), after.pop(f"{key}.bak")
    old = before.pop(key)
    mode, group, inode, content = 0, 2, 3, 7
    assert new[mode : group + 1] == old[mode : group + 1]
    assert new[inode] != old[inode]
    assert new[content] != old[content]
    assert backup == old  # the same inode, with its links: one name went, one came
    for folder in {".", str(path.parent.relative_to(zoo))}:
        del before[folder], after[folder]  # a file came into it
    assert after == before


def test_in_place_refused_or_failed_changes_nothing(zoo: Path, normcheck: Normcheck) -> None:
    before = listing(zoo)
    for words in (
        ("never-updated-trained-in-eval.pt", "--model", "sample_models.networks:DigitsNet",
         "--data", str(zoo / "digits.npz"), "--batch-size", "256"),
        ("digits-healthy.pt", "--counts"),
        ("broken.pt", "--counts"),
        ("distributed", "--counts"),
        ("dangling.pt", "--counts"),
    ):  # fmt: skip
        assert normcheck("fix", zoo / words[0], *words[1:], "--in-place").code in {1, 2}
        after = listing(zoo)
        # The folder's own time moves: whether it can be written to was tried.
        assert {**after, ".": None} == {**before, ".": None}
