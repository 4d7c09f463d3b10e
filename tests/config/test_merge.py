"""Who has the last word: flags over variables over the file over defaults."""

from pathlib import Path

import pytest

from normcheck.config.examination import Examination, ModelSettings
from normcheck.config.flags.settings_flags import Configuration, Flags, Judging, OutputFlags
from normcheck.config.merge import DEFAULT, Resolved, resolve, with_baseline
from normcheck.config.policy import Policy
from normcheck.errors import ConfigError, UsageError
from normcheck.findings import Confidence, Severity
from normcheck.rules.catalogue import RULES, find
from normcheck.sources.place import place_of

NO_CONFIG = Flags(configuration=Configuration(no_config=True))


def configured(file: str) -> Flags:
    return Flags(configuration=Configuration(file))


def merged(
    tmp_path: Path, text: str = "", flags: Flags | None = None, **environment: str
) -> Resolved:
    (tmp_path / "normcheck.toml").write_text(text)
    return resolve(flags or Flags(), environment, tmp_path)


def codes(resolved: Resolved) -> set[str]:
    return {rule.code for rule in resolved.examination.rules}


def origin(resolved: Resolved, key: str) -> str:
    return next(entry.source for entry in resolved.origins if entry.key == key)


def test_defaults(tmp_path: Path) -> None:
    """Without a word from anybody every rule runs, and warnings fail."""
    resolved = resolve(NO_CONFIG, {}, tmp_path)
    assert (resolved.examination, resolved.policy) == (Examination(), Policy())
    assert (resolved.formats, resolved.outputs, resolved.baseline) == (("text",), ("-",), None)
    assert {entry.source for entry in resolved.origins} == {DEFAULT}


def test_the_ladder(tmp_path: Path) -> None:
    """Each step overrides the one below, and the origin tells which."""
    text = 'fail-on = "error"\nformat = "json"\nmin-severity = "warning"'
    file = merged(tmp_path, text)
    assert file.policy.fail_on is Severity.ERROR
    assert origin(file, "fail-on").endswith("normcheck.toml")
    variable = merged(tmp_path, text, NORMCHECK_FAIL_ON="warning", NORMCHECK_FORMAT="sarif")
    assert variable.policy.fail_on is Severity.WARNING
    assert variable.formats == ("sarif",)
    assert origin(variable, "fail-on") == "NORMCHECK_FAIL_ON"
    judging = Judging(fail_on="error", min_confidence="high")
    flags = Flags(OutputFlags(("junit", "text")), judging)
    flag = merged(tmp_path, text, flags, NORMCHECK_FAIL_ON="warning", NORMCHECK_FORMAT="sarif")
    assert flag.policy.fail_on is Severity.ERROR
    assert flag.formats == ("junit", "text")
    assert flag.policy.min_severity is Severity.WARNING
    assert flag.policy.min_confidence is Confidence.HIGH
    assert origin(flag, "fail-on") == "--fail-on"
    assert origin(flag, "strict") == DEFAULT


def test_a_flag_can_take_back_what_the_file_says(tmp_path: Path) -> None:
    """``--no-strict`` is a word too."""
    assert merged(tmp_path, "strict = true").policy.strict
    strict = Flags(judging=Judging(strict=False))
    assert not merged(tmp_path, "strict = true", strict).policy.strict


def test_wrong_variables_are_errors(tmp_path: Path) -> None:
    """They are named, with what they may hold; empty ones say nothing."""
    with pytest.raises(UsageError, match="NORMCHECK_FORMAT: 'xml' is not one of text"):
        merged(tmp_path, NORMCHECK_FORMAT="xml")
    with pytest.raises(UsageError, match="NORMCHECK_FAIL_ON"):
        merged(tmp_path, NORMCHECK_FAIL_ON="info")
    assert merged(tmp_path, NORMCHECK_FORMAT="").formats == ("text",)


def test_select_starts_afresh(tmp_path: Path) -> None:
    """Who asks for a rule by a flag sees it; the other flags add to the file."""
    text = 'select = ["NC1"]\nextend-select = ["NC502"]\nignore = ["NC103"]'
    file = codes(merged(tmp_path, text))
    assert "NC502" in file
    assert "NC103" not in file
    assert codes(merged(tmp_path, text, Flags(judging=Judging(select=("NC103",))))) == {"NC103"}
    judging = Judging(extend_select=("NC5",), ignore=("NC101,NC501",))
    more = codes(merged(tmp_path, text, Flags(judging=judging)))
    assert more == (file | {r.code for r in RULES if r.code[:3] == "NC5"}) - {"NC101", "NC501"}


def test_rules_are_tuned(tmp_path: Path) -> None:
    """Severity and options reach the rules of the run, and no other run."""
    text = '[rules.under-warmed-stats]\nseverity = "info"\nmax-residue = 0.5'
    rules = {rule.code: rule for rule in merged(tmp_path, text).examination.rules}
    assert rules["NC103"].level is Severity.INFO
    assert rules["NC103"].chosen == {"max-residue": 0.5}
    assert rules["NC101"] == find("NC101")
    assert find("NC103").chosen == {}


def test_config_and_no_config(tmp_path: Path) -> None:
    """One names a file, the other reads none, both together mean nothing."""
    (tmp_path / "normcheck.toml").write_text("strict = true")
    (tmp_path / "other.toml").write_text("strict = false\nformat = 'json'")
    other = resolve(configured("other.toml"), {}, tmp_path)
    assert (other.policy.strict, other.formats) == (False, ("json",))
    assert resolve(Flags(), {"NORMCHECK_CONFIG": "other.toml"}, tmp_path).formats == ("json",)
    without = resolve(NO_CONFIG, {"NORMCHECK_CONFIG": "other.toml"}, tmp_path)
    assert not without.policy.strict
    with pytest.raises(UsageError, match="contradict"):
        resolve(Flags(configuration=Configuration("other.toml", no_config=True)), {}, tmp_path)
    with pytest.raises(ConfigError, match=r"nowhere\.toml"):
        resolve(configured("nowhere.toml"), {}, tmp_path)


def test_the_baseline_of_the_file_lies_beside_it(tmp_path: Path) -> None:
    """Wherever the command runs; a missing one is an error, not an empty one."""
    (tmp_path / "inner").mkdir()
    (tmp_path / "normcheck.toml").write_text('baseline = "known.json"')
    resolved = resolve(Flags(), {}, tmp_path / "inner")
    assert resolved.baseline == tmp_path / "known.json"
    with pytest.raises(UsageError, match="no such baseline"):
        with_baseline(resolved)
    (tmp_path / "known.json").write_text('{"version": 1, "entries": []}')
    assert with_baseline(resolved).baseline is not None
    assert with_baseline(resolve(NO_CONFIG, {}, tmp_path)).baseline is None


ROOT = Path("/project")


def entry(pattern: str, **more: tuple[str, ...]) -> ModelSettings:
    return ModelSettings(pattern, ROOT, **more)


@pytest.mark.parametrize(
    ("pattern", "file", "named"),
    [
        ("runs/*.pt", "/project/runs/a.pt", True),
        ("runs/*.pt", "/project/runs/deep/a.pt", True),
        ("runs/*.pt", "/project/runs2/a.pt", False),
        ("runs/*.pt", "/elsewhere/runs/a.pt", False),
        ("/elsewhere/*", "/elsewhere/runs/a.pt", True),
        ("a.pt", "/anywhere/a.pt", True),
        ("*.pt", "/anywhere/a.pth", False),
        ("runs/[ab].pt", "/project/runs/b.pt", True),
        ("runs/a.pt", "/project/x/../runs/a.pt", True),
        ("A.pt", "/project/a.pt", False),
    ],
)
def test_which_files_a_pattern_means(pattern: str, file: str, named: bool) -> None:
    """Relative to the configuration's folder; a pattern without a slash means the name."""
    assert entry(pattern).names(Path(file)) is named


@pytest.mark.parametrize(
    ("pattern", "address", "named"),
    [
        ("https://host/runs/a.pt", "https://host/runs/a.pt", True),
        ("HTTPS://Host/runs/a.pt", "https://hOST/runs/a.pt", True),
        ("https://host/runs/*.pt", "https://host/runs/deep/a.pt", True),
        ("https://host/runs/a.pt", "https://host/runs/a.pt?sig=s3cr3t", True),
        ("https://host/runs/a.pt?sig=s3cr3t", "https://host/runs/a.pt?sig=another", True),
        ("https://host/runs/A.pt", "https://host/runs/a.pt", False),
        ("https://host/runs/a.pt", "https://other/runs/a.pt", False),
        ("https://host/runs/a.pt", "http://host/runs/a.pt", False),
        ("https:/host/runs/a.pt", "https://host/runs/a.pt", False),
        ("https://host/runs/a.pt", "https:/host/runs/a.pt", False),
        ("s3://bucket/runs/*/last.ckpt", "s3://bucket/runs/7/last.ckpt", True),
        ("hf://org/model@main/*", "hf://org/model@main/a.safetensors", True),
        ("https://me:word@host/*", "https://me:word@host/a.pt", True),
        ("a.pt", "https://host/runs/a.pt?sig=s3cr3t", True),
        ("*.pt", "s3://bucket/a.pt", True),
        ("*/runs/*", "s3://bucket/runs/a.pt", True),
        ("runs/a.pt", "s3://bucket/runs/a.pt", False),
    ],
)
def test_which_addresses_a_pattern_means(pattern: str, address: str, named: bool) -> None:
    """As they are written, their secrets aside; never as paths, which have one slash less."""
    assert entry(pattern).names(place_of(address)) is named
    assert entry(pattern).names(str(place_of(address))) is named


def test_the_most_exact_entry_wins() -> None:
    """Whatever the order of the file; of equals the first."""
    wide, exact, same = entry("*.pt"), entry("runs/best-*.pt"), entry("*.p?t")
    examination = Examination(models=(wide, exact, same))
    assert examination.of_model(Path("/project/runs/best-1.pt")) is exact
    assert examination.of_model(Path("/project/runs/last.pt")) is wide
    assert examination.of_model(Path("/project/runs/last.ckpt")) is None


def test_an_entry_narrows_the_rules() -> None:
    """Its selectors choose among the rules of the run."""
    narrow = entry("a.pt", select=("NC1",), ignore=("NC103",))
    examination = Examination(rules=(find("NC101"), find("NC103"), find("NC502")), models=(narrow,))
    assert [r.code for r in examination.rules_of(Path("a.pt"))] == ["NC101"]
    assert examination.rules_of(Path("b.pt")) == examination.rules
