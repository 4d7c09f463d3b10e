"""A repaired copy of a file that is larger than the memory: it is never held there."""

import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from normcheck.repair.repair_request import Fixing
from normcheck.runs.fix import fix
from normcheck.writing.streams import FileOut
from tests.conftest import PATIENCE

_MEGABYTE = 1 << 20
_LARGE = 256 * _MEGABYTE


def _held() -> int:
    """Bytes of memory that this process holds itself: pages of files do not count."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) << 10


def _saved(kind: str, count: float, path: Path) -> None:
    state = {
        "conv.weight": torch.zeros(_LARGE // 4),
        "bn.weight": torch.ones(4),
        "bn.bias": torch.zeros(4),
        "bn.running_mean": torch.zeros(4),
        "bn.running_var": torch.ones(4),
        "bn.num_batches_tracked": torch.tensor(count),
    }
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory")
@pytest.mark.parametrize(
    ("kind", "count"),
    [("zip", -5), ("legacy", -5), ("safetensors", -5), ("zip", 4.5), ("safetensors", 4.5)],
)
@pytest.mark.parametrize("place", ["fixed.pt", "fifo"])
def test_memory_does_not_grow_with_the_file(
    kind: str, count: float, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes replaced (a negative count) and files written anew (one in floating point)."""
    path, output = tmp_path / "large.pt", tmp_path / place
    _saved(kind, count, path)
    if place == "fifo":
        import os
        import subprocess

        os.mkfifo(output)
        reader = subprocess.Popen(["wc", "-c", str(output)], stdout=subprocess.PIPE)
    most = 0
    real = FileOut.write

    def watched(self: FileOut, data: bytes | memoryview) -> int:
        nonlocal most
        most = max(most, _held())
        return real(self, data)

    monkeypatch.setattr(FileOut, "write", watched)
    before = _held()
    result = fix(path, Fixing(str(output), counts=True))
    assert result.written is not None
    assert bool(result.written.anew) == (count > 0)
    assert result.written.size > _LARGE
    if place == "fifo":
        out, _ = reader.communicate(timeout=PATIENCE)
        assert int(out.split()[0]) == result.written.size
    assert most
    assert most - before < 64 * _MEGABYTE
