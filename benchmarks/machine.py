"""What the benchmarks share: the machine in words, and a process's seconds and memory."""

import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path


def described() -> str:
    """Processor, cores, memory, system and Python, on one line."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines()
             if line.startswith("model name")] if info.exists() else []  # fmt: skip
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    return (
        f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores, {memory:.0f} GB, "
        f"{platform.system()}, Python {platform.python_version()}"
    )


_LAUNCH = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, usage = os.wait4(process.pid, 0)
print(time.perf_counter() - start, usage.ru_maxrss / 1024, os.waitstatus_to_exitcode(status))
"""
"""In a small process of its own: a child counts what its parent held when it was born."""


def measured(words: list[str], codes: tuple[int, ...] = (0, 1)) -> tuple[float, float]:
    """Wall seconds and peak memory in megabytes of one run of a command.

    Args:
        words: The command.
        codes: Exit codes that are no failure.
    """
    done = subprocess.run(
        [sys.executable, "-S", "-c", _LAUNCH, *words], capture_output=True, text=True, check=True
    )
    seconds, memory, code = done.stdout.split()
    if int(code) not in codes:
        raise SystemExit(f"{' '.join(words)} ended with {code}")
    return float(seconds), float(memory)


Round = dict[str, tuple[float, float]]
"""Seconds and megabytes of each command, run one after the other."""


def in_turn(
    commands: dict[str, list[str]], count: int, codes: tuple[int, ...] = (0, 1)
) -> list[Round]:
    """Several rounds of the same commands, so that a machine whose speed drifts slows all alike.

    Args:
        commands: By what they are called.
        count: Rounds.
        codes: As for ``measured``.
    """
    return [
        {name: measured(words, codes) for name, words in commands.items()} for _ in range(count)
    ]


def medians(rounds: list[Round], name: str) -> tuple[float, float]:
    """Seconds and megabytes of one command."""
    seconds, megabytes = zip(*(each[name] for each in rounds), strict=True)
    return statistics.median(seconds), statistics.median(megabytes)


def ratio(rounds: list[Round], name: str, to: str) -> float:
    """Seconds of one command by those of another, round by round."""
    return statistics.median(each[name][0] / each[to][0] for each in rounds)
