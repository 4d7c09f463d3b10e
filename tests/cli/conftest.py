"""The command without a process of its own, for tests that run it often."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from normcheck.cli.main import main
from normcheck.config.keys import ENVIRONMENT


@dataclass(frozen=True, slots=True)
class Ran:
    """What one call gave."""

    code: int
    out: str
    err: str


Normcheck = Callable[..., Ran]


@pytest.fixture
def normcheck(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Normcheck:
    """Runs ``normcheck`` in a folder of its own, at 80 columns and without colour."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", *ENVIRONMENT):
        monkeypatch.delenv(name, raising=False)

    def run(*words: str | Path) -> Ran:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run
