"""The matrix of exit codes: every way to end, in every form of the report."""

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from normcheck.config.choices import FORMATS
from normcheck.errors import NormcheckError
from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.rules.catalogue import RULES
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.limits import Limits
from tests.cli.conftest import Normcheck

HEALTHY, MODULE = "digits-healthy.pt", "digits-healthy-module.pt"
WARNED, WRONG, MILD = "statistics-lost.pt", "nan-statistics.pt", "mlp-batchnorm-module.pt"


@pytest.fixture
def mixed(tmp_path: Path, samples: Path) -> Path:
    """A folder with healthy, sick and unreadable checkpoints, and a file of another program."""
    folder = tmp_path / "mixed"
    folder.mkdir()
    for name in (HEALTHY, WARNED, WRONG):
        shutil.copy(samples / name, folder)
    (folder / "cut-off.pt").write_bytes((samples / HEALTHY).read_bytes()[:5000])
    (folder / "tokenizer.model").write_bytes(b"\n\x0e\n\x05<unk>\x15\x00")
    (folder / "notes.txt").write_text("no checkpoint")
    return folder


STATES: dict[str, tuple[list[str], dict[str, int]]] = {
    # files, and the code by flags: none, --exit-zero, --fail-on error, --strict
    "healthy": ([MODULE], {"": 0, "-e": 0, "--fail-on=error": 0, "--strict": 0}),
    "skipped": ([HEALTHY], {"": 0, "-e": 0, "--fail-on=error": 0, "--strict": 2}),
    "info": ([MILD], {"": 0, "-e": 0, "--fail-on=error": 0, "--strict": 0}),
    "warning": ([WARNED], {"": 1, "-e": 0, "--fail-on=error": 0, "--strict": 2}),
    "error": ([WRONG], {"": 1, "-e": 0, "--fail-on=error": 1, "--strict": 2}),
    "unreadable": (["nothing.pt"], {"": 2, "-e": 2, "--fail-on=error": 2, "--strict": 2}),
    "both": ([WRONG, "nothing.pt"], {"": 2, "-e": 2, "--fail-on=error": 2, "--strict": 2}),
    "empty": (["@"], {"": 3, "-e": 3, "--fail-on=error": 3, "--strict": 3}),
}
CELLS = [(state, flag) for state, (_, codes) in STATES.items() for flag in codes]


@pytest.mark.parametrize(("state", "flag"), CELLS)
def test_matrix(normcheck: Normcheck, samples: Path, state: str, flag: str) -> None:
    """State of the targets times flags, written to a file in every form at once."""
    files, codes = STATES[state]
    Path("empty").mkdir()
    targets = ["empty" if name == "@" else str(samples / name) for name in files]
    words = [word for form in FORMATS for word in ("-f", form, "-o", f"report.{form}")]
    ran = normcheck("scan", *targets, *words, *([flag] if flag else []))
    assert ran.code == codes[flag], ran.err
    assert "Traceback" not in ran.err
    written = {path.name for path in Path.cwd().iterdir()}
    assert {f"report.{form}" for form in FORMATS} <= written


@pytest.mark.parametrize("form", FORMATS)
def test_a_folder_of_everything(normcheck: Normcheck, mixed: Path, form: str) -> None:
    """Unreadable wins over sick, and what was found is reported in each form."""
    ran = normcheck("scan", mixed.name, "-f", form, "-o", "report")
    assert ran.code == 2
    report = Path("report").read_text(encoding="utf-8")
    for said in ("statistics-lost.pt", "NC104", "cut-off.pt", "digits-healthy.pt"):
        assert said in report
    assert "error: " in ran.err
    assert "hint: " in ran.err


def test_a_rule_that_breaks(
    normcheck: Normcheck, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It costs its own verdict, the code is 2, and only -vv shows the traceback."""

    def broken(_subject: object) -> list[object]:
        raise RecursionError("too deep")

    rules = (*RULES[:2], replace(RULES[2], check=broken))
    monkeypatch.setattr("normcheck.config.merge.select", lambda *_: rules)
    target = samples / WARNED
    ran = normcheck("scan", target, "-f", "json", "--exit-zero")
    assert ran.code == 2
    value = json.loads(ran.out)
    assert [finding["rule"] for finding in value["findings"]] == ["NC101"]
    assert [error["rule"] for error in value["errors"]] == ["NC103"]
    assert "RecursionError: too deep" in ran.err
    assert "Traceback" not in ran.err
    for loud in (["-vv"], ["-v", "-v"], ["--verbose", "--verbose"]):
        assert "Traceback" in normcheck("scan", target, *loud).err


@pytest.mark.parametrize("place", ["read_checkpoint", "anatomy_of", "scan", "render"])
@pytest.mark.parametrize("error", [ValueError("odd"), SystemExit(0), SystemExit(1), MemoryError()])
def test_no_crash_looks_like_a_verdict(
    normcheck: Normcheck,
    samples: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    error: BaseException,
) -> None:
    """Whatever breaks wherever, the code is 2 and the error has a hint."""

    def broken(*_: object, **__: object) -> None:
        raise error

    home = {
        "scan": "normcheck.cli.commands.scan_command.parts",
        "render": "normcheck.report.form.Whole.end",
    }.get(place, f"normcheck.pipeline.examine.{place}")
    monkeypatch.setattr(home, broken)
    ran = normcheck("scan", samples / MODULE, "-f", "sarif", "-o", "out.sarif")
    assert ran.code == 2
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err


@pytest.mark.parametrize("words", [[], ["--engine", "local"]])
@pytest.mark.parametrize("wrapped", [None, RuntimeError, NormcheckError])
def test_an_interruption_stays_one(
    normcheck: Normcheck,
    samples: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    wrapped: type[Exception] | None,
) -> None:
    """Whatever Ctrl-C falls into and becomes there, with the parser and without."""

    def interrupted(*_: object, **__: object) -> None:
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt as error:
            if wrapped is None:
                raise
            raise wrapped("something went wrong") from error

    monkeypatch.setattr("normcheck.cli.commands.scan_command.parts", interrupted)
    ran = normcheck("scan", samples / MODULE, *words)
    assert (ran.code, ran.err) == (130, "error: interrupted\n")


def test_one_file_that_breaks_the_reader_does_not_stop_the_others(
    normcheck: Normcheck, mixed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bug in the reader is that file's error."""

    def broken(path: Path, limits: Limits) -> Checkpoint:
        if path.name == HEALTHY:
            raise IndexError("a bug")
        return read_checkpoint(path, limits)

    monkeypatch.setattr("normcheck.pipeline.examine.read_checkpoint", broken)
    ran = normcheck("scan", mixed)
    assert ran.code == 2
    assert "reading it failed: IndexError: a bug" in ran.err
    assert "NC101" in ran.out


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--fail-on", "info"], "--fail-on"),
        (["--min-severity", "fatal"], "--min-severity"),
        (["--config", "no.toml"], "no.toml"),
        (["--config", "no.toml", "--no-config"], "contradict"),
        (["--baseline", "no.json"], "no such baseline"),
        (["--baseline", "."], "cannot be read"),
        (["-f", "json", "--statistics"], "--statistics"),
        (["-f", "json", "-f", "text"], "two formats for stdout"),
        (["-f", "json", "-f", "text", "-o", "a", "-o", "a"], "two formats for a"),
        (["-o", "a", "-o", "b"], "2 output files for 1 format"),
        (["--select", "NC9"], "no rule is called"),
        (["--extend-select", "nonsense"], "no rule is called"),
        (["--plot"], "--plot"),
        (["-f", "sarif", "-o", "no/such/folder/x.sarif"], "cannot be written"),
        (["--write-baseline", "--baseline", "no/such/folder/x.json"], "cannot be written"),
    ],
)
def test_wrong_words(normcheck: Normcheck, samples: Path, words: list[str], says: str) -> None:
    """Exit 2, an error that names the word, a hint, and no report."""
    ran = normcheck("scan", samples / MODULE, *words)
    assert ran.code == 2
    error = ran.err.splitlines()[0]
    assert error.startswith("error: ")
    assert says in error
    assert list(Path.cwd().iterdir()) == []


def test_unpickling_is_not_done(normcheck: Normcheck) -> None:
    """A file that would write another when loaded is an error, and nothing is written."""

    class Attack:
        def __reduce__(self) -> tuple[object, tuple[str, str]]:
            return open, ("pwned", "w")

    Path("attack.pt").write_bytes(pickle.dumps(Attack(), protocol=2))
    assert normcheck("scan", "attack.pt", "-f", "sarif").code == 2
    assert not Path("pwned").exists()


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["model.pt"], "hint: to scan it: normcheck scan model.pt"),
        (["runs"], "hint: to scan it: normcheck scan runs"),
        (["runs/*.pt", "-q"], "hint: to scan it: normcheck scan runs/*.pt"),
        (["https://host/m.pt?sig=s3cr3t"], "hint: to scan it: normcheck scan https://host/m.pt"),
        (["scna", "model.pt"], "hint: did you mean normcheck scan?"),
        (["what"], "hint: see 'normcheck --help'"),
        (["fix", "--at", "ema", "model.pt"], "hint: did you mean --where?"),
    ],
)
def test_what_may_have_been_meant(
    normcheck: Normcheck, tmp_path: Path, words: list[str], hint: str
) -> None:
    """A file without a command, a slip, a flag that has another name: exit 2 with the way out."""
    (tmp_path / "runs").mkdir()
    ran = normcheck(*words)
    assert (ran.code, ran.out) == (2, "")
    assert hint in ran.err
    assert "s3cr3t" not in ran.err


@pytest.mark.parametrize(
    "words",
    [
        ("scan", ""),
        ("scan", "model.pt", ""),
        ("scan", "model.pt", "--data", ""),
        ("scan", "model.pt", "--data="),
        ("scan", "model.pt", "--baseline", ""),
        ("scan", "model.pt", "-o", ""),
        ("diff", "", "model.pt"),
        ("fix", "", "--modes", "eval", "-o", "fixed.pt"),
    ],
    ids=" ".join,
)
def test_an_empty_word_is_no_folder_and_no_flag_left_out(
    words: tuple[str, ...], command: Normcheck, samples: Path, tmp_path: Path
) -> None:
    """A variable of the shell that is not set: a check that did not run must not look like one."""
    shutil.copy(samples / HEALTHY, tmp_path / "model.pt")
    done = command(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "an empty word" in done.stderr
    assert "is the variable set?" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("flag", ["--select", "--ignore"])
def test_an_empty_list_of_rules_changes_nothing(
    flag: str, command: Normcheck, samples: Path
) -> None:
    """As a variable without rules in it leaves it."""
    model = str(samples / HEALTHY)
    assert command("scan", model, flag, "").stdout == command("scan", model).stdout
