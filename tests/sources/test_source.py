"""Where bytes come from, and what is said where they do not come."""

import gc
import os
import socket
from pathlib import Path

import pytest

from normcheck.errors import UnreadableError
from normcheck.formats.nested_archives import RegionSource
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.saved.tensors import PlainRegion
from normcheck.sources.opening import FilePart, Files
from normcheck.sources.source import FileSource, MemorySource, Source, stream, view_at, whole_of


@pytest.fixture(params=["file", "memory", "part", "region"])
def source(request, tmp_path: Path):
    """Ten bytes, 0 to 9, by themselves and within twelve."""
    data = bytes(range(10))
    (tmp_path / "twelve").write_bytes(b"[" + data + b"]")
    if request.param == "memory":
        yield MemorySource(data, "ten")
    elif request.param == "region":
        twelve = MemorySource(b"[" + data + b"]", "twelve")
        yield RegionSource(PlainRegion(twelve, 1, 10), "ten")
    elif request.param == "part":
        files = Files(tmp_path)
        yield FilePart(files, "twelve", 1, 10)
        files.close()
    else:
        path = tmp_path / "ten"
        path.write_bytes(data)
        opened = FileSource(path)
        yield opened
        opened.close()


def test_reading(source: Source) -> None:
    """Any run of bytes within the source can be read, an empty one too."""
    assert source.size == 10
    assert source.read_at(3, 4) == bytes([3, 4, 5, 6])
    assert source.read_at(10, 0) == b""


@pytest.mark.parametrize(("offset", "length"), [(8, 3), (11, 0), (-1, 2), (0, -1), (2**70, 1)])
def test_reading_outside(source: Source, offset: int, length: int) -> None:
    """A run that reaches outside is an error that names the source."""
    with pytest.raises(UnreadableError) as caught:
        source.read_at(offset, length)
    assert source.name in caught.value.message
    assert caught.value.hint


def test_stream(source: Source) -> None:
    """As a stream the source seeks from start, position and end, and ends as a file does."""
    reader = stream(source, 4)
    assert reader.read(2) == bytes([4, 5])
    assert reader.seek(-1, os.SEEK_END) == 9
    assert reader.read(5) == bytes([9])
    assert reader.read(1) == b""
    reader.seek(2)
    assert reader.seek(3, os.SEEK_CUR) == reader.tell() == 5
    reader.seek(100)
    assert reader.read() == b""


def test_file_that_shrinks(tmp_path: Path) -> None:
    """A file that another process cuts while it is open is an error, not a crash."""
    path = tmp_path / "model.pt"
    path.write_bytes(bytes(100))
    opened = FileSource(path)
    os.truncate(path, 10)
    with pytest.raises(UnreadableError, match="ends early"):
        opened.read_at(5, 50)
    opened.close()
    opened.close()


def failure(path: Path) -> UnreadableError:
    """The error of reading ``path``, checked to name it and to have a hint."""
    with pytest.raises(UnreadableError) as caught:
        read_checkpoint(path)
    assert caught.value.hint
    return caught.value


def test_missing_file(tmp_path: Path) -> None:
    """A missing file is named."""
    path = tmp_path / "none.pt"
    assert str(path) in failure(path).message


def test_folder(tmp_path: Path) -> None:
    """A folder where a file should be is an error; folders are the business of ``expand``."""
    assert "not a regular file" in failure(tmp_path).message


def test_path_through_a_file(tmp_path: Path) -> None:
    """A path that goes on below a file is an error."""
    (tmp_path / "file").touch()
    assert "file/model.pt" in failure(tmp_path / "file" / "model.pt").message


@pytest.mark.parametrize("name", ["a\0b.pt", "x" * 5000])
def test_impossible_names(name: str, tmp_path: Path) -> None:
    """A name that no file can have is an error like any other."""
    failure(tmp_path / name)


@pytest.mark.posix
def test_fifo(tmp_path: Path) -> None:
    """A FIFO that nobody writes to is refused at once."""
    path = tmp_path / "fifo.pt"
    os.mkfifo(path)
    assert "not a regular file" in failure(path).message


@pytest.mark.posix
def test_socket_and_device(tmp_path: Path, monkeypatch) -> None:
    """Sockets and devices are refused."""
    monkeypatch.chdir(tmp_path)  # a socket's path has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("model.pt")
        failure(Path("model.pt"))
    ours, theirs = os.openpty()  # a device of the test's own
    assert "not a regular file" in failure(Path(os.ttyname(theirs))).message
    os.close(ours)
    os.close(theirs)


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    """A file that this user may not read is named, with the reason."""
    path = tmp_path / "secret.pt"
    path.touch(mode=0)
    assert "permission denied" in failure(path).message


def test_permission_denied_by_the_system(tmp_path: Path, monkeypatch) -> None:
    """The same where the system says so, whoever runs the tests."""

    def denied(*_args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("normcheck.sources.source.os.open", denied)
    assert "permission denied" in failure(tmp_path / "secret.pt").message


def test_symbolic_link(tmp_path: Path) -> None:
    """Links are followed; one that leads nowhere is a missing file."""
    (tmp_path / "nowhere.pt").symlink_to(tmp_path / "gone")
    (tmp_path / "circle.pt").symlink_to(tmp_path / "circle.pt")
    assert "no such file" in failure(tmp_path / "nowhere.pt").message
    failure(tmp_path / "circle.pt")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="the system lists no descriptors")
def test_a_file_that_nobody_closes_is_given_back(tmp_path: Path) -> None:
    """A process has a thousand descriptors, and a notebook reads many files."""
    path = tmp_path / "file"
    path.write_bytes(b"bytes")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        source = FileSource(path)
        assert source.read_at(0, 5) == b"bytes"
    del source
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) <= before


def test_views_are_what_is_read(source: Source) -> None:
    """Whatever a source has at hand, a view shows the same bytes, before and after a first read."""
    for _ in range(2):
        for offset in range(11):
            length = 10 - offset
            assert bytes(view_at(source, offset, length)) == bytes(range(offset, 10))
    with pytest.raises(UnreadableError):
        view_at(source, 0, 11)


def test_views_of_a_short_file(tmp_path: Path) -> None:
    """Aligned numbers of a short file are not copied, others are; either stay behind its end."""
    path = tmp_path / "short"
    data = bytes(range(256))
    path.write_bytes(data)
    source = FileSource(path)
    assert whole_of(source) == b""
    source.read_at(0, 1)
    assert whole_of(source) == data
    aligned, between = view_at(source, 32, 8), view_at(source, 33, 8)
    assert isinstance(aligned, memoryview)
    assert aligned.readonly
    assert isinstance(between, bytes)
    source.close()
    assert bytes(aligned) == data[32:40]
    assert between == data[33:41]
    assert whole_of(source) == b""
