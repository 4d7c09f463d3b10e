"""The plugin, in sessions of pytest of its own: fixture, option, and several workers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT

pytestmark = pytest.mark.slow

TESTS = """
import torch
from torch import nn


def network():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
    for _ in range(60):
        net(torch.randn(8, 3, 8, 8) * 2 + 1)
    return net.eval()


def test_healthy(normcheck):
    data = torch.randn(64, 3, 8, 8) * 2 + 1
    report = normcheck(network(), data=data, select=["NC1", "NC4"])
    assert report.models


def test_sick(normcheck):
    net = network()
    nn.init.normal_(net[1].weight)
    nn.init.normal_(net[1].bias)
    net[1].reset_running_stats()
    normcheck(net)
"""


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A session that knows the plugin by its module, installed or not."""
    return subprocess.run(
        [
            sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:normcheck",
            "-p", "normcheck.integrations.pytest_plugin", "-o", "addopts=", "-q", *words,
        ],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "test_models.py").write_text(TESTS, encoding="utf-8")
    (tmp_path / "models").symlink_to(ROOT / "sample_models")
    return tmp_path


def test_the_fixture_fails_with_the_finding(folder: Path) -> None:
    """At the line of the test; none of our own lines is shown."""
    done = run(folder, "test_models.py")
    assert "1 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "1 batch norm layer was never updated" in done.stdout
    assert ">       normcheck(net)" in done.stdout or ">   normcheck(net)" in done.stdout
    assert "api/scan.py" not in done.stdout


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_each_checkpoint_is_a_test(folder: Path, workers: tuple[str, ...]) -> None:
    """Healthy ones pass, sick ones fail with their findings; workers share them."""
    if workers:
        pytest.importorskip("xdist")
    names = ("models/digits-healthy.pt", "models/statistics-lost.pt", "models/nan-statistics.pt")
    words = [word for name in names for word in ("--normcheck", name)]
    done = run(folder, *words, *workers, "-k", "normcheck:", "-rA")
    assert "2 failed, 1 passed" in done.stdout, done.stdout + done.stderr
    assert "were never updated" in done.stdout
    assert "NC104" in done.stdout
    assert "Traceback" not in done.stdout
    assert f"normcheck:{names[0]}" in done.stdout


def test_a_folder_that_holds_none_is_an_error(folder: Path) -> None:
    """Of usage: no session without the tests that were asked for."""
    (folder / "empty").mkdir()
    done = run(folder, "--normcheck", "empty")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no checkpoint under empty" in done.stderr + done.stdout


def test_settings_of_the_project_hold(folder: Path) -> None:
    """An ignore in its configuration does."""
    (folder / "normcheck.toml").write_text('ignore = ["NC101"]\n', encoding="utf-8")
    done = run(folder, "--normcheck", "models/statistics-lost.pt", "-k", "normcheck:")
    assert "1 passed" in done.stdout, done.stdout + done.stderr


def test_the_plugin_is_registered_and_light() -> None:
    """By its entry point; importing it imports neither torch nor numpy."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert 'normcheck = "normcheck.integrations.pytest_plugin"' in text
    code = (
        "import sys, normcheck.integrations.pytest_plugin\n"
        "assert not {'torch', 'numpy', 'rich'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
