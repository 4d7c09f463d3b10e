"""Regular files, whole or not at all: hidden files, file systems that lack something, failures."""

import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from normcheck.errors import NormcheckError, UsageError
from normcheck.repair.repair_request import Fixing
from normcheck.runs.fix import fix
from normcheck.writing import temporary_file as hidden
from normcheck.writing.atomic_file import try_out
from normcheck.writing.destination import Destination, Kind, destination_of
from normcheck.writing.writer import written
from tests.writing.writers import SICK, files_up_to, listing, make_device


def _write(path: Path, content: bytes) -> None:
    with written(destination_of(path)) as out:
        out.write(content)


def _interrupted(
    path: Path, meanwhile: Callable[[], object], *, new: bool = False, content: bytes = b"new"
) -> None:
    """Writes, and lets something happen before the end."""
    with written(destination_of(path), new=new) as out:
        out.write(content)
        meanwhile()


def _raising(error: BaseException | type[BaseException]) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_nothing_is_there_before_the_end(tmp_path: Path) -> None:
    path = tmp_path / "report"
    with written(destination_of(path)) as out:
        out.write(b"one")
        assert not path.exists()
        assert [name.startswith(".report.") for name in _names(tmp_path)] == [True]
        out.text(" two")
    assert path.read_bytes() == b"one two"
    assert _names(tmp_path) == ["report"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, OSError])
def test_a_block_that_fails_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    """Whatever it was, it is not taken for an error of the output; the old file stays."""
    path = tmp_path / "report"
    path.write_bytes(b"old")
    before = listing(tmp_path)
    del before["."]
    with pytest.raises(error):
        _interrupted(path, _raising(error))
    after = listing(tmp_path)
    del after["."]
    assert after == before


def test_ctrl_c_while_the_hidden_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is removed all the same: a run that was interrupted leaves nothing."""
    interrupted: list[Path] = []

    def unlink(path: Path, *, missing_ok: bool = False) -> None:
        if not interrupted:
            interrupted.append(path)
            raise KeyboardInterrupt
        _unlink(path, missing_ok=missing_ok)

    _unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", unlink)
    with pytest.raises(KeyboardInterrupt):
        try_out(destination_of(tmp_path / "report"))
    assert len(interrupted) == 1
    assert _names(tmp_path) == []


def test_a_library_that_hides_the_reason(tmp_path: Path) -> None:
    """What a full disk becomes in a library is told in the system's words."""

    def library() -> None:
        with written(destination_of(tmp_path / "x")) as out:
            try:
                out.write(bytes(100))
            except UsageError as error:
                raise RuntimeError("unexpected pos 64 vs 0") from error

    with files_up_to(10), pytest.raises(UsageError, match="File too large"):
        library()
    assert _names(tmp_path) == []


def test_what_a_killed_run_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "report"
    with written(destination_of(path)) as out:
        out.write(b"half")
        (left,) = tmp_path.iterdir()
        kept = left.read_bytes()
    left.write_bytes(kept)  # as if the run had been killed
    _write(path, b"new")
    assert _names(tmp_path) == ["report"]


def test_two_runs_write_the_same_file(tmp_path: Path) -> None:
    """Neither takes the other's hidden file for a leftover; the last to end has the last word."""
    path = tmp_path / "report"
    with written(destination_of(path)) as first:
        first.write(b"first")
        with written(destination_of(path)) as second:
            second.write(b"second")
            assert len(_names(tmp_path)) == 2
        assert path.read_bytes() == b"second"
        _write(path, b"third")
    assert path.read_bytes() == b"first"
    assert _names(tmp_path) == ["report"]


def test_hidden_names_that_others_hold(tmp_path: Path) -> None:
    """Folders, links and FIFOs of those names stay, and are not followed."""
    names = [path.name for path in hidden._names(tmp_path / "x")][:4]
    (tmp_path / names[0]).mkdir()
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / names[1]).symlink_to("precious")
    os.mkfifo(tmp_path / names[2])
    (tmp_path / names[3]).symlink_to("nowhere")
    before = _names(tmp_path)
    _write(tmp_path / "x", b"new")
    assert _names(tmp_path) == sorted([*before, "x"])
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert (tmp_path / "x").read_bytes() == b"new"


def test_a_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written all the same; what a killed run left there stays."""
    import fcntl

    def none(*_: object) -> None:
        raise OSError(errno.ENOTSUP, "no locks")

    monkeypatch.setattr(fcntl, "flock", none)
    left = next(hidden._names(tmp_path / "x"))
    left.write_bytes(b"left")
    _write(tmp_path / "x", b"new")
    assert _names(tmp_path) == sorted([left.name, "x"])


def test_a_place_that_was_exchanged(tmp_path: Path) -> None:
    """Between the look and the end of a long run something else came there: it stays."""
    path = tmp_path / "x"
    with pytest.raises(UsageError, match="was replaced by something else"):
        _interrupted(path, lambda: os.mkfifo(path))
    assert stat.S_ISFIFO(path.stat().st_mode)
    place = destination_of(path)
    path.unlink()
    make_device(path, "null")
    with pytest.raises(UsageError, match="was replaced by something else"), written(place):
        pass
    assert stat.S_ISCHR(path.stat().st_mode)


def test_a_file_that_is_mounted_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers do it: the system does not replace it, and the error says what does."""

    def busy(self: Path, target: Path) -> Path:
        raise OSError(errno.EBUSY, "Device or resource busy")

    path = tmp_path / "x"
    path.write_bytes(b"old")
    monkeypatch.setattr(Path, "replace", busy)
    with pytest.raises(UsageError, match="busy") as caught:
        _write(path, b"new")
    assert "mount its folder" in caught.value.hint
    assert path.read_bytes() == b"old"
    assert _names(tmp_path) == ["x"]


def test_a_file_without_a_name(tmp_path: Path) -> None:
    """What another process has open, and whose name is gone, is written into as it stands."""
    if not Path("/proc/self/fd").is_dir():
        pytest.skip("no /proc")
    path = tmp_path / "x"
    pid = os.getpid()
    with path.open("wb+") as file:
        path.unlink()
        child = os.fork()
        if not child:
            place = destination_of(f"/proc/{pid}/fd/{file.fileno()}")
            with written(place) as out:
                out.write(b"new")
            os._exit(0 if place.kind is Kind.NAMELESS else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert os.pread(file.fileno(), 10, 0) == b"new"
    assert _names(tmp_path) == []


def test_an_owner_that_cannot_be_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the file is the writer's, and nobody else may do more with it than before."""
    path = tmp_path / "x"
    path.write_bytes(b"old")
    path.chmod(0o4760)
    if os.geteuid() != 0:
        pytest.skip("to give a file away takes root")
    os.chown(path, 12345, 23456)
    path.chmod(0o4760)

    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "fchown", refused)
    _write(path, b"new")
    status = path.stat()
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())
    assert stat.S_IMODE(status.st_mode) == 0o700


def test_a_lasting_failure_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be forced to the disk is not said to be written."""
    for code, lasting in ((errno.EIO, True), (errno.EINVAL, False)):

        def failing(_: int, code: int = code) -> None:
            raise OSError(code, os.strerror(code))

        monkeypatch.setattr(os, "fsync", failing)
        path = tmp_path / f"x{code}"
        if lasting:
            with pytest.raises(UsageError, match="Input/output error"):
                _write(path, b"new")
        else:
            _write(path, b"new")
        assert path.exists() != lasting
    assert len(_names(tmp_path)) == 1


@pytest.mark.parametrize("links", [True, False])
def test_a_copy_never_replaces_what_came_meanwhile(
    links: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on a file system without hard links."""
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", _no_links)
    path = tmp_path / "x"
    with pytest.raises(UsageError, match="exists already"):
        _interrupted(path, lambda: path.write_bytes(b"mine"), new=True)
    assert path.read_bytes() == b"mine"
    path.unlink()
    with written(destination_of(path), new=True) as out:
        out.write(b"new")
    assert path.read_bytes() == b"new"
    assert _names(tmp_path) == ["x"]


def _no_links(_self: Path, _target: Path) -> None:
    raise OSError(errno.EPERM, "Operation not permitted")


def test_a_backup_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A copy then, with the mode, owner and time of the file."""
    monkeypatch.setattr(Path, "hardlink_to", _no_links)
    path = tmp_path / "model.pt"
    path.write_bytes(SICK.read_bytes())
    path.chmod(0o640)
    os.utime(path, ns=(10**18, 10**18))
    before = path.stat()
    fix(path, Fixing(in_place=True, modes="eval"))
    backup = tmp_path / "model.pt.bak"
    assert backup.read_bytes() == SICK.read_bytes()
    assert backup.stat().st_mode == path.stat().st_mode == before.st_mode
    assert backup.stat().st_mtime_ns == before.st_mtime_ns
    assert _names(tmp_path) == ["model.pt", "model.pt.bak"]


def test_in_place_that_fails_leaves_no_backup(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(SICK.read_bytes())
    with files_up_to(20000), pytest.raises(NormcheckError, match="File too large"):
        fix(path, Fixing(in_place=True, modes="eval"))
    assert _names(tmp_path) == ["model.pt"]

    def busy(self: Path, target: Path) -> Path:
        raise OSError(errno.EBUSY, "Device or resource busy")

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", busy)
        with pytest.raises(NormcheckError, match="busy"):
            fix(path, Fixing(in_place=True, modes="eval"))
    assert _names(tmp_path) == ["model.pt"]
    assert path.read_bytes() == SICK.read_bytes()
    assert path.stat().st_nlink == 1


def test_in_place_keeps_owner_and_attributes(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(SICK.read_bytes())
    path.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(path, 12345, 23456)
    before = path.stat()
    fix(path, Fixing(in_place=True, modes="eval"))
    after = path.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode, before.st_uid, before.st_gid,
    )  # fmt: skip


def test_in_place_of_a_protected_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(SICK.read_bytes())
    path.chmod(0o444)
    if os.geteuid() == 0:
        monkeypatch.setattr(os, "access", lambda *_, **__: False)
    with pytest.raises(NormcheckError, match="write-protected"):
        fix(path, Fixing(in_place=True, modes="eval"))
    assert path.read_bytes() == SICK.read_bytes()
    assert _names(tmp_path) == ["model.pt"]


def test_what_goes_into_a_pipe_was_looked_at_before(tmp_path: Path) -> None:
    """A check that fails lets nothing out."""
    place = tmp_path / "null"
    make_device(place, "null")
    seen: list[bytes] = []

    def forbidden(copy: Path) -> None:
        seen.append(copy.read_bytes())
        raise UsageError("no")

    with (
        pytest.raises(UsageError, match="no"),
        written(destination_of(place), check=forbidden) as out,
    ):
        out.write(b"all of it")
    assert seen == [b"all of it"]


def test_descriptors_that_are_closed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Bad file descriptor"):
        destination_of("/dev/fd/987")
    with pytest.raises(UsageError, match="null character"):
        destination_of("a\0b")
    with pytest.raises(UsageError, match="is the name of a folder"):
        destination_of("")
    with pytest.raises(UsageError, match="is the name of a folder"):
        destination_of(f"{tmp_path}/new/")
    assert destination_of("-") == Destination("-", Kind.STDOUT)
