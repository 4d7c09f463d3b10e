"""Tags a release: ``python -m release.tag``, in ``make tag``. Nothing is pushed.

The tag is made only where version, changelog and git agree; otherwise each disagreement is said,
and nothing is changed.
"""

import datetime as dt
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from normcheck.version import REPOSITORY, VERSION

ROOT = Path(__file__).resolve().parent.parent
BRANCH = "main"
_SECTION = re.compile(
    r"^## \[(?P<name>[^\]]+)\](?: - (?P<date>\S+))?\n(?P<text>.*?)(?=^## |\Z)",
    re.DOTALL | re.MULTILINE,
)


def git(*words: str, root: Path = ROOT) -> str:
    """What git says; empty where it fails."""
    done = subprocess.run(
        ["git", *words], cwd=root, capture_output=True, encoding="utf-8", check=False
    )
    return done.stdout.strip() if done.returncode == 0 else ""


def sections(changelog: str) -> list[tuple[str, str, str]]:
    """Name, date and text of each version of a changelog, in its order."""
    return [(m["name"], m["date"] or "", m["text"].strip()) for m in _SECTION.finditer(changelog)]


def numbers(version: str) -> tuple[int, ...]:
    """A version to be compared; empty where it is none that a release has."""
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", version)
    return tuple(map(int, found.groups())) if found else ()


def disagreements(root: Path, version: str, repository: str, today: dt.date) -> Iterator[str]:
    """What speaks against a release, each with what to do.

    Args:
        root: The checkout.
        version: Of ``normcheck/version.py``.
        repository: The address of the project, from there.
        today: No release is of a later day.
    """
    if not numbers(version):
        yield f"{version!r} is no version of a release: write X.Y.Z into normcheck/version.py"
    yield from _changelog(sections((root / "CHANGELOG.md").read_text("utf-8")), version, today)
    yield from _state(root, version)
    remotes = git("remote", "-v", root=root)
    # An address with a user, of ssh, or with .git at its end is the same place.
    host, _, path = repository.partition("://")[2].partition("/")
    if not re.search(rf"{re.escape(host)}[:/]{re.escape(path)}(\.git)?[ \t]", remotes):
        yield (
            f"{repository} is no remote of this clone: if the project lives elsewhere, write that "
            "into normcheck/version.py, and run make docs"
        )


def _changelog(found: list[tuple[str, str, str]], version: str, today: dt.date) -> Iterator[str]:
    names = [name for name, _, _ in found]
    if not names or names[0] != "Unreleased":
        yield "CHANGELOG.md does not begin with ## [Unreleased]: keep that heading"
    elif found[0][2]:
        yield f"CHANGELOG.md has unreleased entries: move them under ## [{version}]"
    released = [entry for entry in found if entry[0] != "Unreleased"]
    if not released or released[0][0] != version:
        last = released[0][0] if released else "none"
        yield f"the last version in CHANGELOG.md is {last}, not {version}: cut it there, or here"
        return
    _, date, text = released[0]
    if not text:
        yield f"CHANGELOG.md says nothing of {version}"
    try:
        if dt.date.fromisoformat(date) > today:
            yield f"CHANGELOG.md dates {version} {date}, which is to come"
    except ValueError:
        yield f"CHANGELOG.md gives {version} no date: ## [{version}] - {today}"


def _state(root: Path, version: str) -> Iterator[str]:
    if not git("rev-parse", "HEAD", root=root):
        yield f"{root} is no clone with a commit"
        return
    if git("status", "--porcelain", root=root):
        yield "the working tree has changes: commit them, or put them away"
    branch = git("symbolic-ref", "--short", "HEAD", root=root)
    if branch != BRANCH:
        yield f"this is {branch or 'no branch'}: releases are tagged on {BRANCH}"
    tags = git("tag", "--list", "v*", root=root).split()
    if f"v{version}" in tags:
        yield f"v{version} is tagged already: write the next version into normcheck/version.py"
    later = [tag for tag in tags if numbers(tag[1:]) > (numbers(version) or (0,))]
    if later:
        yield f"{later[-1]} is later than {version}"


def main() -> int:
    """Tag, or say what is in the way."""
    found = list(disagreements(ROOT, VERSION, REPOSITORY, dt.date.today()))
    for sentence in found:
        print(f"error: {sentence}", file=sys.stderr)
    if found:
        return 1
    notes = next(
        text
        for name, _, text in sections((ROOT / "CHANGELOG.md").read_text("utf-8"))
        if name == VERSION
    )
    message = f"normcheck {VERSION}\n\n{notes}\n"
    subprocess.run(
        # Headings of the notes begin with the sign of git's comments.
        ["git", "tag", "--annotate", "--cleanup=verbatim", f"v{VERSION}", "--file=-"],
        cwd=ROOT,
        input=message.encode(),
        check=True,
    )
    print(f"tagged v{VERSION}; make it known with: git push origin v{VERSION}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
