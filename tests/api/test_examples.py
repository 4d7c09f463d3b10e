"""The examples of the documentation are typed, and those that need no file run."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, ROOT

pytestmark = pytest.mark.slow

STRICT = "import warnings, normcheck; warnings.simplefilter('error', normcheck.GuardWarning)"
PAGES = ("docs/python.md", "docs/training.md")


def examples() -> list[tuple[str, str]]:
    """Each block of Python with a name for it."""
    return [
        (f"{Path(page).stem}_{number}", block)
        for page in PAGES
        for number, block in enumerate(
            re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)
        )
    ]


def test_examples_are_typed(tmp_path: Path) -> None:
    """As strictly as the package itself."""
    pytest.importorskip("mypy")
    found = examples()
    assert len(found) >= 10
    for name, block in found:
        (tmp_path / f"{name}.py").write_text(block, encoding="utf-8")
    done = subprocess.run(
        [
            sys.executable, "-m", "mypy", "--strict", "--config-file", str(ROOT / "pyproject.toml"),
            *(str(tmp_path / f"{name}.py") for name, _ in found),
        ],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_the_loop_of_the_first_example_is_healthy() -> None:
    """What people copy must not be what is warned of."""
    (block,) = (text for name, text in examples() if name == "training_0")
    done = subprocess.run(
        [sys.executable, "-c", f"{STRICT}\n{block}"],
        cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "guarded for 10 steps" in done.stdout
    assert "0 errors, 0 warnings" in done.stdout
