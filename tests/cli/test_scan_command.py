"""The command as a user runs it: exit codes, errors, and where output goes."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

Command = Callable[..., subprocess.CompletedProcess[str]]

HEALTHY = "sample_models/digits-healthy.pt"
SICK = "sample_models/statistics-lost.pt"
WORSE = "sample_models/nan-statistics.pt"
MISSING = "sample_models/there-is-no-such-file.pt"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((HEALTHY,), 0),
        ((SICK,), 1),
        ((WORSE,), 1),
        ((MISSING,), 2),
        ((SICK, MISSING), 2),
        ((HEALTHY, MISSING), 2),
        ((SICK, "--exit-zero"), 0),
        ((MISSING, "--exit-zero"), 2),
        ((SICK, "--fail-on", "error"), 0),
        ((WORSE, "--fail-on", "error"), 1),
        ((SICK, "--ignore", "NC101"), 0),
        ((SICK, "--ignore", "NC1", "--select", "never-updated-stats"), 1),
        ((SICK, "--select", "NC2"), 0),
        ((HEALTHY, "--strict"), 2),
        (("sample_models/digits-healthy-module.pt", "--strict"), 0),
        ((HEALTHY, "--select", "NC9"), 2),
        ((HEALTHY, "--format", "xml"), 2),
        ((HEALTHY, "--no-such-flag"), 2),
        ((), 2),
        (("tests/cli",), 3),
        (("no/such/*.pt",), 2),
    ],
)
def test_exit_codes(command: Command, words: tuple[str, ...], code: int) -> None:
    """Every way to end has its code: 0 clean, 1 findings, 2 not done, 3 nothing to check."""
    result = command("scan", *words)
    assert result.returncode == code, result.stdout + result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("words", [(SICK,), (HEALTHY, SICK), (MISSING,), ("tests/cli",)])
def test_plain_call_equals_parsed_call(command: Command, words: tuple[str, ...]) -> None:
    """Targets without a flag take a shorter way and get the same output."""
    plain, parsed = command("scan", *words), command("scan", "--color", "auto", *words)
    assert (plain.returncode, plain.stdout, plain.stderr) == (
        parsed.returncode,
        parsed.stdout,
        parsed.stderr,
    )


def test_one_unreadable_target_does_not_stop_the_others(command: Command) -> None:
    """What could be read is reported, what could not is an error with a hint."""
    result = command("scan", HEALTHY, MISSING, SICK)
    assert "digits-healthy.pt" in result.stdout
    assert "never updated" in result.stdout
    assert "1 target failed" in " ".join(result.stdout.split())
    assert result.stderr.splitlines() == [
        f"error: {MISSING}: no such file",
        "hint: check the path; a folder or a pattern works too",
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>Sign in</body></html>", "web page"),
        (b"GGUF\x03\x00\x00\x00", "GGUF"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"PK\x03\x04 and then nothing", "zip archive whose directory cannot be read"),
        (b"\x80\x02K\x01.", "no model"),
        (b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00echoR.", "no model"),
        (b"hello", "not a checkpoint format"),
    ],
)
def test_unreadable_files_say_what_and_what_next(
    command: Command, tmp_path: Path, content: bytes, says: str
) -> None:
    """Exit 2, one line what, one line what to do."""
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    result = command("scan", str(path))
    assert result.returncode == 2
    error, hint = result.stderr.splitlines()
    assert error.startswith(f"error: {path}: ")
    assert says in error
    assert hint.startswith("hint: ")
    assert result.stdout == ""


def test_the_file_is_left_as_it_was(command: Command, tmp_path: Path) -> None:
    """A scan changes neither bytes nor times of what it reads, and leaves nothing beside it."""
    path = tmp_path / "model.pt"
    shutil.copy("sample_models/digits-healthy-module.pt", path)
    path.chmod(0o444)
    before = hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns
    command("scan", str(path))
    assert (hashlib.sha256(path.read_bytes()).digest(), path.stat().st_mtime_ns) == before
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_output_file_is_whole_or_not_there(command: Command, tmp_path: Path) -> None:
    """``-o`` writes the report to the file and nothing to stdout; a bad place is exit 2."""
    target = tmp_path / "report.json"
    result = command("scan", SICK, "-f", "json", "-o", str(target))
    assert (result.returncode, result.stdout) == (1, "")
    assert json.loads(target.read_text())["findings"][0]["rule"] == "NC101"
    assert [p.name for p in tmp_path.iterdir()] == ["report.json"]
    nowhere = command("scan", SICK, "-o", str(tmp_path / "no" / "such" / "folder.txt"))
    assert nowhere.returncode == 2
    assert "cannot be written" in nowhere.stderr


def test_quiet_is_silent_on_success(command: Command) -> None:
    """``-q`` prints nothing for healthy models and the findings of sick ones."""
    healthy = command("scan", "-q", HEALTHY, "sample_models/mlp-batchnorm.pt")
    assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, "", "")
    assert "NC101" in command("scan", "-q", SICK).stdout


def test_no_torch_is_imported(command: Command) -> None:
    """A scan works where importing torch would end the process."""
    code = (
        "import sys; sys.modules['torch'] = None; "
        "from normcheck.cli.main import main; "
        "sys.exit(main(['scan', 'sample_models', '-q']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1, result.stderr
    assert "NC101" in result.stdout


def test_color_follows_flag_and_environment(command: Command) -> None:
    """Colour on request only: not in a pipe, not with NO_COLOR, but with FORCE_COLOR."""
    escape = "\x1b["
    assert escape not in command("scan", SICK).stdout
    assert escape in command("scan", SICK, "--color", "always").stdout
    assert escape in command("scan", SICK, FORCE_COLOR="1").stdout
    assert escape not in command("scan", SICK, FORCE_COLOR="1", NO_COLOR="1").stdout
    assert escape not in command("scan", SICK, "--color", "never", FORCE_COLOR="1").stdout


@pytest.mark.parametrize("flags", [[], ["-v"], ["-f", "json-lines"]])
def test_closed_pipe_is_no_crash(flags: list[str]) -> None:
    """``normcheck scan … | head -1`` says nothing more."""
    words = [sys.executable, "-m", "normcheck", "scan", "sample_models", *flags]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 2


@pytest.mark.parametrize("flags", [(), ("--min-severity", "error"), ("--min-confidence", "high")])
def test_json_lines_are_those_of_json(command: Command, flags: tuple[str, ...]) -> None:
    """With nothing suppressed, where models are not kept, and with findings that are."""
    words = ("scan", SICK, HEALTHY, "--exit-zero", *flags)
    whole = json.loads(command(*words, "-f", "json").stdout)
    *lines, summary = map(json.loads, command(*words, "-f", "json-lines").stdout.splitlines())
    for name in ("models", "findings", "suppressed", "skipped"):
        assert [entry for line in lines for entry in line[name]] == whole[name]
    assert summary["summary"]["suppressed"] == len(whole["suppressed"])


def test_rule_and_kinds_pages(command: Command) -> None:
    """Pages by code and by name, in any case, and a suggestion for a misspelt word."""
    page = command("rule", "nc101").stdout
    assert page.startswith("# NC101 never-updated-stats")
    assert page == command("rule", "never-updated-stats").stdout
    wrong = command("rule", "never-updated-stat")
    assert wrong.returncode == 2
    assert "did you mean NC101" in wrong.stderr
    assert "mini-batch" in command("kinds", "batchnorm2d").stdout
    assert command("kinds", "nothing").returncode == 2
    assert "NC506" in command("rule", "--all").stdout


@pytest.mark.parametrize(
    ("flags", "package"), [([], "numpy"), (["-f", "json"], "numpy"), (["--run"], "numpy")]
)
def test_what_is_not_installed_is_named(flags: list[str], package: str) -> None:
    """A folder that was copied, without what it needs, is not a bug to report."""
    # -S: the interpreter without any installed package.
    words = [sys.executable, "-S", "-m", "normcheck", "scan", SICK, *flags]
    root = Path(__file__).parents[2]
    ran = subprocess.run(words, capture_output=True, text=True, check=False, cwd=root)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert f"needs the package {package}" in ran.stderr
    assert "-m pip install normcheck" in ran.stderr
