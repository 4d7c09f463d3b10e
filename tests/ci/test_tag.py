"""``make tag``: only where version, changelog and git agree; in a clone of the test's own."""

import datetime as dt
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from normcheck.version import REPOSITORY, VERSION
from release.tag import disagreements, sections
from tests.conftest import ROOT

if shutil.which("git") is None:
    pytest.skip("no git", allow_module_level=True)

TODAY = dt.date(2030, 1, 15)
CHANGELOG = """# Changelog

## [Unreleased]

## [1.2.0] - 2030-01-15

### Added

- A thing.

## [1.1.0] - 2029-01-01

- First.
"""
Git = Callable[..., str]


@pytest.fixture
def git(tmp_path: Path) -> Git:
    """Runs git in a repository in which nothing is wrong."""

    def run(*words: str) -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", *who, *words], cwd=tmp_path, check=True, capture_output=True, text=True
        ).stdout

    run("init", "--quiet", "--initial-branch=main")
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG, encoding="utf-8")
    run("add", ".")
    run("commit", "--quiet", "-m", "all")
    run("tag", "v1.1.0")
    run("remote", "add", "origin", f"{REPOSITORY}.git")
    return run


def found(root: Path, version: str = "1.2.0") -> list[str]:
    return list(disagreements(root, version, REPOSITORY, TODAY))


def change(root: Path, git: Git, old: str, new: str) -> None:
    path = root / "CHANGELOG.md"
    assert old in path.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    git("commit", "--quiet", "-am", "changed")


def test_where_all_agree_nothing_is_said(tmp_path: Path, git: Git) -> None:
    """By whatever protocol the remote is reached."""
    assert found(tmp_path) == []
    host, _, path = REPOSITORY.partition("://")[2].partition("/")
    for address in (REPOSITORY, f"git@{host}:{path}.git", f"ssh://git@{host}/{path}"):
        git("remote", "set-url", "origin", address)
        assert found(tmp_path) == []


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("## [Unreleased]\n", "## [Unreleased]\n\n- More.\n", "unreleased entries"),
        ("## [Unreleased]\n", "", "keep that heading"),
        ("1.2.0] - 2030-01-15", "1.2.0]", "no date: ## [1.2.0] - 2030-01-15"),
        ("1.2.0] - 2030-01-15", "1.2.0] - soon", "no date"),
        ("1.2.0] - 2030-01-15", "1.2.0] - 2030-01-16", "to come"),
        ("[1.2.0]", "[1.3.0]", "is 1.3.0, not 1.2.0"),
        ("### Added\n\n- A thing.\n", "", "says nothing of 1.2.0"),
    ],
)
def test_a_changelog_that_disagrees(
    tmp_path: Path, git: Git, old: str, new: str, said: str
) -> None:
    """Each in a sentence of its own, and no other is said."""
    change(tmp_path, git, old, new)
    (sentence,) = found(tmp_path)
    assert said in sentence


def test_git_that_disagrees(tmp_path: Path, git: Git) -> None:
    """Changes, another branch, a tag that is there, a later one, another remote."""
    (tmp_path / "new.txt").write_text("", encoding="utf-8")
    assert "has changes" in found(tmp_path)[0]
    (tmp_path / "new.txt").unlink()
    git("checkout", "--quiet", "-b", "work")
    assert "this is work" in found(tmp_path)[0]
    git("checkout", "--quiet", "--detach")
    assert "no branch" in found(tmp_path)[0]
    git("checkout", "--quiet", "main")
    git("tag", "v1.10.0")
    assert found(tmp_path) == ["v1.10.0 is later than 1.2.0"]
    git("tag", "--delete", "v1.10.0")
    git("tag", "v1.2.0")
    assert "tagged already" in found(tmp_path)[0]
    git("tag", "--delete", "v1.2.0")
    git("remote", "set-url", "origin", f"{REPOSITORY}-of-somebody-else")
    assert "is no remote of this clone" in found(tmp_path)[0]


def test_versions_that_are_no_release(tmp_path: Path, git: Git) -> None:
    assert "is no version of a release" in found(tmp_path, "1.2.0.dev1")[0]


def test_the_changelog_of_the_project_is_cut() -> None:
    """Unreleased on top, then the version that the package has, with its day."""
    cut = sections((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert [name for name, _, _ in cut[:2]] == ["Unreleased", VERSION]
    assert dt.date.fromisoformat(cut[1][1])
    for name, _, text in cut:
        kinds = [line for line in text.splitlines() if line.startswith("### ")]
        assert len(kinds) == len(set(kinds)), name


def test_the_verb_tags_a_clone_and_pushes_nothing(tmp_path: Path) -> None:
    """The whole program in a clone: refused where a file was changed, then a tag with the notes."""
    clone = tmp_path / "clone"
    for name in ("normcheck/version.py", "release/tag.py"):
        (clone / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, clone / name)
        (clone / name).with_name("__init__.py").touch()
    cut = f"## [Unreleased]\n\n## [{VERSION}] - 2026-01-01"
    notes = f"# Changelog\n\n{cut}\n\n### Added\n\n- All.\n"
    (clone / "CHANGELOG.md").write_text(notes, encoding="utf-8")

    def git(*words: str) -> str:
        who = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        return subprocess.run(
            ["git", *who, *words], cwd=clone, check=True, capture_output=True, text=True
        ).stdout

    def tag() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "release.tag"], cwd=clone, capture_output=True, text=True,
            check=False, env={"PATH": str(Path(str(shutil.which("git"))).parent),
                              "GIT_COMMITTER_NAME": "A", "GIT_COMMITTER_EMAIL": "a@example.org",
                              "PYTHONPATH": str(clone), "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip

    git("init", "--quiet", "--initial-branch=main")
    git("remote", "add", "origin", REPOSITORY)
    git("add", ".")
    git("commit", "--quiet", "-m", "all")
    (clone / "CHANGELOG.md").write_text(notes + "\n- Late.\n", encoding="utf-8")
    refused = tag()
    assert refused.returncode == 1
    assert refused.stderr == (
        "error: the working tree has changes: commit them, or put them away\n"
    )
    assert git("tag") == ""
    git("checkout", "--quiet", "CHANGELOG.md")
    done = tag()
    assert done.returncode == 0, done.stderr
    assert git("tag", "--list", "--format=%(contents)").strip() == (
        f"normcheck {VERSION}\n\n### Added\n\n- All."
    )
    again = tag()
    assert (again.returncode, "tagged already" in again.stderr) == (1, True)
