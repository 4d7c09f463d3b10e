"""Terminals and pipes of other encodings: no sign is an error, and programs get UTF-8."""

import json
import os
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from tests.conftest import ROOT
from tests.fleet.deadly import write_model

pytestmark = pytest.mark.slow

NAME = "schicht_ü_γ_層"
"""Of a layer: a sign that Western Europe's code page has, and two that it lacks."""


def run(folder: Path, encoding: str, *words: str) -> "subprocess.CompletedProcess[bytes]":
    """The command with stdout and stderr as of a terminal of this encoding."""
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding, "COLUMNS": "80"}
    environment["PYTHONPATH"] = str(ROOT)
    line = [sys.executable, "-m", "normcheck", *words]
    return subprocess.run(line, cwd=folder, env=environment, capture_output=True, check=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two checkpoints whose names and layers are not ASCII."""
    write_model(tmp_path / "modèle_模.safetensors", NAME)
    write_model(tmp_path / "modèle_2.safetensors", NAME)
    return tmp_path


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
@pytest.mark.parametrize(
    "words",
    [
        ("scan", "."),
        ("scan", "missing_γ.pt"),
        ("diff", "modèle_2.safetensors", "modèle_模.safetensors"),
        ("rule", "NC101"),
        ("kinds", "BatchNorm2d"),
        ("scan", "--help"),
        ("scan", ".", "--show-settings"),
        ("γ",),
    ],
    ids=" ".join,
)
def test_no_sign_is_an_error(folder: Path, encoding: str, words: tuple[str, ...]) -> None:
    """What a terminal cannot show is a question mark or an escape, and the exit code stays."""
    there, here = run(folder, encoding, *words), run(folder, "utf-8", *words)
    assert there.returncode == here.returncode, there.stderr
    for said, wanted in ((there.stdout, here.stdout), (there.stderr, here.stderr)):
        text = said.decode(encoding, "replace")  # click takes ASCII for UTF-8, on purpose
        assert "itself failed" not in text
        assert len(text.splitlines()) == len(wanted.decode("utf-8").splitlines())


@pytest.mark.parametrize("form", ["json", "json-lines", "sarif", "junit", "markdown", "github"])
def test_programs_get_utf_8(folder: Path, form: str) -> None:
    """The same bytes on stdout whatever the terminal is; a name is never damaged."""
    there, here = (run(folder, e, "scan", ".", "-f", form, "-v") for e in ("cp1252", "utf-8"))
    assert there.returncode == here.returncode
    assert there.stdout == here.stdout
    assert NAME in there.stdout.decode("utf-8")
    assert b"\r" not in there.stdout
    if form == "json":
        assert json.loads(there.stdout)["models"]
    elif form == "junit":
        assert ET.fromstring(there.stdout).tag == "testsuites"  # noqa: S314  (ours)


def test_a_comparison_for_programs_is_utf_8(folder: Path) -> None:
    """Of ``normcheck diff``, too."""
    words = ("diff", "modèle_2.safetensors", "modèle_模.safetensors", "-f", "json")
    done = run(folder, "cp1252", *words)
    assert NAME in json.dumps(json.loads(done.stdout), ensure_ascii=False), done.stderr
