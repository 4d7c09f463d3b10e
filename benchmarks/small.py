"""A scan of one small checkpoint against other programs that look into it without trusting it.

    python benchmarks/small.py [CHECKPOINT] [--rounds 7]

Whole processes in turn, so that a machine whose speed drifts slows all alike; the ratio of each
round counts. picklescan, modelscan and hayward look for dangerous names and judge no numbers;
``torch.load(mmap=True)`` builds the tensors and judges nothing. What is not installed is left out:

    pip install picklescan modelscan hayward
"""

import argparse
import importlib.util
import os
import shutil
import sys
from pathlib import Path

from machine import described, in_turn, measured, medians, ratio

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / "sample_models" / "digits-healthy.pt"
LOAD = (
    "import sys, torch; torch.load(sys.argv[1], map_location='cpu', weights_only=True, mmap=True)"
)


def rivals(path: str) -> dict[str, list[str]]:
    """The commands of those that are installed."""
    bin_folder = Path(sys.executable).parent
    found = {"torch.load, mmap": [sys.executable, "-c", LOAD, path]}
    for name, words in (("picklescan", ["-p", path]), ("modelscan", ["-p", path]),
                        ("hayward", ["scan", path])):  # fmt: skip
        program = shutil.which(name, path=str(bin_folder)) or shutil.which(name)
        if program is not None:
            found[name] = [program, *words]
        else:
            print(f"{name}: not installed, left out")
    if importlib.util.find_spec("torch") is None:
        del found["torch.load, mmap"]
    return found


def main() -> None:
    """Print seconds and memory of each, and normcheck's part of each other's time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(DEFAULT))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(described())
    # Installed programs come compiled; ours is not to be compiled anew in every round.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    scan = [sys.executable, "-m", "normcheck", "scan", options.checkpoint]
    commands = {
        "normcheck": scan,
        "its plain flags": [*scan, "-f", "sarif", "--strict"],
        "Typer's flags": [*scan, "--engine", "local"],
    }
    commands |= rivals(options.checkpoint)
    codes = tuple(range(5))
    for words in commands.values():
        measured(words, codes)  # once unmeasured: files are then in memory for all
    rounds = in_turn(commands, options.rounds, codes)
    for name in commands:
        seconds, memory = medians(rounds, name)
        part = ratio(rounds, "normcheck", name)
        print(f"{name:<18} {seconds:6.3f} s  {memory:6.1f} MB  normcheck takes {part:5.2f} of it")


if __name__ == "__main__":
    main()
