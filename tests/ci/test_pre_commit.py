"""The hooks, run as pre-commit runs them."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import ROOT

pytestmark = pytest.mark.slow

HOOKS = ROOT / ".pre-commit-hooks.yaml"


@pytest.fixture
def on_path(tmp_path: Path) -> dict[str, str]:
    """An environment in which ``normcheck`` is a command."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "normcheck"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m normcheck "$@"\n')
    script.chmod(0o755)
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT)}


def hooks() -> dict[str, dict[str, Any]]:
    return {hook["id"]: hook for hook in yaml.safe_load(HOOKS.read_text(encoding="utf-8"))}


def test_the_manifest_is_valid() -> None:
    """By pre-commit's own word."""
    words = [sys.executable, "-m", "pre_commit", "validate-manifest", str(HOOKS)]
    ran = subprocess.run(words, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "WARNING" not in ran.stdout + ran.stderr
    assert set(hooks()) == {"normcheck", "normcheck-system"}


@pytest.mark.parametrize(
    ("file", "looked_at"),
    [
        ("model.pt", True),
        ("runs/last.ckpt", True),
        ("a/b.safetensors", True),
        ("x.pth.tar", True),
        ("hub/pytorch_model-00001-of-00002.bin", True),
        ("firmware.bin", False),
        ("model.pt.md", False),
        ("archive.tar", False),
        ("data.pkl", False),
    ],
)
def test_which_files_a_commit_passes(file: str, looked_at: bool) -> None:
    """Checkpoints by their extension, and no file that is likely something else."""
    for hook in hooks().values():
        assert bool(re.search(hook["files"], file)) is looked_at


def test_the_entry_with_several_files(samples: Path, on_path: dict[str, str]) -> None:
    """File names are appended to the entry; it is silent where nothing is wrong."""
    entries = {hook["entry"] for hook in hooks().values()}
    assert len(entries) == 1

    def commit(*files: str) -> subprocess.CompletedProcess[str]:
        words = [*shlex.split(*entries), *files]
        return subprocess.run(
            words, cwd=samples, env=on_path, capture_output=True, text=True, check=False
        )

    good = commit("digits-healthy.pt", "digits-healthy-module.pt", "mlp-batchnorm.pt")
    assert (good.returncode, good.stdout, good.stderr) == (0, "", "")
    bad = commit("digits-healthy.pt", "statistics-lost.pt")
    assert bad.returncode == 1
    assert "NC101" in bad.stdout
    assert "digits-healthy" not in bad.stdout


def test_pre_commit_itself(samples: Path, tmp_path: Path, on_path: dict[str, str]) -> None:
    """A repository with a checkpoint, and pre-commit that tries the hook on it."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    people = ("AUTHOR_NAME", "AUTHOR_EMAIL", "COMMITTER_NAME", "COMMITTER_EMAIL")
    settings = tmp_path / "gitconfig"
    settings.touch()
    identity = {"GIT_CONFIG_GLOBAL": str(settings), **{f"GIT_{name}": "test" for name in people}}
    environment = {
        **{k: v for k, v in on_path.items() if not k.startswith("GIT_")},
        **identity,
        "PRE_COMMIT_HOME": str(tmp_path / "cache"),
    }

    def run(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )

    # The hook's repository: the manifest alone, as the installed normcheck is what runs.
    source = tmp_path / "normcheck-hooks"
    source.mkdir()
    shutil.copy(HOOKS, source)
    project = tmp_path / "project"
    project.mkdir()
    shutil.copy(samples / "digits-healthy.pt", project)
    shutil.copy(samples / "statistics-lost.pt", project)
    (project / "statistics.md").write_text("no checkpoint")
    for folder in (source, project):
        assert run("git", "init", "-q", cwd=folder).returncode == 0
        assert run("git", "add", ".", cwd=folder).returncode == 0
        assert run("git", "commit", "-qm", "first", cwd=folder).returncode == 0
    words = [sys.executable, "-m", "pre_commit", "try-repo", str(source), "normcheck-system"]
    good = run(*words, "--files", "digits-healthy.pt", "statistics.md", cwd=project)
    assert good.returncode == 0, good.stdout + good.stderr
    assert "Passed" in good.stdout
    bad = run(*words, "--all-files", cwd=project)
    assert bad.returncode == 1
    assert "Failed" in bad.stdout
    assert "NC101" in bad.stdout
