"""The workflow of the project's own CI: valid, pinned, and as wide as what is promised."""

import json
import re
import tomllib
from importlib.resources import files
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests import floors
from tests.conftest import ROOT

WORKFLOW = ROOT / ".github/workflows/ci.yml"
PROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def workflow() -> dict[str, Any]:
    value: dict[Any, Any] = yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))
    value["on"] = value.pop(True)  # which "on" is in YAML 1.1, not in GitHub's
    return value


def steps() -> list[dict[str, Any]]:
    return [step for job in workflow()["jobs"].values() for step in job["steps"]]


def problems(value: object) -> list[str]:
    place = files("check_jsonschema.builtin_schemas").joinpath("vendor/github-workflows.json")
    schema = json.loads(place.read_text(encoding="utf-8"))
    return [error.message for error in Draft7Validator(schema).iter_errors(value)]


def test_the_workflow_is_valid() -> None:
    """By the schema of GitHub's workflows, which does refuse what is none."""
    assert problems(workflow()) == []
    broken = workflow()
    broken["jobs"]["tests"]["runs_on"] = broken["jobs"]["tests"].pop("runs-on")
    assert problems(broken)


def test_every_action_has_a_full_version() -> None:
    """A moving tag would run other code tomorrow."""
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert [action for action in used if not re.search(r"@v\d+\.\d+\.\d+$", action)] == []


def test_nothing_is_pasted_into_scripts() -> None:
    """Values come as variables; a branch's name could be a command."""
    assert [step["run"] for step in steps() if "${{" in step.get("run", "")] == []


def test_every_job_ends_and_may_only_read() -> None:
    """No job waits for ever, and none can write to the repository."""
    assert workflow()["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 90 for job in workflow()["jobs"].values())
    assert not any("permissions" in job for job in workflow()["jobs"].values())


def test_the_matrix_is_as_wide_as_the_promise() -> None:
    """Every Python that the package names on every system, torch from the oldest to the newest."""
    matrix = workflow()["jobs"]["tests"]["strategy"]["matrix"]
    project = tomllib.loads(PROJECT)["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert matrix["python"] == named
    assert project["requires-python"] == f">={named[0]}"
    assert [re.split(r"-", system)[0] for system in matrix["os"]] == ["ubuntu", "macos", "windows"]
    versions = {entry["torch"] for entry in matrix["include"]} | set(matrix["torch"])
    oldest = floors.floors(PROJECT, {"run"})["torch"]
    assert min(versions, key=numbers).startswith(f"{oldest}.")
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    assert f"torch=={matrix['torch'][0]}\n" in constraints
    for entry in matrix["include"]:
        assert entry["os"] in matrix["os"]
        assert entry["python"] in matrix["python"]


def numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def test_the_verbs_are_the_projects_own() -> None:
    """What the jobs call exists."""
    verbs = set(
        re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    )
    scripts = "\n".join(step.get("run", "") for step in steps())
    assert set(re.findall(r"\bmake ([a-z-]+)", scripts)) == {"test-floors"} <= verbs
    assert ".ci/run" in scripts


def test_every_requirement_has_a_floor() -> None:
    """One that ``make test-floors`` can install; the names of extras are kept."""
    extras = tomllib.loads(PROJECT)["project"]["optional-dependencies"]
    found = floors.floors(PROJECT, set(extras) - {"dev", "fuzz"})
    assert {"torch", "numpy", "onnx", "fsspec", "pytest"} <= set(found)
    assert set(found) >= floors.RUNS_TESTS


@pytest.mark.parametrize("bound", ["a", "a==1", "a>=1,<2", "a<2", "a~=1.0"])
def test_other_bounds_are_refused(bound: str) -> None:
    """They would be left out silently."""
    text = '[project]\ndependencies = ["{}"]\n[project.optional-dependencies]\ndev = []\n'
    with pytest.raises(ValueError, match="lower bound"):
        floors.floors(text.format(bound), set())
    good = text.format("a>=1.2,!=1.3.0,!=1.3.1; python_version < '3.14'")
    assert floors.floors(good, set()) == {"a": "1.2"}


def test_every_integration_is_tested_with_its_library() -> None:
    """Those that developers lack are installed, at a fixed version, by a verb of their own."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (recipe,) = re.findall(r"^test-trainers:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    installed = re.search(r"-c constraints\.txt (.*)\n", recipe)
    assert installed is not None
    extras = tomllib.loads(PROJECT)["project"]["optional-dependencies"]
    names = {re.split("[>=]", bound)[0] for bound in extras["dev"]} | set(installed[1].split())
    modules = {file.stem for file in (ROOT / "normcheck/integrations").glob("*.py")}
    tested = set(extras) & modules
    assert {"lightning", "transformers", "accelerate", "ignite", "mlflow", "wandb"} == tested
    for extra in tested:
        assert {re.split("[>=]", bound)[0] for bound in extras[extra]} <= names, extra
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    for name in installed[1].split():
        assert re.search(rf"^{name}==", constraints, re.MULTILINE), name
