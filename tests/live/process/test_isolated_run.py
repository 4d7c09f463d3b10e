"""Models that would take the audit down with them: an error of the report, and it goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from normcheck.cli.flags.limit_words import isolation, read_limits, size_in_bytes
from normcheck.errors import UsageError
from normcheck.live.process.process_link import BOOT
from tests.conftest import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.posix]

CODE = """
import ctypes, os, sys, time
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        print("printed by the model")
        return self.norm(x)


class Exits(Net):
    def forward(self, x):
        os._exit(0)


class Raises(Net):
    def forward(self, x):
        sys.exit(3)


class Crashes(Net):
    def forward(self, x):
        ctypes.string_at(0)


class Sleeps(Net):
    def forward(self, x):
        open("started", "w").close()
        while True:
            time.sleep(1)


class Eats(Net):
    def forward(self, x):
        self.eaten = []
        while True:
            self.eaten.append(torch.ones(5_000_000))
            time.sleep(0.01)


NAMES = ("Net", "Exits", "Raises", "Crashes", "Sleeps", "Eats")
if __name__ == "__main__":
    import badly

    for name in NAMES:
        torch.save(getattr(badly, name)(), f"{name}.pt")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the models lie, and their code."""
    path = tmp_path_factory.mktemp("badly")
    (path / "badly.py").write_text(CODE)
    subprocess.run([sys.executable, "badly.py"], cwd=path, check=True, timeout=PATIENCE)
    return path


def started(folder: Path, *words: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-m", "normcheck", "scan", *words, "--input-shape", "4", "-q"],
        cwd=folder, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell's background job ignores Ctrl-C, and so would all that it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  (no threads yet)
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "flags", "said"),
    [
        ("Exits", (), "the model's code ended its process with exit code 0"),
        ("Raises", (), "the model's code raised SystemExit"),
        ("Crashes", (), "the model's code crashed its process (SIGSEGV)"),
        ("Sleeps", ("--time-limit", "12"), "the run was stopped after 12 seconds"),
        ("Eats", ("--memory-limit", "900M"), "more than 0.9 GB of memory"),
    ],
)
def test_what_ends_a_process(name: str, flags: tuple[str, ...], said: str, folder: Path) -> None:
    """Each is an error that says what happened; the file is judged all the same."""
    process = started(folder, f"{name}.pt", "--trust", *flags, "-f", "json")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert said in err
    # What runs is said before it runs.
    assert err.index("--trust unpickles it") < err.index(said)
    assert f"badly.{name}" in err.splitlines()[0]
    assert '"norm"' in out


def test_what_a_model_prints(folder: Path) -> None:
    """It goes to stderr: stdout is the report's."""
    process = started(folder, "Net.pt", "--trust", "-f", "json")
    out, err = process.communicate(timeout=PATIENCE)
    assert "printed by the model" in err
    assert out.startswith("{")
    assert "not run" not in err


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_interrupted(folder: Path) -> None:
    """Ctrl-C ends the run and the process that it was in."""
    (folder / "started").unlink(missing_ok=True)
    process = started(folder, "Sleeps.pt", "--trust")
    until = time.monotonic() + PATIENCE
    while process.poll() is None and not (folder / "started").exists() and time.monotonic() < until:
        time.sleep(0.1)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert children
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_folder_called_normcheck(tmp_path: Path) -> None:
    """A folder of that name where the user stands is not taken for the program."""
    package = tmp_path / "normcheck"
    package.mkdir()
    (package / "__init__.py").write_text("open('stolen', 'w')")
    boot = BOOT.format(module="normcheck.live.process.child_process")
    command = [sys.executable, "-P", "-c", boot, json.dumps(sys.path), "1"]
    process = subprocess.run(
        command, cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "child_process.py" in process.stderr  # ours, which has been given no link
    assert not (tmp_path / "stolen").exists()


def test_sizes() -> None:
    """Sizes as people write them, and limits by name."""
    assert [size_in_bytes(t, "-") for t in ("7", "2K", "1.5g", "3 GiB")] == [
        7, 2048, 3 << 29, 3 << 30,
    ]  # fmt: skip
    assert read_limits(["memory-bytes=1G", "opcodes=5"]).memory_bytes == 1 << 30
    assert isolation(5, "1G", off=True) is None
    bad: list[Callable[[], object]] = [
        lambda: size_in_bytes("much", "--memory-limit"),
        lambda: read_limits(["memory=1"]),
        lambda: read_limits(["opcodes"]),
        lambda: read_limits(["opcodes=-1"]),
    ]
    for call in bad:
        with pytest.raises(UsageError):
            call()
