"""Many small checkpoints: one process against several, against scanners for code, and a cache.

All runs are whole processes over the same folder, one after the other, so that the ratios are of
one machine in one state. picklescan and hayward look for code in pickles and at nothing else; they
stand here for what reading the files costs a careful reader at least. They are no dependencies:
``pip install picklescan hayward`` to have their lines.

    python benchmarks/many.py [--files N] [--jobs N] [--memory N N N]
"""

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("digits-healthy.pt", "averaged-without-buffers.pt", "digits-healthy.safetensors")
"""Samples that the folder is made of, in turn: state dicts of a small CNN, 75 kB each."""
SCAN = [sys.executable, "-m", "normcheck", "scan", "-f", "json-lines", "--exit-zero"]


def measure(*words: str) -> tuple[float, float, float]:
    """Seconds of a run, processor seconds of all its processes, megabytes of the largest.

    The second is what to look at where the machine does other things as well.
    """
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(words)} ended with {process.returncode}")
    return seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def copies(folder: Path, count: int) -> None:
    """Fill a folder with copies of samples, as checkpoints of many runs."""
    for number in range(count):
        source = ROOT / "sample_models" / KINDS[number % len(KINDS)]
        shutil.copy(source, folder / f"run-{number:05}{source.suffix}")


def tiny(folder: Path, count: int) -> None:
    """Fill a folder with checkpoints of a few kilobytes, which differ."""
    rng = np.random.default_rng(0)
    for number in range(count):
        values = {}
        for layer in range(4):
            values |= {
                f"block.{layer}.norm.{name}": rng.uniform(0.5, 1.5, 32).astype(np.float32)
                for name in ("weight", "bias", "running_mean", "running_var")
            }
        save_file(values, folder / f"run-{number:05}.safetensors")


def apart(folder: Path, beside: Path) -> list[str]:
    """Two scans of one process each, started together: what the machine itself allows."""
    words = []
    for number in range(2):
        half = beside / f"half-{number}"
        half.mkdir()
        for file in sorted(folder.iterdir())[number::2]:
            (half / file.name).hardlink_to(file)
        words.append(shlex.join([*SCAN, str(half), "--jobs", "1"]))
    return ["sh", "-c", f"{words[0]} & {words[1]}; wait"]


def speed(files: int, jobs: int) -> None:
    """Files a second, each line against the first."""
    with tempfile.TemporaryDirectory() as name:
        folder, cache = Path(name, "runs"), str(Path(name, "cache.sqlite"))
        folder.mkdir()
        copies(folder, files)
        target = str(folder)
        lines = {
            "one process": [*SCAN, target, "--jobs", "1"],
            "two scans of half each": apart(folder, Path(name)),
            f"{jobs} processes": [*SCAN, target, "--jobs", str(jobs)],
            "default": [*SCAN, target],
            f"{jobs} processes, filling a cache": [
                *SCAN, target, "--jobs", str(jobs), "--cache", cache,
            ],
            "from the cache": [*SCAN, target, "--cache", cache],
        }  # fmt: skip
        if importlib.util.find_spec("picklescan"):
            lines["picklescan"] = [sys.executable, "-m", "picklescan", "-p", target]
        if importlib.util.find_spec("hayward"):
            lines["hayward"] = [sys.executable, "-m", "hayward", "scan", target]
        print(f"| {files:,} checkpoints | seconds | a second | of one process | CPU s | MB |")
        print("|---|---|---|---|---|---|")
        first = 0.0
        for label, words in lines.items():
            seconds, busy, megabytes = measure(*words)
            first = first or seconds
            print(
                f"| {label} | {seconds:.2f} | {files / seconds:,.0f} | {first / seconds:.2f} x | "
                f"{busy:.1f} | {megabytes:.0f} |",
                flush=True,
            )


def memory(counts: list[int], jobs: int) -> None:
    """Peak memory against the number of files."""
    print(
        "| checkpoints | seconds | MB, JSON lines | MB, JSON | MB, text | MB, text from a cache |"
    )
    print("|---|---|---|---|---|---|")
    for count in counts:
        with tempfile.TemporaryDirectory() as name:
            folder, cache = Path(name, "runs"), str(Path(name, "cache.sqlite"))
            folder.mkdir()
            tiny(folder, count)
            words = [str(folder), "--jobs", str(jobs)]
            seconds, _, lines = measure(*SCAN, *words)
            text = [sys.executable, "-m", "normcheck", "scan", "--exit-zero", *words]
            *_, whole = measure(*text, "-f", "json")
            *_, plain = measure(*text, "--cache", cache)
            *_, cached = measure(*text, "--cache", cache)
        row = f"| {lines:.0f} | {whole:.0f} | {plain:.0f} | {cached:.0f} |"
        print(f"| {count:,} | {seconds:.1f} {row}", flush=True)


def main() -> None:
    """Print both tables, and the machine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--memory", type=int, nargs="*", default=[100, 1_000, 10_000])
    options = parser.parse_args()
    print(f"{os.cpu_count()} processors, Python {platform.python_version()}, {platform.system()}\n")
    if options.files:
        speed(options.files, options.jobs)
        print()
    if options.memory:
        memory(options.memory, options.jobs)


if __name__ == "__main__":
    main()
