"""The same as a process of its own: what the shell hands over, waits, limits and interruptions."""

import ctypes
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch

from normcheck.cli.main import INTERRUPTED
from tests.conftest import PATIENCE, ROOT
from tests.writing.writers import DESCRIPTORS, HEALTHY, SICK, fifo_reader, listing, make_device

_PR_CAPBSET_DROP = 24
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2


@pytest.fixture
def start() -> Iterator[Callable[..., "subprocess.Popen[bytes]"]]:
    """Starts ``normcheck`` with its streams as bytes; none outlives the test."""
    running: list[subprocess.Popen[bytes]] = []

    def started(*words: object, **more: Any) -> "subprocess.Popen[bytes]":
        more = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **more}
        process = subprocess.Popen(
            [sys.executable, "-m", "normcheck", *map(str, words)],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            **more,
        )
        running.append(process)
        return process

    yield started
    for process in running:
        process.kill()
        process.communicate()


Start = Callable[..., "subprocess.Popen[bytes]"]


def _done(process: "subprocess.Popen[bytes]") -> tuple[int, str, str]:
    out, err = process.communicate(timeout=PATIENCE)
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def test_a_device_fifo_and_link_survive(start: Start, tmp_path: Path) -> None:
    """The flag that once left a regular file where the device was."""
    make_device(tmp_path / "null", "null")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "link").symlink_to("report.json")
    reader = fifo_reader(tmp_path / "fifo")
    for place in ("null", "fifo", "link"):
        code, out, err = _done(start("scan", SICK, "-f", "json", "-o", tmp_path / place))
        assert (code, out, err) == (1, "", "")
    assert stat.S_ISCHR((tmp_path / "null").stat().st_mode)
    assert stat.S_ISFIFO((tmp_path / "fifo").stat().st_mode)
    assert (tmp_path / "link").is_symlink()
    assert reader.end() == (tmp_path / "report.json").read_bytes()


def test_a_fifo_without_a_reader_says_that_it_waits(start: Start, tmp_path: Path) -> None:
    """Even when quiet; a reader that comes late gets all of it."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = start("scan", SICK, "-q", "-f", "json-lines", "-o", fifo)
    assert process.stderr is not None
    assert (
        process.stderr.readline() == f"waiting for a program that reads the FIFO {fifo}\n".encode()
    )
    got = fifo_reader(fifo).end()
    assert _done(process)[0] == 1
    assert got.startswith(b"{")
    assert got.endswith(b"}\n")


def test_a_fifo_that_nobody_reads_ends_in_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from normcheck.errors import UsageError
    from normcheck.writing import special_files as standing
    from normcheck.writing.destination import destination_of
    from normcheck.writing.writer import written

    os.mkfifo(tmp_path / "fifo")
    monkeypatch.setattr(standing, "READER_SECONDS", 0.1)
    said: list[str] = []
    with (
        pytest.raises(UsageError, match="nobody reads this FIFO") as caught,
        written(destination_of(tmp_path / "fifo"), announce=said.append),
    ):
        pass
    assert "start its reader first" in caught.value.hint


def test_a_reader_that_stops_is_an_error(start: Start, tmp_path: Path) -> None:
    """Nothing is said of stdout that is closed early (as by head); a FIFO was asked for."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    process = start("scan", *[SICK.parent] * 2, "-q", "-f", "sarif", "-o", fifo)
    with fifo.open("rb") as file:
        time.sleep(0.01)
        file.read(0)
    code, _, err = _done(process)
    assert code == 2
    assert "fifo: cannot be written (Broken pipe)" in err
    assert "Traceback" not in err


def test_lines_come_one_by_one(tmp_path: Path) -> None:
    """Each line of JSON Lines is in the pipe before the next file is read."""
    from normcheck.cli.screen.output_places import Look, OutputPlace
    from normcheck.cli.screen.streamed_outputs import opened
    from normcheck.config.examination import Examination
    from normcheck.report.machines.as_json_lines import FORM
    from normcheck.runs.scan import parts

    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    reading = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    output = OutputPlace("json-lines", str(fifo))
    try:
        with opened([output], Look(), nullcontext, print) as sinks:
            for part in parts([SICK, HEALTHY], Examination(), wishes=FORM.needs):
                sinks.part(part)
                if part.files:
                    line = os.read(reading, 1 << 16)
                    assert Path(part.files[0]).name.encode() in line
                    assert line.endswith(b"}\n")
    finally:
        os.close(reading)


def test_what_the_shell_opened_is_written_as_it_meant(start: Start, tmp_path: Path) -> None:
    """As ``-o /dev/stdout >> log`` appends, and ``-o /dev/fd/N`` is that very descriptor."""
    log, place = tmp_path / "log", tmp_path / "link"
    for number in (1, 0):
        log.write_text("kept\n", encoding="utf-8")
        with log.open("ab") as file:
            # Links of our own to what /dev/stdout leads to: no test names the machine's.
            place.unlink(missing_ok=True)
            place.symlink_to(f"{DESCRIPTORS}/{number or file.fileno()}")
            words = ("scan", SICK, "-q", "-f", "json-lines", "-o", place)
            process = start(*words, stdout=file, pass_fds=(file.fileno(),))
        assert _done(process)[0] == 1
        text = log.read_text(encoding="utf-8")
        assert text.startswith('kept\n{"')
        assert text.endswith("}\n")
        assert place.is_symlink()


def test_stdout_that_is_full_or_closed(start: Start, tmp_path: Path) -> None:
    """An error of ours, and no exit code of Python's own."""
    make_device(tmp_path / "full", "full")
    for words in (
        ("scan", SICK, "-f", "json"), ("scan", SICK), ("rule", "NC101"), ("--help",),
        ("fix", SICK, "--modes", "eval", "-o", tmp_path / "fixed.pt"),
        ("diff", HEALTHY, HEALTHY),
    ):  # fmt: skip
        with (tmp_path / "full").open("wb") as full:
            code, _, err = _done(start(*words, stdout=full))
        assert code == 2, words
        assert "cannot be written (No space left on device)" in err
        assert "bug in normcheck" not in err
    closed = start("scan", SICK, preexec_fn=lambda: os.close(1), stdout=None)
    code, _, err = _done(closed)
    assert code == 2
    assert "error: stdout is closed" in err


def test_streams_that_are_closed(start: Start, tmp_path: Path) -> None:
    """What is written to a file needs none of them, and exit codes stay."""
    _done(start("scan", SICK, "-f", "json", "-o", tmp_path / "expected"))
    for closed in ((1,), (2,), (0, 1, 2)):
        for words, wanted in (
            (("scan", SICK, "-f", "json", "-o", tmp_path / "got"), 1),
            (("scan", tmp_path / "nothing.pt", "-f", "json", "-o", tmp_path / "got"), 2),
        ):
            process = start(
                *words,
                preexec_fn=lambda closed=closed: [os.close(number) for number in closed],
                stdout=None, stderr=None,
            )  # fmt: skip
            assert process.wait(100) == wanted
            if wanted == 1:
                assert (tmp_path / "got").read_bytes() == (tmp_path / "expected").read_bytes()


def test_fix_to_stdout(start: Start, tmp_path: Path) -> None:
    """The copy alone goes there, what is said of it to stderr."""
    code, _, _ = _done(start("fix", SICK, "--modes", "eval", "-o", tmp_path / "fixed.pt"))
    assert code == 0
    process = start("fix", SICK, "--modes", "eval", "-o", "-")
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert out == (tmp_path / "fixed.pt").read_bytes()
    assert b"stdout" in err
    assert b"21 of 21 modules set from train to eval mode" in err
    process = start("fix", HEALTHY, "--counts", "-o", "-")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (2, b"")


def _without_privileges() -> None:
    """Root that heeds the permissions of files, as everybody else does."""
    libc = ctypes.CDLL(None)
    for capability in (_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH):
        libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)


@pytest.mark.skipif(sys.platform != "linux", reason="takes privileges away as Linux does")
@pytest.mark.parametrize("old", [False, True])
def test_a_folder_that_can_only_be_read(old: bool, start: Start, tmp_path: Path) -> None:
    """Nothing is changed in it, and the old file stays."""
    folder = tmp_path / "kept"
    folder.mkdir()
    if old:
        (folder / "x.json").write_bytes(b"old")
    model = folder / "model.pt"
    model.write_bytes(SICK.read_bytes())
    folder.chmod(0o555)
    before = listing(folder)
    for words in (
        ("scan", SICK, "-f", "json", "-o", folder / "x.json"),
        ("scan", SICK, "--write-baseline", "--baseline", folder / "new.json"),
        ("scan", SICK, "--cache", folder / "new.cache"),
        ("diff", SICK, SICK, "-o", folder / "x.json"),
        ("fix", SICK, "--modes", "eval", "-o", folder / "new.pt"),
        ("fix", model, "--modes", "eval", "--in-place"),
    ):
        code, out, err = _done(start(*words, preexec_fn=_without_privileges))
        assert code == 2, words
        assert out == ""
        error, hint = err.splitlines()
        assert "cannot be written (Permission denied)" in error
        assert "hint: name a file that you may write" in hint
        assert listing(folder) == before
    folder.chmod(0o755)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)],
        capture_output=True, check=False,
    )  # fmt: skip
    if mounted.returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.skipif(sys.platform != "linux", reason="mounts a file system as Linux does")
def test_a_disk_that_is_full(start: Start, small_disk: Path) -> None:
    """Whatever is written: an error, the old file as it was, and the disk as full as before."""
    (small_disk / "old.json").write_bytes(b"old")
    (small_disk / "filler").write_bytes(bytes(48 << 10))
    before = {name: value for name, value in listing(small_disk).items() if name != "."}
    for words in (
        ("scan", SICK, "-f", "json", "-o", small_disk / "old.json"),
        ("fix", SICK, "--modes", "eval", "-o", small_disk / "new.pt"),
        ("diff", HEALTHY, SICK.parent / "statistics-lost.pt", "-f", "json", "-o",
         small_disk / "old.json"),
        ("scan", SICK, "-q", "--cache", small_disk / "new.cache"),
    ):  # fmt: skip
        code, _, err = _done(start(*words))
        after = {name: value for name, value in listing(small_disk).items() if name != "."}
        if "--cache" in words:
            # Results that cannot be kept cost the next run time, and this one nothing.
            assert code == 1
            assert "was not completed" in err
            continue
        assert code == 2, words
        assert "cannot be written (No space left on device)" in err
        assert "hint: make room there" in err
        assert after == before


def test_interrupted_in_mid_write(start: Start, tmp_path: Path) -> None:
    """Ctrl-C leaves the old file and nothing else, whatever was being written."""
    model = tmp_path / "model.pt"
    module = torch.nn.Sequential(torch.nn.Linear(4000, 4000), torch.nn.BatchNorm1d(4000))
    torch.save(module.train(), model)
    out = tmp_path / "out"
    out.mkdir()
    (out / "old.json").write_bytes(b"old")
    for words, place in (
        (("fix", model, "--modes", "eval", "-o"), out / "fixed.pt"),
        (("scan", *[SICK.parent] * 40, "-q", "-f", "json", "-o"), out / "old.json"),
    ):
        process = start(*words, place, preexec_fn=_heed_interruption)
        while process.poll() is None and not any(p.name.startswith(".") for p in out.iterdir()):
            time.sleep(0.002)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        code, _, err = _done(process)
        assert (code, err) == (INTERRUPTED, "error: interrupted\n")
        assert [path.name for path in out.iterdir()] == ["old.json"]
        assert (out / "old.json").read_bytes() == b"old"


def _heed_interruption() -> None:
    """A shell's background job ignores it, and so would what the tests start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
