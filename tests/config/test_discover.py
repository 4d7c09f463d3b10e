"""Where a configuration is found, and what happens to one that cannot be read."""

from pathlib import Path

import pytest

from normcheck.config.discover import discover, named
from normcheck.errors import ConfigError

TABLE = '[tool.normcheck]\nfail-on = "error"\n'


def test_the_nearest_file_upward(tmp_path: Path) -> None:
    """A configuration in a parent folder serves its subfolders, a nearer one wins."""
    deep = tmp_path / "a" / "b"
    deep.mkdir(parents=True)
    (tmp_path / "pyproject.toml").write_text(TABLE)
    assert discover(deep) == (tmp_path / "pyproject.toml", {"fail-on": "error"})
    (tmp_path / "a" / "normcheck.toml").write_text("strict = true\n")
    assert discover(deep) == (tmp_path / "a" / "normcheck.toml", {"strict": True})


def test_normcheck_toml_wins_in_its_folder(tmp_path: Path) -> None:
    """Of two in one folder, the one that does nothing else."""
    (tmp_path / "pyproject.toml").write_text(TABLE)
    (tmp_path / "normcheck.toml").write_text("")
    assert discover(tmp_path) == (tmp_path / "normcheck.toml", {})


@pytest.mark.parametrize(
    "text",
    [
        "[project]\nname = 'normcheck-user'\n",
        "[tool.ruff]\nline-length = 100\n",
        "this is no TOML at all [",
        "",
    ],
)
def test_a_pyproject_without_the_table_is_passed_by(tmp_path: Path, text: str) -> None:
    """Also one that is broken: it says nothing to normcheck."""
    inner = tmp_path / "inner"
    inner.mkdir()
    (tmp_path / "normcheck.toml").write_text("strict = true\n")
    (inner / "pyproject.toml").write_text(text)
    assert discover(inner) == (tmp_path / "normcheck.toml", {"strict": True})


def test_odd_spellings_of_the_table(tmp_path: Path) -> None:
    """TOML has several; a byte order mark is none of our troubles."""
    for text in ('[tool."normcheck"]\nstrict = true', "tool.normcheck.strict = true"):
        (tmp_path / "pyproject.toml").write_text("\ufeff" + text, encoding="utf-8")
        assert discover(tmp_path) == (tmp_path / "pyproject.toml", {"strict": True})


@pytest.mark.parametrize(
    "content",
    [
        b"[tool.normcheck]\nfail-on = ",
        b"[tool.normcheck]\nx = '\xff'",
        b"normcheck = " + b"[" * 9999,
    ],
)
def test_broken_files_are_errors(tmp_path: Path, content: bytes) -> None:
    """A file that speaks of normcheck and cannot be read is named."""
    (tmp_path / "pyproject.toml").write_bytes(content)
    with pytest.raises(ConfigError, match="not valid TOML") as caught:
        discover(tmp_path)
    assert "pyproject.toml" in caught.value.message
    assert "--no-config" in caught.value.hint


def test_tool_normcheck_must_be_a_table(tmp_path: Path) -> None:
    """A plain value there is a mistake, not a configuration."""
    (tmp_path / "pyproject.toml").write_text("[tool]\nnormcheck = 1\n")
    with pytest.raises(ConfigError, match="is not a table"):
        discover(tmp_path)


def test_a_named_file_must_be_there_and_be_ours(tmp_path: Path) -> None:
    """``--config`` finds no silent end."""
    with pytest.raises(ConfigError, match="No such file"):
        named(tmp_path / "nowhere.toml")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    with pytest.raises(ConfigError, match="no table"):
        named(tmp_path / "pyproject.toml")
    with pytest.raises(ConfigError, match="cannot be read"):
        named(tmp_path)
    (tmp_path / "other.toml").write_text("strict = true\n")
    assert named(tmp_path / "other.toml") == {"strict": True}
