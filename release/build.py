"""Builds the package the way an index gets it: a source distribution, and the wheel made of that.

Run as ``python -m release.build``; both files are in ``dist/`` then. Nothing is fetched: the
setuptools of this environment does it.
"""

import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_HOOK = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"


def files_of(root: Path) -> list[str]:
    """What belongs to the project: files that git tracks, and new ones that it does not ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
    ).stdout.decode()
    # A file that was deleted and not yet committed is still listed.
    return sorted({name for name in listed.split("\0") if name and (root / name).exists()})


def copied(root: Path, into: Path) -> Path:
    """A copy of the project alone: no build of before, nothing that git ignores."""
    for name in files_of(root):
        target = into / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / name, target)
    return into


def build(source: Path, into: Path) -> tuple[Path, Path]:
    """Build both distributions.

    Args:
        source: The project's folder; the build leaves files there.
        into: Where the distributions go.

    Returns:
        The source distribution, and the wheel that was built from it.

    Raises:
        subprocess.CalledProcessError: A build failed; stderr says why.
    """
    into.mkdir(parents=True, exist_ok=True)
    _hook("build_sdist", source, into)
    (sdist,) = into.glob("*.tar.gz")
    with tempfile.TemporaryDirectory() as folder, tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
        (unpacked,) = Path(folder).iterdir()
        _hook("build_wheel", unpacked, into)
    (wheel,) = into.glob("*.whl")
    return sdist, wheel


def _hook(name: str, source: Path, into: Path) -> None:
    words = [sys.executable, "-c", _HOOK, name, str(into.resolve())]
    subprocess.run(words, cwd=source, check=True, capture_output=True, text=True)


def main() -> int:
    """Build what git has of the project into ``dist/``."""
    target = ROOT / "dist"
    shutil.rmtree(target, ignore_errors=True)
    with tempfile.TemporaryDirectory() as folder:
        try:
            built = build(copied(ROOT, Path(folder)), target)
        except subprocess.CalledProcessError as error:
            print(error.stderr, file=sys.stderr)
            return 1
    for file in built:
        print(file.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
