"""What the wheel does once it is installed: run with its Python, away from the checkout.

Run as ``python outside.py CHECKOUT MODEL`` where MODEL is a copy of a sample whose statistics were
lost. Fails where the package does not work, has torch, or takes a file of the checkout.
"""

import importlib.util
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

COMMAND = Path(sysconfig.get_path("scripts")) / "normcheck"


def run(*words: str) -> subprocess.CompletedProcess[str]:
    """The installed command."""
    return subprocess.run(
        [str(COMMAND), *words], capture_output=True, encoding="utf-8", check=False
    )


def require(holds: object, what: str) -> None:
    """Fail where something does not hold; asserts could be switched off."""
    if not holds:
        raise SystemExit(f"the wheel fails outside the checkout: {what}")


def foreign(checkout: Path) -> list[str]:
    """Modules that were imported from the checkout."""
    files = {name: getattr(module, "__file__", None) for name, module in sys.modules.items()}
    return [
        name
        for name, file in files.items()
        if name != "__main__" and file and Path(file).resolve().is_relative_to(checkout)
    ]


def main(checkout: Path, model: str) -> None:
    """The command, the Python API, the page, and what is said where torch is missing."""
    require(importlib.util.find_spec("torch") is None, "torch was installed with it")
    scanned = run("scan", model)
    require(scanned.returncode == 1, f"scan ended with {scanned.returncode}: {scanned.stderr}")
    require("never updated" in scanned.stdout, f"scan said {scanned.stdout}")
    page = run("scan", model, "-f", "html")
    require(page.stdout.startswith("<!doctype html>"), f"no page: {page.stderr}")
    needs = run("scan", "--run", model, "--model", "net:build")
    require(needs.returncode == 2, f"a run without torch ended with {needs.returncode}")
    require("normcheck[run]" in needs.stderr, f"no word of the extra: {needs.stderr}")
    version = run("--version").stdout.split()[-1]
    require(metadata.version("normcheck") == version, f"--version says {version}")

    import normcheck

    report = normcheck.scan(model)
    require([f.rule for f in report.fails()] == ["NC101"], f"in Python: {report}")
    require(normcheck.__version__ == version, "__version__ is another one")
    require(not (found := foreign(checkout)), f"of the checkout: {found}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve(), sys.argv[2])
    print("the wheel works outside the checkout, without torch")
