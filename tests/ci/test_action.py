"""The GitHub action: valid, safe against its inputs, and its steps run in a shell."""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

ACTION = ROOT / "action.yml"


def action() -> dict[str, Any]:
    value: dict[str, Any] = yaml.safe_load(ACTION.read_text(encoding="utf-8"))
    return value


@dataclass(frozen=True, slots=True)
class Job:
    """What the steps of one run left behind."""

    code: int
    log: str
    outputs: dict[str, str]
    summary: str


Run = Callable[..., Job]


@pytest.fixture
def run(tmp_path: Path, samples: Path) -> Run:
    """Runs the steps of the action that are scripts, with the variables that GitHub sets.

    Installing is a step of its own test; uploading is GitHub's.
    """
    workspace = tmp_path / "workspace"
    (workspace / "models").mkdir(parents=True)
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "normcheck"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m normcheck "$@"\n')
    script.chmod(0o755)

    def job(*models: str, **inputs: str) -> Job:
        for model in models:
            shutil.copy(samples / model, workspace / "models")
        values = {name: str(spec.get("default", "")) for name, spec in action()["inputs"].items()}
        values |= {name.replace("_", "-"): value for name, value in inputs.items()}
        output, summary = tmp_path / "output", tmp_path / "summary"
        for file in (output, summary):
            file.write_text("")
        outputs: dict[str, str] = {}
        log, code = "", 0
        for step in action()["runs"]["steps"]:
            if "run" not in step or step["name"] == "Install normcheck":
                continue
            environment = {
                **os.environ,
                "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
                "PYTHONPATH": str(ROOT),
                "GITHUB_ACTIONS": "true",
                "GITHUB_OUTPUT": str(output),
                "GITHUB_STEP_SUMMARY": str(summary),
                "GITHUB_ACTION_PATH": str(ROOT),
                "GITHUB_WORKSPACE": str(workspace),
                **{k: filled(v, values, outputs) for k, v in step.get("env", {}).items()},
            }
            # As GitHub calls 'shell: bash'.
            words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
            ran = subprocess.run(
                words, cwd=workspace, env=environment, capture_output=True, text=True, check=False
            )
            log += ran.stdout + ran.stderr
            code = ran.returncode
            outputs |= dict(
                line.split("=", 1) for line in output.read_text().splitlines() if "=" in line
            )
            if code:
                break
        return Job(code, log, outputs, summary.read_text(encoding="utf-8"))

    return job


def filled(text: str, inputs: dict[str, str], outputs: dict[str, str]) -> str:
    """An expression of the workflow's language, as far as the action uses it."""

    def value(match: re.Match[str]) -> str:
        place, _, name = match[1].strip().rpartition(".")
        return inputs[name] if place == "inputs" else outputs[name]

    return re.sub(r"\$\{\{(.+?)\}\}", value, text)


def test_the_action_is_valid() -> None:
    """By the schema of GitHub's actions."""
    place = files("check_jsonschema.builtin_schemas").joinpath("vendor/github-actions.json")
    schema = json.loads(place.read_text(encoding="utf-8"))
    problems = [e.message for e in Draft7Validator(schema).iter_errors(action())]
    assert problems == []


def test_inputs_are_never_pasted_into_scripts() -> None:
    """They come as variables, as a target with a quote in it would else be a command."""
    for step in action()["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        assert ("run" in step) is ("shell" in step)


def test_every_input_is_used_and_described() -> None:
    """An input without an effect would be a promise broken."""
    text = ACTION.read_text(encoding="utf-8")
    for name, spec in action()["inputs"].items():
        assert f"inputs.{name}" in text
        assert spec["description"]
    used = set(re.findall(r"inputs\.([a-z-]+)", text))
    assert used == set(action()["inputs"])


def test_a_healthy_model_passes(run: Run) -> None:
    """Code 0, SARIF, a summary, and no annotation."""
    job = run("digits-healthy-module.pt", targets="models\n")
    assert job.code == 0, job.log
    assert job.outputs == {"exit-code": "0", "sarif-file": "normcheck.sarif"}
    assert "::" not in job.log
    assert "0 errors, 0 warnings" in job.summary


def test_a_sick_model_fails_after_everything_was_written(run: Run, tmp_path: Path) -> None:
    """Annotated, summarised, written as SARIF, and only then the job fails."""
    job = run("statistics-lost.pt", "nan-statistics.pt", targets="models/\n")
    assert job.code == 1
    assert job.outputs["exit-code"] == "1"
    annotations = [line for line in job.log.splitlines() if line.startswith("::")]
    assert annotations[0].startswith("::error title=NC104 non-finite-stats,file=models/nan-")
    assert "NC101" in job.summary
    sarif = json.loads((tmp_path / "workspace/normcheck.sarif").read_text(encoding="utf-8"))
    assert len(sarif["runs"][0]["results"]) == 2


def test_targets_and_flags_are_words_not_commands(run: Run, tmp_path: Path) -> None:
    """One a line, with blanks, quotes and dollars as they are."""
    odd = tmp_path / "workspace" / "my model's $(touch pwned) `x`;.pt"
    job = run(targets="models", args="--exit-zero")
    assert job.outputs["exit-code"] == "3"
    shutil.copy(ROOT / "sample_models/statistics-lost.pt", odd)
    args = "--fail-on\nerror\n\n--ignore\nNC504"
    job = run(targets=f"{odd.name}\n", args=args, sarif_file="out.sarif")
    assert job.code == 0, job.log
    assert "NC101" in job.log
    assert not (tmp_path / "workspace/pwned").exists()
    assert (tmp_path / "workspace/out.sarif").exists()


def test_what_cannot_be_done_is_2(run: Run) -> None:
    """A wrong flag leaves no SARIF, and the job fails with a word about it."""
    job = run(targets="models", args="--no-such-flag")
    assert job.code == 2
    assert "error: no such option" in job.log


def test_the_install_step_installs(tmp_path: Path) -> None:
    """Of the action's own folder, here without its dependencies and without the network."""
    pytest.importorskip("setuptools", minversion="77")
    source = tmp_path / "source"
    shutil.copytree(ROOT / "normcheck", source / "normcheck")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    step = next(s for s in action()["runs"]["steps"] if s["name"] == "Install normcheck")
    folder = Path(sys.executable).parent
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "GITHUB_ACTION_PATH": str(source),
        "PIP_NO_DEPS": "1",
        "PIP_NO_INDEX": "1",
        # pip reads this variable as the flag's opposite.
        "PIP_NO_BUILD_ISOLATION": "0",
        "PIP_TARGET": str(tmp_path / "target"),
    }
    environment.pop("PYTHONPATH", None)
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    installed = tmp_path / "target" / "normcheck"
    assert (installed / "report/machines/normcheck-v1.schema.json").exists()
    assert (installed / "py.typed").exists()
