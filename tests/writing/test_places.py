"""Each writer, each kind of place: what is no regular file is never replaced."""

import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import Normcheck
from tests.writing.writers import (
    EACH,
    REPLACING,
    Writer,
    fifo_reader,
    files_up_to,
    listening,
    listing,
    make_device,
)


@pytest.fixture(autouse=True)
def _what_it_needs(request: pytest.FixtureRequest) -> None:
    writer = request.node.callspec.params.get("writer")
    if writer is not None and writer.name == "plot":
        pytest.importorskip("matplotlib")


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder whose name is short: a socket's path has 107 bytes."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def _expected(writer: Writer, normcheck: Normcheck, folder: Path) -> tuple[int, bytes]:
    """What the run gives in a plain new file."""
    plain = folder / "plain.png"
    code = normcheck(*writer.words(str(plain))).code
    content = plain.read_bytes()
    plain.unlink()
    assert code in {0, 1}
    assert content
    return code, content


@EACH
def test_a_device_stays_one(writer: Writer, normcheck: Normcheck, tmp_path: Path) -> None:
    device = tmp_path / "null.png"
    make_device(device, "null")
    before = device.stat()
    code, _ = _expected(writer, normcheck, tmp_path)
    ran = normcheck(*writer.words(str(device)))
    assert ran.code == code, ran.err
    after = device.stat()
    assert stat.S_ISCHR(after.st_mode)
    assert (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)
    assert [path.name for path in tmp_path.iterdir()] == ["null.png"]


@EACH
def test_a_device_that_is_full(writer: Writer, normcheck: Normcheck, tmp_path: Path) -> None:
    device = tmp_path / "full.png"
    make_device(device, "full")
    ran = normcheck(*writer.words(str(device)))
    assert ran.code == 2
    assert "full.png: cannot be written (No space left on device)" in ran.err
    assert "hint: make room" in ran.err
    assert stat.S_ISCHR(device.stat().st_mode)
    assert [path.name for path in tmp_path.iterdir()] == ["full.png"]


@EACH
def test_a_fifo_is_written_into(writer: Writer, normcheck: Normcheck, tmp_path: Path) -> None:
    code, content = _expected(writer, normcheck, tmp_path)
    fifo = tmp_path / "fifo.png"
    os.mkfifo(fifo)
    reader = fifo_reader(fifo)
    ran = normcheck(*writer.words(str(fifo)))
    assert ran.code == code, ran.err
    assert stat.S_ISFIFO(fifo.stat().st_mode)
    assert reader.end() == content


@EACH
def test_a_socket_is_written_into(
    writer: Writer, normcheck: Normcheck, tmp_path: Path, short: Path
) -> None:
    code, content = _expected(writer, normcheck, short)
    place = short / "socket.png"
    with listening(place) as reader:
        ran = normcheck(*writer.words(str(place)))
        assert ran.code == code, ran.err
        assert reader.end() == content
    assert stat.S_ISSOCK(place.stat().st_mode)
    # Nobody listens any more, and the file is still there.
    ran = normcheck(*writer.words(str(place)))
    assert ran.code == 2
    assert "cannot be written (Connection refused)" in ran.err
    assert "hint: start the program that listens there" in ran.err
    assert stat.S_ISSOCK(place.stat().st_mode)


@REPLACING
def test_a_link_is_followed(writer: Writer, normcheck: Normcheck, tmp_path: Path) -> None:
    """Through a chain of links, relative ones too; what they lead to is replaced, and no link."""
    code, content = _expected(writer, normcheck, tmp_path)
    (tmp_path / "deep").mkdir()
    target = tmp_path / "deep" / "real.png"
    _old(target, writer)
    inode = target.stat().st_ino
    (tmp_path / "first.png").symlink_to("second.png")
    (tmp_path / "second.png").symlink_to(Path("deep", "real.png"))
    ran = normcheck(*writer.words(str(tmp_path / "first.png")))
    assert ran.code == code, ran.err
    assert (tmp_path / "first.png").readlink() == Path("second.png")
    assert (tmp_path / "second.png").readlink() == Path("deep", "real.png")
    assert target.stat().st_ino != inode  # in one step, not over the old bytes
    assert target.read_bytes() == content
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "deep", "first.png", "real.png", "second.png",
    ]  # fmt: skip


@EACH
def test_a_dangling_link_gets_its_file(
    writer: Writer, normcheck: Normcheck, tmp_path: Path
) -> None:
    code, content = _expected(writer, normcheck, tmp_path)
    link = tmp_path / "link.png"
    link.symlink_to("later.png")
    ran = normcheck(*writer.words(str(link)))
    assert ran.code == code, ran.err
    assert link.readlink() == Path("later.png")
    assert (tmp_path / "later.png").read_bytes() == content


@EACH
@pytest.mark.parametrize(
    ("place", "says", "hint"),
    [
        ("none/x.png", "no such folder", "mkdir -p"),
        (".", "is a folder", "name a file in it"),
        ("loop.png", "Too many levels of symbolic links", "lead to each other"),
        ("dangling.png", "no such folder", "mkdir -p"),
        ("a-file/x.png", "Not a directory", "is a file, not a folder"),
        (f"{'x' * 300}.png", "File name too long", "shorter name"),
    ],
)
def test_places_that_are_none(
    writer: Writer, place: str, says: str, hint: str, normcheck: Normcheck, tmp_path: Path
) -> None:
    """An error with a hint, before any work is done, and nothing is left behind."""
    (tmp_path / "loop.png").symlink_to("pool.png")
    (tmp_path / "pool.png").symlink_to("loop.png")
    (tmp_path / "dangling.png").symlink_to(Path("gone", "x.png"))
    (tmp_path / "a-file").touch()
    before = listing(tmp_path)
    ran = normcheck(*writer.words(place))
    assert ran.code == 2
    assert ran.out == ""
    error, advice = ran.err.splitlines()
    assert says in error
    assert hint in advice
    assert listing(tmp_path) == before


@EACH
def test_a_block_device_is_refused(writer: Writer, normcheck: Normcheck, tmp_path: Path) -> None:
    """What it holds would be overwritten from its beginning; it is not even opened."""
    device = tmp_path / "disk.png"
    try:
        os.mknod(device, stat.S_IFBLK | 0o600, os.makedev(7, 251))
    except PermissionError:
        pytest.skip("no device can be made here")
    ran = normcheck(*writer.words(str(device)))
    assert ran.code == 2
    assert "disk.png is a block device: what it holds would be overwritten" in ran.err
    assert stat.S_ISBLK(device.stat().st_mode)


@REPLACING
def test_a_full_disk_keeps_the_old_file(
    writer: Writer, normcheck: Normcheck, tmp_path: Path
) -> None:
    place = tmp_path / "old.png"
    _old(place, writer)
    before = listing(tmp_path)
    del before["."]  # the folder's own time moves as the hidden file comes and goes
    with files_up_to(20):
        ran = normcheck(*writer.words(str(place)))
    assert ran.code == 2
    assert "old.png: cannot be written (File too large)" in ran.err
    assert "hint: a limit on the size of files" in ran.err
    after = listing(tmp_path)
    del after["."]
    assert after == before


@EACH
def test_a_full_disk_leaves_nothing(writer: Writer, normcheck: Normcheck, tmp_path: Path) -> None:
    with files_up_to(20):
        ran = normcheck(*writer.words("new.png"))
    assert ran.code == 2
    assert "new.png: cannot be written (File too large)" in ran.err
    assert list(tmp_path.iterdir()) == []


def _old(place: Path, writer: Writer) -> None:
    """A file that the writer replaces; a baseline is read before."""
    if writer.name == "baseline":
        place.write_text('{"version": 1, "entries": []}', encoding="utf-8")
    else:
        place.write_bytes(b"old")


@REPLACING
def test_owner_and_permissions_are_kept(
    writer: Writer, normcheck: Normcheck, tmp_path: Path
) -> None:
    place = tmp_path / "kept.png"
    _old(place, writer)
    place.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(place, 12345, 23456)
    attribute = _attribute(place)
    before = place.stat()
    assert normcheck(*writer.words(str(place))).code in {0, 1}
    after = place.stat()
    assert after.st_ino != before.st_ino
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip
    if attribute:
        assert os.getxattr(place, "user.note") == b"mine"


def _attribute(place: Path) -> bool:
    try:
        os.setxattr(place, "user.note", b"mine")
    except (AttributeError, OSError):
        return False
    return True


@EACH
def test_new_files_heed_the_umask(writer: Writer, normcheck: Normcheck, tmp_path: Path) -> None:
    """A report is open to whom the umask says; a copy of a model to nobody beyond the model's."""
    old = os.umask(0o027)
    try:
        assert normcheck(*writer.words("new.png")).code in {0, 1}
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "new.png").stat().st_mode) == 0o640


@REPLACING
def test_a_write_protected_file_stays(
    writer: Writer, normcheck: Normcheck, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its folder alone would let it be replaced. Root may write all: the system is asked."""
    place = tmp_path / "kept.png"
    _old(place, writer)
    place.chmod(0o444)
    if os.geteuid() == 0:
        real = os.access
        monkeypatch.setattr(
            os, "access",
            lambda path, mode, **more: mode != os.W_OK and real(path, mode, **more),
        )  # fmt: skip
    before = place.read_bytes()
    ran = normcheck(*writer.words(str(place)))
    assert ran.code == 2
    assert "kept.png: cannot be written (the file is write-protected)" in ran.err
    assert place.read_bytes() == before


@REPLACING
def test_the_other_hard_links_keep_the_old(
    writer: Writer, normcheck: Normcheck, tmp_path: Path
) -> None:
    place, other = tmp_path / "one.png", tmp_path / "other.png"
    _old(place, writer)
    other.hardlink_to(place)
    old = other.read_bytes()
    assert normcheck(*writer.words(str(place))).code in {0, 1}
    assert other.read_bytes() == old
    assert place.read_bytes() != old
    assert (other.stat().st_nlink, place.stat().st_nlink) == (1, 1)


@EACH
def test_long_names(writer: Writer, normcheck: Normcheck, tmp_path: Path) -> None:
    """As long as the file system takes them: the hidden name is not longer."""
    name = f"{'é' * 125}.png"  # 254 bytes
    ran = normcheck(*writer.words(name))
    assert ran.code in {0, 1}, ran.err
    assert [path.name for path in tmp_path.iterdir()] == [name]
