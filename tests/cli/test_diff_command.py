"""``normcheck diff`` as a user runs it: exit codes, errors, and where output goes."""

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from normcheck.cli.main import main
from tests.conftest import ROOT


@dataclass(frozen=True)
class Ended:
    """How a command ended, and what it said."""

    returncode: int
    stdout: str
    stderr: str


Command = Callable[..., Ended]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs ``normcheck`` in this process: starting one for each call takes far longer."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.delenv("FORCE_COLOR", raising=False)

    def run(*words: str) -> Ended:
        code = main(list(words))
        said = capsys.readouterr()
        return Ended(code, said.out, said.err)

    return run


HEALTHY = "sample_models/digits-healthy.pt"
SAME = "sample_models/digits-healthy.safetensors"
LOST = "sample_models/statistics-lost.pt"
FEW = "sample_models/too-few-batches.pt"
LAYERNORM = "sample_models/mlp-layernorm.pt"
MISSING = "sample_models/there-is-no-such-file.pt"


@pytest.mark.parametrize(
    ("words", "code"),
    [
        ((HEALTHY, SAME), 0),
        ((FEW, HEALTHY), 1),
        ((HEALTHY, LOST), 1),
        ((HEALTHY, LOST, "--exit-zero"), 0),
        ((FEW, HEALTHY, "--fail-on", "error"), 0),
        ((HEALTHY, LOST, "--fail-on", "error"), 1),
        ((HEALTHY, LOST, "--ignore", "NC602"), 0),
        ((HEALTHY, LOST, "--select", "NC601"), 0),
        ((HEALTHY, LOST, "--select", "stats-moved-alone"), 1),
        ((HEALTHY, LOST, "--select", "NC101"), 2),
        ((HEALTHY, LOST, "--select", "NC9"), 2),
        ((HEALTHY, LOST, "--where", "ema"), 2),
        ((HEALTHY, LOST, "--format", "xml"), 2),
        ((HEALTHY, MISSING), 2),
        ((FEW, HEALTHY, MISSING), 2),
        ((HEALTHY, LAYERNORM), 2),
        ((HEALTHY,), 2),
        ((), 2),
        (("no/such/*.pt", HEALTHY), 2),
    ],
)
def test_exit_codes(command: Command, words: tuple[str, ...], code: int) -> None:
    """As those of a scan: 0 nothing found, 1 findings, 2 not done."""
    result = command("diff", *words)
    assert result.returncode == code, result.stdout + result.stderr
    said = result.stderr.lower()
    assert ("error: " in said or "usage" in said) is (code == 2)
    assert "traceback" not in said


@pytest.mark.parametrize("words", [(HEALTHY, SAME), (HEALTHY, LOST), (HEALTHY, MISSING)])
def test_plain_call_equals_parsed_call(command: Command, words: tuple[str, ...]) -> None:
    """Files without a flag take a shorter way and get the same output."""
    plain, parsed = command("diff", *words), command("diff", "--color", "auto", *words)
    assert (plain.returncode, plain.stdout, plain.stderr) == (
        parsed.returncode,
        parsed.stdout,
        parsed.stderr,
    )


def test_errors_say_what_to_do(command: Command) -> None:
    """A missing file, one file only, and another model each get their hint."""
    missing = command("diff", HEALTHY, MISSING).stderr.splitlines()
    assert missing[0] == f"error: {MISSING}: no such file"
    assert missing[1].startswith("hint: ")
    single = command("diff", HEALTHY).stderr
    assert "diff OLD NEW" in single
    other = command("diff", HEALTHY, LAYERNORM)
    assert f"error: {LAYERNORM}: " in other.stderr
    assert "normcheck scan" in other.stderr


def test_what_could_be_compared_is_shown(command: Command) -> None:
    """2 wins over 1, and the findings are printed all the same."""
    result = command("diff", FEW, MISSING, HEALTHY)
    assert "NC602" in result.stdout
    assert "1 target failed" in result.stdout
    assert "no such file" in result.stderr


def test_quiet_is_silent_on_success(command: Command) -> None:
    """``-q`` prints findings only."""
    healthy = command("diff", "-q", HEALTHY, SAME)
    assert (healthy.returncode, healthy.stdout, healthy.stderr) == (0, "", "")
    assert "NC602" in command("diff", "-q", HEALTHY, LOST).stdout


def test_json_and_output_file(command: Command, tmp_path: Path) -> None:
    """``-o`` writes a report whole, and stdout stays empty."""
    target = tmp_path / "diff.json"
    result = command("diff", FEW, HEALTHY, "-f", "json", "-o", str(target))
    assert (result.returncode, result.stdout) == (1, "")
    value = json.loads(target.read_text(encoding="utf-8"))
    assert value["findings"][0]["rule"] == "NC602"
    assert value["comparisons"][0]["steps"][0]["motion"] == "statistics moved, weights did not"
    assert [p.name for p in tmp_path.iterdir()] == ["diff.json"]


def test_two_models_of_one_file(command: Command) -> None:
    """The same file twice is a comparison with itself."""
    assert "Nothing moved" in command("diff", HEALTHY, HEALTHY).stdout


def test_files_are_left_as_they_were(command: Command, tmp_path: Path) -> None:
    """A comparison writes nothing beside its report."""
    paths = [tmp_path / "a.pt", tmp_path / "b.pt"]
    for path, sample in zip(paths, (HEALTHY, LOST), strict=True):
        shutil.copy(sample, path)
        path.chmod(0o444)
    before = [hashlib.sha256(p.read_bytes()).digest() for p in paths]
    command("diff", *map(str, paths))
    assert [hashlib.sha256(p.read_bytes()).digest() for p in paths] == before
    assert len(list(tmp_path.iterdir())) == 2


def test_rules_are_where_a_reader_looks(command: Command) -> None:
    """Pages and the list have them; a scan does not run them and lists none as skipped."""
    assert command("rule", "nc601").stdout.startswith("# NC601 stats-stood-still")
    assert "NC604" in command("rule", "--all").stdout
    assert "NC6" not in command("scan", HEALTHY, "-v").stdout
    wrong = command("scan", HEALTHY, "--select", "NC6")
    assert wrong.returncode == 2
    assert "normcheck diff OLD NEW" in wrong.stderr


def test_start_up_imports_little() -> None:
    """Neither torch nor the parser of flags is imported for a plain call."""
    code = (
        "import sys; from normcheck.cli.main import main; "
        f"main(['diff', '{HEALTHY}', '{SAME}']); "
        "print([m for m in ('torch', 'typer', 'pydantic', 'matplotlib') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.stdout.splitlines()[-1] == "[]", result.stderr
