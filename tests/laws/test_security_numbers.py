"""Numbers and names that SECURITY.md gives, where no other test says them."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from normcheck import platforms
from normcheck.cli.flags import limit_words as bounds
from normcheck.cli.flags.run_words import requested
from normcheck.config.flags.running_flags import RunFlags
from normcheck.errors import UsageError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.live.feeding import user_data as data
from normcheck.live.feeding.user_data import read_data
from normcheck.live.run_request import Feeding
from normcheck.sources.limits import DEFAULT_LIMITS
from normcheck.sources.place import RemotePath
from normcheck.sources.remote import remote_source
from normcheck.sources.remote.http_ranges import Answer
from normcheck.sources.remote.remote_source import KEPT, RemoteSource

Command = Callable[..., subprocess.CompletedProcess[str]]
TEXT = " ".join((Path(__file__).resolve().parents[2] / "SECURITY.md").read_text().split())


def test_memory_of_a_file_s_structure_ends_at_2_gib() -> None:
    """The default, which the tests of appetites hold the readers to."""
    assert "counted while it is built and ends at 2 GiB" in TEXT
    assert DEFAULT_LIMITS.memory_bytes == 2 << 30


def test_a_limit_is_named_and_raised_by_its_flag(command: Command, tmp_path: Path) -> None:
    """The hint of the error is a flag that makes the file readable."""
    torch.save(nn.BatchNorm1d(4).state_dict(), tmp_path / "a.pt")
    assert command("scan", "a.pt", cwd=tmp_path).returncode == 0
    low = ("--limit", "opcodes=5")
    ran = command("scan", "a.pt", *low, cwd=tmp_path)
    assert ran.returncode == 2
    found = re.search(r"--limit opcodes=", ran.stderr)
    assert found
    again = command("scan", "a.pt", *low, "--limit", "opcodes=1M", cwd=tmp_path)
    assert again.returncode == 0


@pytest.mark.parametrize("line", ["limit = ['opcodes=5']", "limits = { opcodes = 5 }"])
def test_a_configuration_raises_no_limit(command: Command, tmp_path: Path, line: str) -> None:
    """There is no such key."""
    torch.save(nn.BatchNorm1d(4).state_dict(), tmp_path / "a.pt")
    (tmp_path / "normcheck.toml").write_text(line)
    ran = command("scan", "a.pt", cwd=tmp_path)
    assert ran.returncode == 2
    assert "unknown key" in ran.stderr


def test_bounds_of_the_process_in_which_models_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """600 seconds, and three quarters of the machine's memory, shared by those at once."""
    assert "600 seconds and three quarters of the machine's memory" in TEXT
    pages = {"SC_PHYS_PAGES": 1000, "SC_PAGE_SIZE": 4096}
    monkeypatch.setattr(platforms.os, "sysconf", pages.__getitem__)
    apart = bounds.isolation(600.0, "", jobs=2, off=False)
    assert apart is not None
    assert apart.memory_bytes == 3 * 1000 * 4096 // 4 // 2
    running = requested(RunFlags(run=True))
    assert running is not None
    assert running.isolation is not None
    assert running.isolation.seconds == 600


def test_what_is_kept_of_a_remote_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than the bound, whatever is read of it; the same bytes all the same."""
    assert "up to 128 MiB are kept" in TEXT
    assert KEPT == 128 << 20
    monkeypatch.setattr(remote_source, "KEPT", 1 << 20)
    monkeypatch.setattr(remote_source, "READ_AHEAD", 1 << 15)
    content = bytes(range(256)) * (1 << 14)

    def part(_: object, start: int, length: int) -> Answer:
        return Answer(content[start : start + length], start, len(content), "v1")

    monkeypatch.setattr(RemoteSource, "_connected", lambda self: lambda s, n: part(self, s, n))
    source = RemoteSource(RemotePath("https://host.example/a.pt"))
    for offset in range(0, len(content) - 50_000, 49_999):
        assert source.read_at(offset, 50_000) == content[offset : offset + 50_000]
        assert sum(map(len, source._kept.values())) <= 1 << 20


def test_a_shard_may_be_a_link(tmp_path: Path) -> None:
    """As download caches have them; the index itself cannot lead out of its folder."""
    import json

    from safetensors.torch import save_file

    tensors = nn.BatchNorm1d(4).state_dict()
    save_file(tensors, tmp_path / "blob")
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model-00001-of-00001.safetensors").symlink_to(tmp_path / "blob")
    index = folder / "model.safetensors.index.json"
    names = dict.fromkeys(tensors, "model-00001-of-00001.safetensors")
    index.write_text(json.dumps({"weight_map": names}))
    checkpoint = read_checkpoint(index)
    assert set(checkpoint.models[0].tensors) == set(tensors)
    checkpoint.close()


def test_data_of_the_oldest_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this torch could run something in it; a zip is read by every version."""
    old, new = tmp_path / "old.pt", tmp_path / "new.pt"
    torch.save(torch.randn(8, 4), old, _use_new_zipfile_serialization=False)
    torch.save(torch.randn(8, 4), new)
    for file in (old, new):
        assert read_data(Feeding(data=str(file)), nn.Identity()).items[0].shape == (8, 4)
    monkeypatch.setattr(data, "_WITHOUT_TAR", torch.torch_version.TorchVersion("99.0"))
    with pytest.raises(UsageError, match="old form") as caught:
        read_data(Feeding(data=str(old)), nn.Identity())
    assert ".npz" in caught.value.hint
    assert read_data(Feeding(data=str(new)), nn.Identity()).items[0].shape == (8, 4)
