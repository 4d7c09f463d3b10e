"""Baselines: known findings stay known, new ones are new, and what is gone is said."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from normcheck.config.baseline import (
    Baseline,
    KnownFinding,
    Matcher,
    read_baseline,
    render_baseline,
    renewed,
)
from normcheck.config.policy import Policy
from normcheck.errors import UsageError
from normcheck.findings import Confidence, Finding, Severity
from normcheck.runs.scan import scan


def finding(*layers: str, model: str = "model.pt", where: str = "", key: str = "a") -> Finding:
    return Finding(
        "NC101", "never-updated-stats", Severity.WARNING, Confidence.HIGH,
        f"{len(layers)} layers", "detail", "consequence", "fix", layers,
        discriminator=key, model=model, where=where,
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory of a test, with the baseline in it."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def of(*findings: Finding, path: str = "normcheck-baseline.json") -> Baseline:
    """A baseline that was written and read again."""
    file = Path(path)
    baseline = Baseline(file, Baseline(file, ()).entries_of(findings))
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(render_baseline(baseline), encoding="utf-8")
    return read_baseline(file)


def known(baseline: Baseline, one: Finding) -> list[bool]:
    matcher = Matcher(baseline)
    return [matcher.knows(one, layer) for layer in (one.layers or (None,))]


def test_round_trip(folder: Path) -> None:
    """What is written is read back, byte for byte, whatever the names are."""
    wild = finding("b\n::x", "a\u202e\ud800", model='r"uns/m\u00f6del.pt', where="ema")
    baseline = of(finding("b", "a"), wild, finding())
    text = Path("normcheck-baseline.json").read_text(encoding="utf-8")
    value = json.loads(text)
    assert value["version"] == 1
    assert render_baseline(baseline) == text
    models = [entry["model"] for entry in value["entries"]]
    assert models == sorted(models)
    assert [entry["layer"] for entry in value["entries"][:3]] == [None, "a", "b"]
    assert len({entry["fingerprint"] for entry in value["entries"]}) == 5


def test_fingerprints_are_the_same_everywhere() -> None:
    """A hash that is written into files must never change."""
    entry = KnownFinding("runs/model.pt", "ema", "NC101", "stem.bn", "trained", "any message")
    assert entry.fingerprint == replace(entry, message="another").fingerprint
    assert entry.fingerprint == "370303c70ba44b70"
    others = [
        replace(entry, model="model.pt"),
        replace(entry, where=""),
        replace(entry, rule="NC102"),
        replace(entry, layer="stem"),
        replace(entry, layer=None),
        replace(entry, discriminator=""),
    ]
    assert len({e.fingerprint for e in (entry, *others)}) == 7


def test_retraining_and_reordering_change_nothing(folder: Path) -> None:
    """Other numbers, severities, titles and another order of layers are still known."""
    baseline = of(finding("a", "b", "c"))
    again = replace(finding("c", "a", "b"), severity=Severity.ERROR, title="59 % is left")
    assert known(baseline, again) == [True, True, True]


def test_a_new_layer_is_new(folder: Path) -> None:
    """The others stay known."""
    assert known(of(finding("a", "b")), finding("a", "b", "c")) == [True, True, False]


@pytest.mark.parametrize(
    "other",
    [
        finding("a", model="other.pt"),
        finding("a", where="ema"),
        finding("a", key="b"),
        replace(finding("a"), rule="NC102"),
        finding(),
    ],
    ids=["model", "where", "discriminator", "rule", "no layer"],
)
def test_something_else_is_new(folder: Path, other: Finding) -> None:
    """Another model, place, reading or rule."""
    Path("model.pt").touch()
    assert not any(known(of(finding("a")), other))


def test_a_finding_without_layers(folder: Path) -> None:
    """It is known as a whole, and apart from one on the layer without a name."""
    assert known(of(finding()), finding()) == [True]
    assert known(of(finding()), finding("")) == [False]


def test_the_whole_folder_can_move(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are relative to the baseline, wherever the command runs and the folder lies."""
    of(finding("a", model="repo/runs/model.pt"), path="repo/known.json")
    shutil.move("repo", "clone")
    Path("clone/runs").mkdir()
    moved = read_baseline(Path("clone/known.json"))
    assert known(moved, finding("a", model="clone/runs/model.pt")) == [True]
    assert known(moved, finding("a", model=str(folder / "clone/runs/model.pt"))) == [True]
    monkeypatch.chdir(folder / "clone" / "runs")
    assert known(replace(moved, path=Path("../known.json")), finding("a")) == [True]


def test_a_model_can_move_within_it(folder: Path) -> None:
    """Entries of a file that is gone serve one of the same name; of one still there they do not."""
    baseline = of(finding("a", model="runs/model.pt"))
    moved = finding("a", model="archive/model.pt")
    assert known(baseline, moved) == [True]
    assert known(baseline, replace(moved, model="archive/renamed.pt")) == [False]
    Path("runs").mkdir()
    Path("runs/model.pt").touch()
    assert known(baseline, moved) == [False]


def test_two_models_of_one_name_that_moved(folder: Path) -> None:
    """The one whose path ends alike is the one that moved."""
    one, two = finding("a", model="old/one/m.pt"), finding("b", model="old/two/m.pt")
    matcher = Matcher(of(one, two))
    assert matcher.knows(finding("b", model="new/two/m.pt"), "b")
    gone = matcher.unseen([("old/one/m.pt", "NC101"), ("old/two/m.pt", "NC101")])
    assert [entry.model for entry in gone] == ["old/one/m.pt"]


def test_what_is_gone_is_told_only_of_what_was_judged(folder: Path) -> None:
    """A rule that did not run, or a model that was not scanned, proves nothing."""
    matcher = Matcher(of(finding("a", "b"), finding("c", model="other.pt")))
    assert matcher.knows(finding("a"), "a")
    assert matcher.unseen([]) == ()
    assert matcher.unseen([("model.pt", "NC102")]) == ()
    assert [entry.layer for entry in matcher.unseen([("model.pt", "NC101")])] == ["b"]


def test_writing_anew_keeps_what_was_not_judged(folder: Path) -> None:
    """Of the judged, what is found now; of the rest, what was known."""
    old = of(finding("a", "b"), finding("c", model="other.pt"))
    new = renewed(old, old.path, [finding("b", "d")], [("model.pt", "NC101")])
    assert [(entry.model, entry.layer) for entry in new.entries] == [
        ("model.pt", "b"),
        ("model.pt", "d"),
        ("other.pt", "c"),
    ]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "no list of entries"),
        ('{"version": 1}', "no list of entries"),
        ('{"version": 2, "entries": []}', "version 2"),
        ('{"version": 1, "entries": [1]}', "entry 1 is damaged"),
        ('{"version": 1, "entries": [{"rule": "NC101"}]}', "entry 1 is damaged"),
    ],
)
def test_what_is_no_baseline_is_an_error(folder: Path, text: str, says: str) -> None:
    """A file that cannot be believed suppresses nothing."""
    Path("known.json").write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        read_baseline(Path("known.json"))
    assert "--write-baseline" in caught.value.hint


def test_an_edited_entry_is_an_error(folder: Path) -> None:
    """Fingerprint and words must agree: a typo would else make a finding known or unknown."""
    of(finding("stem.bn"))
    file = Path("normcheck-baseline.json")
    file.write_text(file.read_text().replace("stem.bn", "*"))
    with pytest.raises(UsageError, match="fingerprint of entry 1"):
        read_baseline(file)


def test_a_scan_against_its_own_baseline_finds_nothing(samples: Path, folder: Path) -> None:
    """Every finding on every sample is known, and none is gone."""
    first = scan([samples])
    baseline = of(*first.findings)
    again = scan([samples], policy=Policy(baseline=baseline))
    assert len(first.findings) > 15
    assert (again.findings, again.unused) == ((), ())
    assert len(again.suppressed) == len(first.findings)
    assert all(layer.worst is None for model in again.models for layer in model.layers)
