"""Buckets, read from a real S3-compatible server."""

from pathlib import Path
from typing import Any

import pytest
import torch

import normcheck
from normcheck.config.examination import Examination
from normcheck.fleet import file_task as task
from normcheck.fleet.fleet_request import Fleet
from normcheck.formats.targets import Target, expand
from normcheck.pipeline.examine import examine
from normcheck.pipeline.results import FileResult
from normcheck.sources.place import RemotePath
from normcheck.sources.remote import file_systems as remote
from normcheck.sources.remote.remote_source import RemoteSource
from tests.sources.remote.conftest import convolutional

pytestmark = pytest.mark.slow


def put(bucket: str, name: str, path: Path) -> str:
    """Uploads a file; its address."""
    filesystem, _ = remote.connect(RemotePath(bucket))
    filesystem.put(str(path), f"{bucket}/{name}")
    return f"{bucket}/{name}"


@pytest.fixture
def address(bucket: str, large: Path) -> str:
    """Of the large file in the bucket."""
    return put(bucket, "run/large.pt", large)


def test_same_report_as_of_the_copy(address: str, large: Path) -> None:
    """What is found in the object is what is found in the file."""
    there, here = normcheck.scan([address]), normcheck.scan([str(large)])
    assert there.errors == ()
    assert there.models[0].layers == here.models[0].layers
    assert [f.message for f in there.findings] == [f.message for f in here.findings]


def test_bytes_and_requests(address: str, large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The norms of a file cost a hundredth of it."""
    sources: list[RemoteSource] = []
    connected = RemoteSource._connected

    def counted(self: RemoteSource):  # type: ignore[no-untyped-def]
        sources.append(self)
        return connected(self)

    monkeypatch.setattr(RemoteSource, "_connected", counted)
    normcheck.scan([address], Examination(weights_budget=0))
    (source,) = sources
    assert source.requests <= 8
    assert source.fetched < 0.02 * large.stat().st_size


def test_folders_and_patterns(bucket: str, address: str, tmp_path: Path) -> None:
    """Folders are searched, patterns matched, and a rank's folder is one target."""
    torch.save(torch.nn.BatchNorm1d(4).state_dict(), tmp_path / "small.pt")
    put(bucket, "run/deep/small.pt", tmp_path / "small.pt")
    put(bucket, "run/deep/readme.txt", tmp_path / "small.pt")
    put(bucket, "run/__pycache__/small.pt", tmp_path / "small.pt")
    small = f"{bucket}/run/deep/small.pt"
    assert [str(t.path) for t in expand([f"{bucket}/run"])] == [address, small]
    assert [str(t.path) for t in expand([f"{bucket}/run/"])] == [address, small]
    assert [str(t.path) for t in expand([f"{bucket}/run/*/*.pt"])] == [
        f"{bucket}/run/__pycache__/small.pt", small,
    ]  # fmt: skip
    assert len(normcheck.scan([f"{bucket}/run"]).models) == 2


def test_distributed_folder(bucket: str, tmp_path: Path) -> None:
    """A folder of torch.distributed.checkpoint in a bucket is one model."""
    import torch.distributed.checkpoint as dcp

    state = convolutional(blocks=3)
    dcp.save({"model": state}, checkpoint_id=tmp_path / "step")
    for file in sorted((tmp_path / "step").iterdir()):
        put(bucket, f"dcp/step-1/{file.name}", file)
    report = normcheck.scan([f"{bucket}/dcp"])
    assert report.errors == ()
    (model,) = report.models
    assert model.target == f"{bucket}/dcp/step-1/"
    assert len(model.layers) == 3


def test_what_is_known_of_an_object_is_not_read_again(
    bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as the store gives it the same tag, also where this process knows a listing."""
    read: list[str] = []

    def counted(target: Target, *how: Any) -> FileResult:
        read.append(target.path.name)
        return examine(target, *how)

    monkeypatch.setattr(task, "examine", counted)
    fleet = Fleet(cache=tmp_path / "cache")
    norm = torch.nn.BatchNorm1d(4)
    for name in ("a.pt", "b.pt"):
        torch.save(norm.state_dict(), tmp_path / name)
        put(bucket, f"known/{name}", tmp_path / name)
    for expected in (["a.pt", "b.pt"], []):
        assert len(normcheck.scan([f"{bucket}/known"], fleet=fleet).models) == 2
        assert read == expected
        read.clear()
    torch.save({**norm.state_dict(), "running_mean": torch.ones(4)}, tmp_path / "b.pt")
    elsewhere = type(remote.connect(RemotePath(bucket))[0])(skip_instance_cache=True)
    elsewhere.put(str(tmp_path / "b.pt"), f"{bucket}/known/b.pt")
    normcheck.scan([f"{bucket}/known"], fleet=fleet)
    assert read == ["b.pt"]


@pytest.mark.parametrize("name", ["missing.pt", "missing", "missing/*.pt"])
def test_what_is_not_there(bucket: str, name: str) -> None:
    """A missing object and a pattern without a match are errors that name them."""
    (error,) = normcheck.scan([f"{bucket}/{name}"]).errors
    assert name in error.message
    assert error.hint


def test_missing_bucket(bucket: str) -> None:
    """So is a bucket that does not exist."""
    (error,) = normcheck.scan(["s3://no-such-bucket/model.pt"]).errors
    assert "no such file" in error.message


def test_keys_in_the_address_are_not_shown(bucket: str, command) -> None:  # type: ignore[no-untyped-def]
    """Whoever writes them there gets an error without them."""
    done = command("scan", "s3://AKIA123:t0psecret@models/run/large.pt")
    assert done.returncode == 2
    assert "t0psecret" not in done.stdout + done.stderr
    assert "AKIA123" not in done.stdout + done.stderr


def test_no_credentials(bucket: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without credentials the hint says how one signs in."""
    import s3fs

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        (error,) = normcheck.scan([f"{bucket}/run/large.pt"]).errors
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
    assert "credentials" in error.message or "denied" in error.message
    assert "AWS_PROFILE" in error.hint
