"""This checkout against another commit, and against others who read the same files.

    python benchmarks/before_after.py [--commit 11a9f13] [--rounds 5] [--files 500]
                                      [--tensors 100000] [--jobs N] [--equal] [--only NAME ...]

Whole processes in turn: one small file, a folder of small files of which no two are alike (see
``different_files.py``), and files of many tensors (see ``sparse.py``), with and without a stem of
BatchNorms, where the weights between norms are judged. A ratio is the median of the
rounds' ratios of processor seconds, those of worker processes included; ``--jobs 1`` has none,
without it scans have as many as they take by themselves. ``--equal`` compares the
reports of both commits on the same files instead, without what names version and time. picklescan
and hayward look for code in pickles and at nothing else; ``torch.load`` and ``load_file`` build the
tensors and judge nothing. What is not installed is left out: ``pip install picklescan hayward``.
"""

import argparse
import io
import json
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

from different_files import fill
from machine import described
from sparse import many_tensors, sharded, stem, torch_zip

ROOT = Path(__file__).resolve().parent.parent
HERE, THERE = "this checkout", "the other commit"
SCAN = [sys.executable, "-m", "normcheck", "scan", "-f", "json-lines", "--exit-zero"]
LOAD = "import sys, torch; torch.load(sys.argv[1], weights_only=True, mmap=True)"
LOAD_FILE = "import sys; from safetensors.torch import load_file; load_file(sys.argv[1])"
_LAUNCH = """
import os, subprocess, sys
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
"""
"""In a small process of its own: a child counts what its parent held when it was born."""
_CHANGING = ("version", "normcheck_version", "seconds", "started", "time")
"""Fields of a report that tell of the run and not of the file."""


def checkout(commit: str, folder: Path) -> Path:
    """The files of a commit, in a folder."""
    packed = subprocess.run(
        ["git", "archive", commit], cwd=ROOT, capture_output=True, check=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def measured(words: list[str], cwd: Path, environment: dict[str, str]) -> tuple[float, float]:
    """Processor seconds of a run with all its processes, and megabytes of the largest."""
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCH, *words],
        cwd=cwd, env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    seconds, megabytes, code = done.stdout.split()
    if int(code) not in (0, 1):
        raise SystemExit(f"{' '.join(words)} ended with {code}")
    return float(seconds), float(megabytes)


def rivals(kind: str, target: Path) -> dict[str, list[str]]:
    """The commands of others that are installed, for one kind of target."""
    found: dict[str, list[str]] = {}
    if kind == "one small file" or kind.startswith("torch zip"):
        found["torch.load, mmap"] = [sys.executable, "-c", LOAD, str(target)]
    if kind.startswith("safetensors"):
        found["load_file"] = [sys.executable, "-c", LOAD_FILE, str(target)]
    else:
        for name, words in (("picklescan", ["-p"]), ("hayward", ["scan"])):
            beside = str(Path(sys.executable).parent)
            program = shutil.which(name, path=beside) or shutil.which(name)
            if program is not None:
                found[name] = [program, *words, str(target)]
    return found


def compared(
    kind: str, target: Path, other: Path, rounds: int, pycache: Path, flags: list[str]
) -> None:
    """One row for each who reads the target: seconds, memory, and our part of its seconds."""
    # Installed programs come compiled; ours is not to be compiled anew in every round.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(pycache), "OMP_NUM_THREADS": "1"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    scan = [*SCAN, *flags, str(target)]
    lines = {HERE: (scan, ROOT), THERE: (scan, other)}
    lines |= {name: (words, pycache) for name, words in rivals(kind, target).items()}
    for words, cwd in lines.values():
        measured(words, cwd, environment)  # once unmeasured: compiled, and files in memory
    runs = [
        {name: measured(words, cwd, environment) for name, (words, cwd) in lines.items()}
        for _ in range(rounds)
    ]
    for name in lines:
        seconds, megabytes = (
            statistics.median(values) for values in zip(*(run[name] for run in runs), strict=True)
        )
        part = statistics.median(run[HERE][0] / run[name][0] for run in runs)
        print(
            f"{kind:<24} {name:<18} {seconds:8.2f} s {megabytes:7.0f} MB  "
            f"ours is {part:5.2f} of it",
            flush=True,
        )


def report(target: Path, cwd: Path) -> list[Any]:
    """What a checkout says of every file of a target, without what tells of the run."""
    done = subprocess.run([*SCAN, str(target)], cwd=cwd, capture_output=True, text=True, check=True)

    def told(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: told(part) for name, part in value.items() if name not in _CHANGING}
        return [told(part) for part in value] if isinstance(value, list) else value

    return [told(json.loads(line)) for line in done.stdout.splitlines()]


def found_in(value: Any) -> list[str]:
    """Code and severity of every finding in a line of a report."""
    if isinstance(value, dict):
        told = (
            [f"{value['rule']} {value['severity']}"] if {"rule", "severity"} <= set(value) else []
        )
        return sorted(told + [text for part in value.values() for text in found_in(part)])
    return (
        sorted(text for part in value for text in found_in(part)) if isinstance(value, list) else []
    )


def equal(kind: str, target: Path, other: Path) -> bool:
    """Whether both checkouts say the same; the first line that differs is shown.

    Lines may differ in what is told of a model, and still agree in what is found.
    """
    ours, theirs = report(target, ROOT), report(target, other)
    pairs = list(zip(ours, theirs, strict=False))
    different = [i for i, (one, two) in enumerate(pairs) if one != two]
    judged = [i for i in different if found_in(pairs[i][0]) != found_in(pairs[i][1])]
    print(
        f"{kind}: {len(ours):,} and {len(theirs):,} lines, {len(different):,} differ, "
        f"{len(judged):,} in what is found",
        flush=True,
    )
    if different:
        print(json.dumps(theirs[different[0]])[:2000], json.dumps(ours[different[0]])[:2000],
              sep="\n")  # fmt: skip
    return not different and len(ours) == len(theirs)


KINDS = (
    "one small file", "different small files", "torch zip", "safetensors",
    "torch zip with stem", "safetensors with stem",
)  # fmt: skip


def target(kind: str, folder: Path, files: int, tensors: int) -> Path:
    """What is read of one kind, made now."""
    if kind == "one small file":
        return ROOT / "sample_models" / "digits-healthy.pt"
    print(f"making: {kind}", file=sys.stderr, flush=True)
    if kind == "different small files":
        many = folder / "many"
        many.mkdir()
        fill(many, files)
        return many
    named = OrderedDict(many_tensors(tensors))
    if "stem" in kind:
        named = OrderedDict([*stem().items(), *named.items()])
    if kind.startswith("torch zip"):
        torch_zip(folder / "many.pt", named)
        return folder / "many.pt"
    sharded(folder / "shards", named, 1)
    return folder / "shards" / "model-00001-of-00001.safetensors"


def main() -> int:
    """Print the table, or whether the reports are equal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default="11a9f13")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--files", type=int, default=500)
    parser.add_argument("--tensors", type=int, default=100_000)
    parser.add_argument("--jobs", type=int, help="worker processes of a scan")
    parser.add_argument("--equal", action="store_true")
    parser.add_argument(
        "--only", nargs="*", default=[], help=f"kinds of targets: {', '.join(KINDS)}"
    )
    parser.add_argument("--also", nargs="*", type=Path, default=[], help="files to compare too")
    options = parser.parse_args()
    print(described())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        other = checkout(options.commit, folder / "other")
        own = {path.name: path.resolve() for path in options.also}
        told = []
        flags = [] if options.jobs is None else ["--jobs", str(options.jobs)]
        for kind in [*KINDS, *own]:
            if options.only and kind not in options.only:
                continue
            path = own.get(kind) or target(kind, folder, options.files, options.tensors)
            if options.equal:
                told.append(equal(kind, path, other))
            else:
                compared(kind, path, other, options.rounds, folder / "compiled", flags)
    return 0 if all(told) else 1


if __name__ == "__main__":
    sys.exit(main())
