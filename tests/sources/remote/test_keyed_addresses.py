"""What is keyed by an address: tables of a configuration, baselines, places of outputs."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.sources.remote.server import Web


@pytest.fixture
def lost(web: Web, samples: Path) -> str:
    """The address of a model with findings."""
    shutil.copy(samples / "statistics-lost.pt", web.folder)
    return f"{web.address}/statistics-lost.pt"


def test_a_table_for_an_address(command: Any, lost: str, tmp_path: Path) -> None:
    """Its rules hold for what lies there, also from a cache, and it is shown as the file's."""
    key = json.dumps(lost)
    (tmp_path / "normcheck.toml").write_text(f'[models.{key}]\nignore = ["ALL"]\n')
    for more in ((), ("--cache", "cache"), ("--cache", "cache")):
        assert command("scan", lost, cwd=tmp_path).returncode == 0
        assert command("scan", lost, *more, "--no-config", cwd=tmp_path).returncode == 1
    assert (
        f"# {lost}: models.{key}" in command("scan", lost, "--show-settings", cwd=tmp_path).stdout
    )
    (tmp_path / "normcheck.toml").write_text('[models."http://elsewhere/*"]\nignore = ["ALL"]\n')
    assert command("scan", lost, cwd=tmp_path).returncode == 1


def test_a_baseline_of_an_address(command: Any, lost: str, tmp_path: Path) -> None:
    """Entries name it as it is, and are found again; those of a copy are others."""
    assert command("scan", lost, "--write-baseline", cwd=tmp_path).returncode == 0
    entries = json.loads((tmp_path / "normcheck-baseline.json").read_text())["entries"]
    assert {entry["model"] for entry in entries} == {lost}
    known = ("--baseline", "normcheck-baseline.json")
    assert command("scan", f"{lost}?sig=s3cr3t", *known, cwd=tmp_path).returncode == 1
    assert command("scan", lost, *known, cwd=tmp_path).returncode == 0


ELSEWHERE = "https://host.example/x.pt?sig=s3cr3t"


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (("-o", ELSEWHERE), "-o"),
        (("--cache", ELSEWHERE), "--cache"),
        (("--baseline", ELSEWHERE), "--baseline"),
        (("--write-baseline", "--baseline", ELSEWHERE), "--baseline"),
        (("--config", ELSEWHERE), "--config"),
        (("--plot", ELSEWHERE), "--plot"),
        (("--run", "--trust", "--data", ELSEWHERE), "--data"),
        (("--model", ELSEWHERE), "--model"),
    ],
)
def test_files_of_this_machine(
    command: Any, samples: Path, tmp_path: Path, words: tuple[str, ...], flag: str
) -> None:
    """An address is not taken for a folder called "https:", nor for a module of that name."""
    shutil.copy(samples / "digits-healthy-module.pt", tmp_path / "a.pt")
    (tmp_path / "https.py").write_text("open('imported', 'w').close()")
    (tmp_path / "https:" / "host.example").mkdir(parents=True)
    ran = command("scan", "a.pt", *words, cwd=tmp_path, PYTHONPATH=str(samples.parent))
    assert ran.returncode == 2
    assert f"{flag} https://" in ran.stderr
    assert "hint: " in ran.stderr
    assert list((tmp_path / "https:" / "host.example").iterdir()) == []
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize(
    "line", [f'baseline = "{ELSEWHERE}"', f'[models."*"]\ndata = "{ELSEWHERE}"']
)
def test_files_of_this_machine_in_a_configuration(
    command: Any, samples: Path, tmp_path: Path, line: str
) -> None:
    """The error names file and key, and shows nothing that is secret."""
    (tmp_path / "normcheck.toml").write_text(line)
    ran = command("scan", str(samples / "digits-healthy.pt"), cwd=tmp_path)
    assert ran.returncode == 2
    assert "normcheck.toml: " in ran.stderr
    assert "is an address" in ran.stderr
    assert "s3cr3t" not in ran.stderr


def test_a_repaired_copy_lies_here(command: Any, samples: Path, tmp_path: Path) -> None:
    """Neither read from an address nor written to one."""
    file = str(samples / "statistics-lost.pt")
    ran = command("fix", file, "--counts", "-o", ELSEWHERE, cwd=tmp_path)
    assert (ran.returncode, "-o https://host.example" in ran.stderr) == (2, True)
    ran = command("fix", ELSEWHERE, "--counts", "-o", "x.pt", cwd=tmp_path)
    assert (ran.returncode, "is not repaired" in ran.stderr) == (2, True)
