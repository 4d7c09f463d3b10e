"""A file is there whole or not at all, whenever the process ends; nothing is overwritten."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from normcheck import NormcheckError
from normcheck.repair.repair_request import Fixing
from normcheck.runs.fix import fix
from tests.conftest import ROOT, SAMPLES

pytestmark = [pytest.mark.slow, pytest.mark.posix]

TRAIN_MODE = SAMPLES / "saved-in-train-mode-module.pt"

_LOOP = """
import sys
from pathlib import Path
from normcheck.repair.repair_request import Fixing
from normcheck.runs.fix import fix
print("ready", flush=True)
while True:
    path = Path(sys.argv[1])
    fix(path, Fixing(in_place=True, modes="eval"))
    Path(f"{path}.bak").replace(path)  # as it was, once more
"""


@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment(seed: int, tmp_path: Path) -> None:
    """The file is the old one or the new one, and its backup the old one."""
    path = tmp_path / "model.pt"
    # Large enough that most of the time goes into writing.
    module = torch.nn.Sequential(torch.nn.Linear(1000, 1000), torch.nn.BatchNorm1d(1000))
    torch.save(module.train(), path)
    old = path.read_bytes()
    fix(path, Fixing(str(tmp_path / "new.pt"), modes="eval"))
    new = (tmp_path / "new.pt").read_bytes()
    (tmp_path / "new.pt").unlink()
    process = subprocess.Popen(
        [sys.executable, "-c", _LOOP, str(path)],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(random.Random(seed).uniform(0.01, 0.25))  # noqa: S311  (not a secret)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert process.returncode == -signal.SIGKILL
    assert path.read_bytes() in (old, new)
    backup = tmp_path / "model.pt.bak"
    if path.read_bytes() == new or backup.exists():
        assert backup.read_bytes() == old
    visible = {p.name for p in tmp_path.iterdir() if not p.name.startswith(".")}
    assert visible <= {"model.pt", "model.pt.bak"}
    # The next run removes what the killed one hid.
    if backup.exists() and not backup.samefile(path):
        backup.replace(path)
    fix(path, Fixing(in_place=True, modes="eval"))
    assert {p.name for p in tmp_path.iterdir()} == {"model.pt", "model.pt.bak"}
    assert path.read_bytes() == new
    assert backup.read_bytes() == old


def test_never_over_a_file_that_exists(tmp_path: Path) -> None:
    output = tmp_path / "mine.pt"
    output.write_bytes(b"mine")
    with pytest.raises(NormcheckError, match="exists already"):
        fix(TRAIN_MODE, Fixing(str(output), modes="eval"))
    assert output.read_bytes() == b"mine"


def test_never_over_a_backup(tmp_path: Path) -> None:
    path, backup = tmp_path / "model.pt", tmp_path / "model.pt.bak"
    path.write_bytes(TRAIN_MODE.read_bytes())
    backup.write_bytes(b"mine")
    with pytest.raises(NormcheckError, match="would have to hold the backup"):
        fix(path, Fixing(in_place=True, modes="eval"))
    assert backup.read_bytes() == b"mine"
    assert path.read_bytes() == TRAIN_MODE.read_bytes()


def test_in_place_only_when_asked(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(TRAIN_MODE.read_bytes())
    link = tmp_path / "link.pt"
    link.symlink_to(path)
    for output in (path, link):
        with pytest.raises(NormcheckError, match="is the input itself"):
            fix(path, Fixing(str(output), modes="eval"))
    result = fix(link, Fixing(in_place=True, modes="eval"))
    assert result.written is not None
    assert link.is_symlink()
    assert path.read_bytes() != TRAIN_MODE.read_bytes()
    assert (tmp_path / "model.pt.bak").read_bytes() == TRAIN_MODE.read_bytes()


def test_permissions_are_kept(tmp_path: Path) -> None:
    path, output = tmp_path / "model.pt", tmp_path / "fixed.pt"
    path.write_bytes(TRAIN_MODE.read_bytes())
    path.chmod(0o640)
    fix(path, Fixing(str(output), modes="eval"))
    assert output.stat().st_mode & 0o777 == 0o640


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(NormcheckError, match="no such folder"):
        fix(TRAIN_MODE, Fixing(str(tmp_path / "none" / "fixed.pt"), modes="eval"))
