"""Configuration, baselines and outputs as a user meets them on the command line."""

import json
import re
import shutil
import tomllib
from pathlib import Path

import pytest

from normcheck.rules.catalogue import RULES
from tests.cli.conftest import Normcheck

WARNED = "statistics-lost.pt"

CONFIG = """
[tool.normcheck]
fail-on = "error"
ignore = ["NC504"]

[tool.normcheck.models."runs/*.pt"]
model = "detector.net:build"
data = "calibration.npz"

[tool.normcheck.per-layer-ignores]
"stem.*" = { rules = ["NC101"], reason = "frozen % stem" }

[tool.normcheck.rules.under-warmed-stats]
max-residue = 0.05
"""


@pytest.fixture
def project(tmp_path: Path, samples: Path) -> Path:
    """A project with a configuration and a model whose statistics were lost."""
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    (tmp_path / "runs").mkdir()
    shutil.copy(samples / WARNED, tmp_path / "runs")
    return tmp_path


def test_a_plain_call_reads_the_configuration(
    project: Path, normcheck: Normcheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The short way without flags knows it too, also from a folder below and from variables."""
    plain = normcheck("scan", "runs")
    assert plain == normcheck("scan", "--color", "auto", "runs")
    assert plain.code == 0
    assert "ignored by 'stem.*': frozen % stem" in " ".join(plain.out.split())
    monkeypatch.setenv("NORMCHECK_FAIL_ON", "warning")
    assert normcheck("scan", "runs").code == 1
    monkeypatch.setenv("NORMCHECK_FORMAT", "json")
    monkeypatch.chdir(project / "runs")
    below = normcheck("scan", WARNED)
    assert json.loads(below.out)["suppressed"][0]["layers"] == ["stem.norm"]


def test_no_config_and_config(project: Path, normcheck: Normcheck) -> None:
    """One reads nothing, the other something else."""
    assert normcheck("scan", "runs").code == 0
    assert normcheck("scan", "runs", "--no-config").code == 1
    Path("other.toml").write_text('ignore = ["NC1"]')
    assert normcheck("scan", "runs", "--config", "other.toml", "--fail-on", "warning").code == 0
    Path("pyproject.toml").write_text("[tool.normcheck]\nfail_on = 'error'")
    ran = normcheck("scan", "runs")
    assert ran.code == 2
    assert ran.out == ""
    assert "error: pyproject.toml: fail_on: unknown key" in ran.err
    assert "did you mean fail-on?" in ran.err
    assert normcheck("scan", "runs", "--no-config").code == 1


def test_show_settings_says_who_set_what(
    project: Path, normcheck: Normcheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    """TOML with the origin of each value, without scanning anything."""
    monkeypatch.setenv("NORMCHECK_FORMAT", "sarif")
    words = ["--show-settings", "--min-severity", "warning", "runs/nothing.pt", "x.pt"]
    ran = normcheck("scan", *words)
    assert (ran.code, ran.err) == (0, "")
    lines = dict(re.findall(r"(?m)^(.+?)  +# (.+)$", ran.out))
    assert lines['fail-on = "error"'] == "pyproject.toml"
    assert lines['format = "sarif"'] == "NORMCHECK_FORMAT"
    assert lines['min-severity = "warning"'] == "--min-severity"
    assert lines["strict = false"] == "default"
    assert lines["max-residue = 0.05"] == "pyproject.toml"
    assert lines['model = "detector.net:build"'] == "pyproject.toml"
    assert '# runs/nothing.pt: models."runs/*.pt"' in ran.out
    assert "# x.pt: no entry of its own" in ran.out
    assert f"{len(RULES) - 1} of {len(RULES)} rules: NC101" in ran.out
    # What is printed can be read back as it is.
    value = tomllib.loads(ran.out)
    assert value["models"]["runs/*.pt"]["data"] == str(project / "calibration.npz")
    assert value["per-layer-ignores"]["stem.*"]["reason"] == "frozen % stem"
    assert "configuration file: none" in normcheck("scan", "--show-settings", "--no-config").out


def test_unused_ignores_are_reported(project: Path, normcheck: Normcheck) -> None:
    """In text and elsewhere, but not with -q."""
    Path("normcheck.toml").write_text('per-layer-ignores."neck.*" = ["NC101"]')
    said = "the per-layer ignore 'neck.*' of NC101 matched no finding"
    assert said in " ".join(normcheck("scan", "runs").out.split())
    assert json.loads(normcheck("scan", "runs", "-f", "json").out)["unused"][0]["message"] == said
    assert said not in normcheck("scan", "runs", "-q").out


def test_a_baseline_from_first_to_last(project: Path, normcheck: Normcheck, samples: Path) -> None:
    """Written, believed, moved with its folder, outgrown, and told what it has too much."""
    Path("pyproject.toml").unlink()
    first = normcheck("scan", "runs", "--write-baseline")
    assert first.code == 0
    assert first.err.splitlines()[0] == "wrote 6 entries to normcheck-baseline.json"
    assert "suppressed 1 finding, in the baseline" in first.out
    known = ["--baseline", "normcheck-baseline.json"]
    assert normcheck("scan", "runs", *known).code == 0
    assert normcheck("scan", "runs", "-q", *known).out == ""
    assert normcheck("scan", "runs").code == 1
    # Another model is new, and writing anew keeps the first.
    shutil.copy(samples / "nan-statistics.pt", "runs/new.pt")
    fresh = normcheck("scan", "runs", *known)
    assert fresh.code == 1
    assert "NC104" in fresh.out
    assert "NC101" not in fresh.out
    again = normcheck("scan", "runs/new.pt", "--write-baseline")
    assert "wrote 12 entries to normcheck-baseline.json: 6 added, 0 removed" in again.err
    assert normcheck("scan", "runs", *known).code == 0
    # What is mended is told, and dropped when the file is written again.
    shutil.copy(samples / "digits-healthy.pt", "runs/new.pt")
    mended = normcheck("scan", "runs", *known)
    assert mended.code == 0
    assert "6 baseline entries of NC104 on runs/new.pt matched no finding" in mended.out
    last = normcheck("scan", "runs", "--write-baseline", "-q", *known)
    assert (last.out, last.err) == ("", "")
    assert len(json.loads(Path(known[1]).read_text())["entries"]) == 6
    assert [path.name for path in Path.cwd().iterdir()].count("normcheck-baseline.json") == 1


def test_a_broken_baseline_is_not_overwritten(project: Path, normcheck: Normcheck) -> None:
    """Something else under that name is the user's."""
    Path("notes.json").write_text("my notes")
    ran = normcheck("scan", "runs", "--write-baseline", "--baseline", "notes.json")
    assert ran.code == 2
    assert Path("notes.json").read_text() == "my notes"


def test_several_outputs_of_one_run(normcheck: Normcheck, samples: Path) -> None:
    """Each -f with its -o; what goes to stdout is as it would be alone."""
    target = samples / WARNED
    ran = normcheck("scan", target, "-f", "github", "-f", "sarif", "-o", "-", "-o", "x.sarif")
    assert ran.code == 1
    assert ran.out == normcheck("scan", target, "-f", "github").out
    assert json.loads(Path("x.sarif").read_text())["version"] == "2.1.0"
    assert [path.name for path in Path.cwd().iterdir()] == ["x.sarif"]


def test_statistics_count_by_rule(normcheck: Normcheck, samples: Path) -> None:
    """The most frequent rule first, and a line that adds up."""
    ran = normcheck("scan", samples, "--statistics")
    assert ran.code == 1
    lines = ran.out.splitlines()
    counts = [int(line.split()[0]) for line in lines]
    assert counts[:-1] == sorted(counts[:-1], reverse=True)
    assert sum(counts[:-1]) == counts[-1]
    assert re.match(r"5  NC101  never-updated-stats +in 5 models", lines[0])


def test_thresholds_and_severities_of_the_file(normcheck: Normcheck, samples: Path) -> None:
    """A rule's option and severity change what is found and what fails."""
    target = samples / "too-few-batches.pt"
    assert normcheck("scan", target, "--fail-on", "error").code == 1
    Path("normcheck.toml").write_text('[rules.NC103]\nseverity = "warning"')
    assert normcheck("scan", target, "--fail-on", "error").code == 0
    assert normcheck("scan", target).code == 1
    Path("normcheck.toml").write_text("[rules.NC103]\nmax-residue = 1.0")
    assert normcheck("scan", target).code == 0


def test_min_severity_and_confidence(normcheck: Normcheck, samples: Path) -> None:
    """What is below is counted as suppressed and fails nothing."""
    target = samples / "too-few-batches-mild.pt"  # a warning of medium confidence
    assert normcheck("scan", target).code == 1
    for flag in ("--min-severity=error", "--min-confidence=high"):
        ran = normcheck("scan", target, flag)
        assert ran.code == 0
        assert "1 suppressed" in ran.out


def test_help_reads_well_at_80_columns(normcheck: Normcheck) -> None:
    """No line of any help is wider, and each flag says what it does."""
    for words in (["--help"], ["scan", "--help"], ["rule", "--help"], ["kinds", "--help"]):
        ran = normcheck(*words)
        assert ran.code == 0
        assert max(len(line) for line in ran.out.splitlines()) <= 80, words
    scan = " ".join(normcheck("scan", "--help").out.split())
    for flag in ("--select", "--baseline", "--show-settings", "--no-config", "--min-confidence"):
        assert re.search(rf"{flag}\b", scan)


@pytest.mark.parametrize(
    ("shell", "words", "offers"),
    [
        ("bash", "normcheck sc", "scan"),
        ("bash", "normcheck scan --select NC10", "NC101"),
        ("bash", "normcheck scan --ignore NC101,dead-", "NC101,dead-scale"),
        ("bash", "normcheck scan --format sa", "sarif"),
        ("bash", "normcheck rule never", "never-updated-stats"),
    ],
)
def test_shell_completion(
    normcheck: Normcheck, monkeypatch: pytest.MonkeyPatch, shell: str, words: str, offers: str
) -> None:
    """Commands, forms and rules are offered."""
    monkeypatch.setenv("_NORMCHECK_COMPLETE", f"complete_{shell}")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    ran = normcheck()
    assert ran.code == 0, ran.err
    assert offers in ran.out.split()


def test_names_of_a_real_file_in_every_form(normcheck: Normcheck) -> None:
    """From a checkpoint to the reports: nothing of its names is a command or markup."""
    torch = pytest.importorskip("torch")
    state = {}
    for name in ("a\n::error::x", "<b>|`", "[x](http://y)", "##[error]z", "%0A\x1b[2J"):
        prefix = name.replace(".", "_")
        state[f"{prefix}.running_mean"] = torch.zeros(4)
        state[f"{prefix}.running_var"] = torch.ones(4)
        state[f"{prefix}.num_batches_tracked"] = torch.tensor(0)
        state[f"{prefix}.weight"] = torch.rand(4)
        state[f"{prefix}.bias"] = torch.rand(4)
    torch.save(state, "evil.pt")
    forms = ("text", "json", "sarif", "junit", "github", "markdown")
    words = [word for form in forms for word in ("-f", form, "-o", f"{form}.out")]
    ran = normcheck("scan", "evil.pt", "-v", *words)
    assert ran.code == 1, ran.err
    for form in forms:
        text = Path(f"{form}.out").read_text(encoding="utf-8")
        assert "\x1b" not in text
        lines = [line for line in text.splitlines() if line.lstrip().startswith("::")]
        assert all(re.match(r"::(error|warning|notice) title=NC", line) for line in lines)
        assert (form == "github") is bool(lines)
    layers = json.loads(Path("json.out").read_text())["findings"][0]["layers"]
    assert "a\n::error::x" in layers
