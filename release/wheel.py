"""Tries the wheel where nothing of the checkout is: ``python -m release.wheel``, in ``make wheel``.

The wheel is built from the source distribution, installed into a new environment in a temporary
folder, and used there by ``outside.py`` with the samples it needs.
"""

import os
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

from release.build import ROOT, build, copied

SAMPLE = "statistics-lost.pt"


def main() -> int:
    """Build, install, use."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        try:
            _, wheel = build(copied(ROOT, folder / "source"), folder / "dist")
            python = _environment(folder / "environment", wheel)
        except subprocess.CalledProcessError as error:
            print(error.stderr or error.stdout, file=sys.stderr)
            return 1
        elsewhere = folder / "elsewhere"
        elsewhere.mkdir()
        shutil.copy(ROOT / "sample_models" / SAMPLE, elsewhere)
        shutil.copy(ROOT / "release" / "outside.py", elsewhere)
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("NORMCHECK_", "PYTHON"))}
        return subprocess.run(
            [str(python), "outside.py", str(ROOT), SAMPLE], cwd=elsewhere, env=clean, check=False
        ).returncode


def _environment(folder: Path, wheel: Path) -> Path:
    """A new environment with the wheel and what it needs."""
    venv.create(folder)
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    # This environment's pip installs into that one: to give it one of its own takes longer.
    words = ["-m", "pip", "--python", str(python), "install", "--quiet", "--no-compile"]
    subprocess.run(
        [sys.executable, *words, "-c", str(ROOT / "constraints.txt"), f"{wheel}[html]"],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return python


if __name__ == "__main__":
    sys.exit(main())
