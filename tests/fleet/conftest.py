"""A folder of checkpoints of all sorts, for every engine."""

import shutil
from pathlib import Path

import pytest

from tests.fleet.deadly import write_model


@pytest.fixture
def mixed(tmp_path: Path, samples: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Healthy, sick, broken and unrelated files, in the folder where the user stands."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for name in ("digits-healthy.pt", "statistics-lost.pt", "mixed-modes-module.pt"):
        shutil.copy(samples / name, folder)
    for number in range(8):
        write_model(folder / f"epoch-{number}.safetensors", mean=float(number))
    (folder / "cut-off.pt").write_bytes((samples / "digits-healthy.pt").read_bytes()[:5000])
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00")
    monkeypatch.chdir(tmp_path)
    return Path("runs")
