"""No output replaces what the run reads, by whatever name it is called; nor another output."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import save_file

from tests.cli.conftest import Normcheck
from tests.writing.writers import DESCRIPTORS, HEALTHY, LOST, SICK, listing

LOST_IT = "which would be lost; it was left as it is"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A folder with two models, and other names for the first: two links and a hard link."""
    shutil.copy(SICK, tmp_path / "model.pt")
    shutil.copy(HEALTHY, tmp_path / "other.pt")
    (tmp_path / "link.json").symlink_to("model.pt")
    (tmp_path / "further.json").symlink_to("link.json")
    (tmp_path / "hard.json").hardlink_to(tmp_path / "model.pt")
    return tmp_path


def _contents(folder: Path) -> dict[str, tuple[object, ...]]:
    return {name: value for name, value in listing(folder).items() if name != "."}


@pytest.mark.parametrize(
    "place", ["model.pt", "./model.pt", "link.json", "further.json", "hard.json"]
)
@pytest.mark.parametrize(
    "words",
    [
        ["scan", "model.pt", "-f", "json", "-o"],
        ["scan", ".", "-f", "json", "-o"],
        ["scan", "*.pt", "-f", "json-lines", "-o"],
        ["scan", "model.pt", "-f", "text", "-f", "sarif", "-o", "-", "-o"],
        ["scan", ".", "--jobs", "2", "-f", "json", "-o"],
        ["scan", "other.pt", "model.pt", "-q", "--write-baseline", "--baseline"],
        ["scan", "model.pt", "-q", "--plot"],
        ["scan", "model.pt", "-q", "--cache"],
        ["diff", "other.pt", "model.pt", "-o"],
        ["diff", ".", "-o"],
    ],
    ids=" ".join,
)
def test_a_model_that_is_read(
    words: list[str], place: str, normcheck: Normcheck, models: Path
) -> None:
    before = _contents(models)
    ran = normcheck(*words, place)
    assert ran.code == 2
    assert LOST_IT in ran.err
    assert "hint: name another file" in ran.err
    assert _contents(models) == before


@pytest.mark.parametrize("place", ["model.pt", "link.json", "further.json", "hard.json"])
def test_the_copy_is_no_input(place: str, normcheck: Normcheck, models: Path) -> None:
    before = _contents(models)
    ran = normcheck("fix", "model.pt", "--modes", "eval", "-o", place)
    assert ran.code == 2
    assert "is the input itself" in ran.err
    assert "--in-place" in ran.err
    assert _contents(models) == before


def test_files_that_a_model_is_spread_over(normcheck: Normcheck, tmp_path: Path) -> None:
    """A shard is read through its index, and is named by nobody."""
    import json

    import torch

    names = ("running_mean", "running_var", "weight", "bias")
    shard = tmp_path / "model-00001-of-00001.safetensors"
    save_file({f"bn.{name}": torch.ones(4) for name in names}, shard)
    index = {"weight_map": {f"bn.{name}": shard.name for name in names}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    (tmp_path / "report.json").hardlink_to(shard)
    before = _contents(tmp_path)
    for words in (
        ("scan", "model.safetensors.index.json"),
        ("scan", "."),
        ("diff", "model.safetensors.index.json", "model.safetensors.index.json"),
    ):
        for place in (shard.name, "report.json"):
            ran = normcheck(*words, "-f", "json", "-o", place)
            assert ran.code == 2, words
            assert LOST_IT in ran.err
            assert _contents(tmp_path) == before


def test_a_model_is_no_cache(normcheck: Normcheck, models: Path) -> None:
    """Also one that is only found while the run goes on."""
    before = _contents(models)
    for place in ("model.pt", "link.json", "hard.json"):
        ran = normcheck("scan", ".", "-q", "--cache", place)
        assert ran.code == 2
        assert "not a cache of normcheck" in ran.err
        assert _contents(models) == before


def test_other_inputs(normcheck: Normcheck, models: Path) -> None:
    """The configuration, the baseline, the data, and files that could not be read."""
    (models / "normcheck.toml").write_text("", encoding="utf-8")
    (models / "known.json").write_text('{"version": 1, "entries": []}', encoding="utf-8")
    (models / "notes.txt").write_text("no model", encoding="utf-8")
    shutil.copy(SICK.parent / "digits.npz", models / "val.npz")
    before = _contents(models)
    for words in (
        ("scan", "model.pt", "-o", "normcheck.toml"),
        ("diff", "model.pt", "model.pt", "-o", "normcheck.toml"),
        ("scan", "model.pt", "--baseline", "known.json", "-o", "known.json"),
        ("scan", "model.pt", "--baseline", "known.json", "--cache", "known.json"),
        ("scan", "notes.txt", "-o", "notes.txt"),
        ("scan", "other.pt", "--data", "val.npz", "-o", "val.npz"),
    ):
        ran = normcheck(*words)
        assert ran.code == 2, words
        assert LOST_IT in ran.err, words
        assert _contents(models) == before


@pytest.mark.parametrize(
    "words",
    [
        ["-f", "json", "-o", "x", "-f", "sarif", "-o", "./x"],
        ["-f", "json", "-o", "x", "--write-baseline", "--baseline", "x"],
        ["-f", "json", "-o", "x", "--cache", "x"],
        ["-f", "json", "-o", "x", "--plot", "x"],
        ["-f", "json", "-o", "x", "-f", "sarif", "-o", "to-x"],
        ["--plot", "-"],
        ["-f", "json", "-f", "sarif", "-o", "-", "-o", "to-stdout"],
    ],
    ids=" ".join,
)
def test_two_outputs_for_one_place(words: list[str], normcheck: Normcheck, models: Path) -> None:
    (models / "to-x").symlink_to("x")
    (models / "to-stdout").symlink_to(f"{DESCRIPTORS}/1")
    before = _contents(models)
    ran = normcheck("scan", LOST, *words)
    assert ran.code == 2
    assert "two outputs for one place" in ran.err
    assert ran.out == ""
    assert _contents(models) == before
