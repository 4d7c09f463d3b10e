"""Flags for many files, as the command line has them."""

import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from normcheck.cli.flags.limit_words import isolation
from normcheck.cli.screen import progress
from normcheck.fleet import file_task as task
from normcheck.formats.targets import Target
from normcheck.pipeline.examine import examine
from normcheck.pipeline.results import FileResult
from tests.cli.conftest import Normcheck


@pytest.fixture
def runs(tmp_path: Path, samples: Path) -> Path:
    """A folder with three checkpoints."""
    folder = tmp_path / "runs"
    folder.mkdir()
    for name in ("digits-healthy.pt", "statistics-lost.pt", "nan-statistics.pt"):
        shutil.copy(samples / name, folder)
    return folder


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--engine", "ray", "--jobs", "2"], "Ray counts its own"),
        (["--ray-address", "auto"], "--ray-address belongs to --engine ray"),
        (["--gpus-per-task", "1"], "--gpus-per-task belongs to --engine ray"),
        (["--cpus-per-task", "0"], "--cpus-per-task belongs to --engine ray"),
        (["--jobs", "0"], "'--jobs' / '-j'"),
        (["--cache", "no/such/folder/file"], "no such folder"),
        (["--cache", "cache", "--run"], "a run also depends"),
    ],
)
def test_flags_that_do_not_go_together(
    normcheck: Normcheck, runs: Path, words: list[str], said: str
) -> None:
    """An error that names the flag, before anything is scanned."""
    ran = normcheck("scan", runs, *words)
    assert (ran.code, ran.out) == (2, "")
    assert said in ran.err


def test_exit_codes_and_outputs_are_those_of_one_process(normcheck: Normcheck, runs: Path) -> None:
    """Several forms at once, each with its file, from two processes and a cache."""
    words = ["-f", "text", "-f", "json-lines", "-f", "sarif", "-o", "-", "-o", "a", "-o", "b"]
    one = normcheck("scan", "runs", *words, "--jobs", "1")
    kept = Path("a").read_bytes(), Path("b").read_bytes()
    for more in (["--jobs", "2", "--cache", "cache"], ["--cache", "cache"]):
        assert normcheck("scan", "runs", *words, *more) == one
        assert (Path("a").read_bytes(), Path("b").read_bytes()) == kept
    assert one.code == 1


def test_lines_are_written_as_files_are_done(
    normcheck: Normcheck, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the second file is read, the line of the first is there already."""
    seen: list[int] = []

    def watched(target: Target, *how: Any) -> FileResult:
        seen.append(len(sys.stdout.getvalue().splitlines()))  # type: ignore[attr-defined]
        return examine(target, *how)

    monkeypatch.setattr(task, "examine", watched)
    assert normcheck("scan", "runs", "-f", "json-lines", "--jobs", "1").code == 1
    assert seen == [0, 1, 2]


def test_a_file_is_there_whole_or_not_at_all(
    normcheck: Normcheck, runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An interruption leaves what was there before, and nothing half."""
    Path("out.jsonl").write_text("before")

    def interrupted(target: Target, *how: Any) -> FileResult:
        if target.path.name == "nan-statistics.pt":
            raise KeyboardInterrupt
        return examine(target, *how)

    monkeypatch.setattr(task, "examine", interrupted)
    assert normcheck("scan", "runs", "-f", "json-lines", "-o", "out.jsonl").code == 130
    assert Path("out.jsonl").read_text() == "before"
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["out.jsonl", "runs"]
    assert normcheck("scan", "runs", "-f", "json", "-o", "no/folder/x").code == 2


def test_lines_are_a_form_of_scan(normcheck: Normcheck, runs: Path) -> None:
    """A comparison is about several files at once."""
    ran = normcheck("diff", *sorted(runs.iterdir())[:2], "-f", "json-lines")
    assert ran.code == 2
    assert "--format json" in ran.err


def test_runs_side_by_side_share_the_memory() -> None:
    """The default bound is for all together; one that is given is for each."""
    alone, four = isolation(1, "", off=False), isolation(1, "", jobs=4, off=False)
    assert alone
    assert four
    assert four.memory_bytes == alone.memory_bytes // 4
    given = isolation(1, "8G", jobs=4, off=False)
    assert given
    assert given.memory_bytes == 8 << 30


def on_a_terminal(*words: str) -> Iterator[str]:
    """What a command writes to a terminal that is its stderr and, apart, its stdout."""
    ours, theirs = pty.openpty()
    code = (
        "import sys; from normcheck.cli.screen import progress; progress._SOON_SECONDS = 0; "
        "progress._REDRAW_SECONDS = 0; from normcheck.cli.main import main; "
        "sys.exit(main(sys.argv[1:]))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, *words],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100"},
    ) as process:  # fmt: skip
        os.close(theirs)
        said = b""
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            said += part
        os.close(ours)
        assert process.stdout is not None
        yield said.decode()
        yield process.stdout.read().decode()


def test_a_bar_on_a_terminal_and_only_there(normcheck: Normcheck, runs: Path) -> None:
    """Files done, of how many, on stderr; stdout has the report and nothing else."""
    target = str(runs)
    shown, out = on_a_terminal("scan", target, "-f", "json-lines", "--jobs", "1")
    assert "files" in shown
    assert "of 3 files" in shown
    assert [json.loads(line)["kind"] for line in out.splitlines()] == ["file"] * 3 + ["summary"]
    quiet, _ = on_a_terminal("scan", target, "--quiet", "--jobs", "1")
    assert "files" not in quiet
    assert normcheck("scan", target, "--jobs", "1").err == ""


def test_a_short_scan_has_no_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is done within a second sees the answer and nothing before it."""
    bar = progress.Bar(["."], shown=True)
    bar.files(1)
    bar.files(2)
    assert bar._bar is None
