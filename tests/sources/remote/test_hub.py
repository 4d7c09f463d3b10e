"""Models on a hub, read through ``huggingface_hub`` from a server that answers as the hub does."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sources.remote.hub import Hub, serving_hub

pytest.importorskip("huggingface_hub")
Scan = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def hub(tmp_path: Path, samples: Path, large: Path) -> Iterator[Hub]:
    """One repository with a healthy, a sick and a large model."""
    folder = tmp_path / "org" / "model" / "runs"
    folder.mkdir(parents=True)
    for name in ("digits-healthy.safetensors", "statistics-lost.pt"):
        shutil.copy(samples / name, folder)
    shutil.copy(large, folder.parent / "large.pt")
    (folder.parent / "README.md").write_text("# A model")
    with serving_hub(tmp_path) as served:
        yield served


@pytest.fixture
def scanned(hub: Hub, tmp_path: Path) -> Scan:
    """Runs the command in a process: the package reads its environment when it is imported."""

    def scan(*words: str, **environment: str) -> tuple[int, dict[str, Any], str]:
        ran = subprocess.run(
            [sys.executable, "-m", "normcheck", "scan", "-f", "json", *words],
            env={**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"),
                 "HF_TOKEN": "", **environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return ran.returncode, json.loads(ran.stdout), ran.stderr

    return scan


def test_a_file(scanned: Scan) -> None:
    """What the copy on the disk would say."""
    code, report, said = scanned("hf://org/model/runs/statistics-lost.pt")
    assert (code, said) == (1, "")
    assert [finding["rule"] for finding in report["findings"]] == ["NC101"]


def test_a_repository_and_a_pattern(scanned: Scan) -> None:
    """All models in it; the pattern's alone."""
    _, report, _ = scanned("hf://org/model", "--weights-budget", "0")
    assert [model["target"] for model in report["models"]] == [
        "hf://org/model/large.pt",
        "hf://org/model/runs/digits-healthy.safetensors",
        "hf://org/model/runs/statistics-lost.pt",
    ]
    _, report, _ = scanned("hf://org/model/runs/*.safetensors")
    assert len(report["models"]) == 1


def test_only_what_is_judged_is_fetched(scanned: Scan, hub: Hub, large: Path) -> None:
    """Not the five megabytes behind it, which fsspec reads ahead by itself."""
    scanned("hf://org/model/large.pt", "--weights-budget", "0")
    assert hub.sent < 0.02 * large.stat().st_size
    assert len(hub.asked) < 15


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://org/model/none.pt", "there is no such file"),
        ("hf://org/other/model.pt", "there is no such file"),
    ],
)
def test_what_is_not_there(scanned: Scan, address: str, message: str) -> None:
    """A file, a repository."""
    code, report, _ = scanned(address)
    assert code == 2
    assert report["errors"][0]["message"] == f"{address}: {message}"


def test_gated_models(scanned: Scan, hub: Hub) -> None:
    """The hint says how to sign in; a token is the package's own business, and never shown."""
    address, hub.token, other = "hf://org/model/runs/statistics-lost.pt", "hf_secret", "hf_wrong"
    code, report, said = scanned(address, HF_TOKEN=other)
    assert code == 2
    assert "access to it is denied (401)" in report["errors"][0]["message"]
    assert "hf auth login" in report["errors"][0]["hint"]
    assert other not in said
    code, report, _ = scanned(address, HF_TOKEN=hub.token)
    assert code == 1
    assert hub.token not in json.dumps(report)
