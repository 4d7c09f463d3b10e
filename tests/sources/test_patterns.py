"""Patterns find what ``glob`` finds, in one order on all machines, and lazily."""

import glob
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from normcheck.sources import patterns
from normcheck.sources.patterns import matching
from normcheck.sources.targets import expand


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders three deep, hidden ones, names with signs in them."""
    root = tmp_path_factory.mktemp("tree")
    for folder in ("a", "a-b", "a/b", "a/b/c", ".hidden", "b", "b/a", "[x]"):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for name in ("a.pt", "b.ckpt", ".c.pt"):
            (root / folder / name).touch()
    return root


words = st.sampled_from(["*", "**", "a", "b", "a*", "*.pt", "?", "[ab]*", ".*", "[!a]", "[[]x]"])


@settings(max_examples=200, deadline=None)
@given(parts=st.lists(words, min_size=1, max_size=4))
def test_as_glob(tree: Path, parts: list[str]) -> None:
    """The same places; the library itself names some of them twice, and we its order."""
    if not any(map(glob.has_magic, parts)):
        return
    pattern = str(tree.joinpath(*parts))
    found = list(matching(pattern))
    assert len(found) == len(set(found))
    wanted = {Path(match) for match in glob.glob(pattern, recursive=True)}
    if parts[-1] == "**":
        # It stands for the folder itself, too, which is no news to who named it.
        assert set(found) <= wanted
    else:
        assert set(found) == wanted


def test_links_that_go_round(tmp_path: Path) -> None:
    """The library follows them until the system stops it; here they are passed by."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "model.pt").touch()
    (tmp_path / "a" / "round").symlink_to(tmp_path, target_is_directory=True)
    assert list(matching(f"{tmp_path}/**/*.pt")) == [tmp_path / "a" / "model.pt"]


def test_from_here(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Relative patterns give relative paths, by name within each folder."""
    monkeypatch.chdir(tree)
    assert list(map(str, matching("a*/*.pt"))) == ["a/a.pt", "a-b/a.pt"]
    assert list(map(str, matching("./b/*.ckpt"))) == ["b/b.ckpt"]
    assert list(matching("none/*.pt")) == []


def test_a_folder_is_looked_into_when_its_turn_comes(
    tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who takes the first match waits for one folder."""
    looked: list[Path] = []
    names = patterns._names
    monkeypatch.setattr(patterns, "_names", lambda folder: looked.append(folder) or names(folder))
    first = next(matching(f"{tree}/*/*.pt"))
    assert first == tree / "[x]" / "a.pt"
    assert looked == [tree, tree / "[x]"]


def test_nothing_comes_twice(tree: Path) -> None:
    """Folders that match, and files in them that match as well."""
    found = [target.path for target in expand([f"{tree}/a/**/*"])]
    assert len(found) == len(set(found)) > 4
