"""What all tests share: where the sample models are, and running the command itself."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_models"
PATIENCE = 1200.0
"""Seconds after which a process hangs, and is not merely slow: the longest takes seconds where
nothing else runs, and a hundred times as long on a machine with too much to do."""

# How long an example takes is the machine's affair.
settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("any machine")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Make a test's random weights the same whatever runs before it; skip what needs POSIX."""
    if os.name != "posix" and item.get_closest_marker("posix"):
        pytest.skip("needs signals, /proc or limits of POSIX systems")
    torch = sys.modules.get("torch")  # not imported for tests that do without
    if torch is not None:
        torch.manual_seed(0)


@pytest.fixture(autouse=True, scope="session")
def _configuration(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The user's own configuration, and the key of the user's caches, are left alone.

    Processes that tests start buffer stdout, as a user's do, wherever the tests run.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONUNBUFFERED", raising=False)
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture
def samples() -> Path:
    """The folder of the sample models."""
    return SAMPLES


@pytest.fixture
def command(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``normcheck`` as a process of its own, at 80 columns and without colour."""

    def run(*words: str, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if k not in ("FORCE_COLOR", "NO_COLOR")}
        clean |= {"COLUMNS": "80", "PYTHONUTF8": "1", **environment}
        return subprocess.run(
            [sys.executable, "-m", "normcheck", *words],
            cwd=cwd,
            env=clean,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    return run
