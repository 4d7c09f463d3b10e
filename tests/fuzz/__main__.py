"""Fuzz the readers: ``python -m tests.fuzz --runs 100000``.

With atheris installed the fuzzing is guided by coverage: it keeps inputs that reach new code.
Without it the mutation loop of ``mutate.py`` runs, which is blind but knows the formats. Each
target runs in a process of its own; an input that breaks a reader is written to ``build/fuzz``.
"""

import argparse
import importlib.util
import os
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path(__file__).parent / "corpus"
SLOW_SECONDS = 10.0
"""An input that takes longer is a finding; most take a thousandth of a second."""
MEMORY_BYTES = 2 << 30


def main() -> int:
    """Fuzz every target, or be the process that fuzzes one."""
    words = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    words.add_argument("--runs", type=int, default=100_000, help="executions, over all targets")
    words.add_argument("--target", default="", help="only this one")
    words.add_argument("--engine", choices=("atheris", "mutations"), default="")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--found", type=Path, default=Path("build/fuzz"))
    words.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    given = words.parse_args()
    given.engine = given.engine or (
        "atheris" if importlib.util.find_spec("atheris") else "mutations"
    )
    given.found.mkdir(parents=True, exist_ok=True)
    if given.inside:
        run = guided if given.engine == "atheris" else blind
        return run(given.target, given.runs, given.seed, given.found)
    return every(given)


def every(given: argparse.Namespace) -> int:
    """A process for each target, one after the other."""
    names = sorted(path.name for path in FOLDER.iterdir() if path.is_dir())
    chosen = [given.target] if given.target else names
    failed = []
    for name in chosen:
        begin = time.monotonic()
        command = [
            sys.executable, "-m", "tests.fuzz", "--inside", "--target", name,
            "--runs", str(given.runs // len(chosen)), "--seed", str(given.seed),
            "--engine", given.engine, "--found", str(given.found),
        ]  # fmt: skip
        code = subprocess.run(command, check=False).returncode
        failed += [name] if code else []
        seconds = time.monotonic() - begin
        print(f"{name}: {'FAILED' if code else 'no crash'}, {seconds:.0f} s, {given.engine}")
    return 1 if failed else 0


def guided(target: str, runs: int, seed: int, found: Path) -> int:
    """The libFuzzer of atheris drives; our readers are instrumented as they are imported."""
    import atheris

    with atheris.instrument_imports(include=["normcheck"]):
        from .targets import holds
    from .mutate import mutated, resealed

    kept = found / f"corpus-{target}"
    kept.mkdir(exist_ok=True)
    seeds = [path.read_bytes() for path in sorted((FOLDER / target).iterdir())]

    def once(data: bytes) -> None:
        holds(target, resealed(data) if target == "zip" else data)

    def custom(data: bytes, most: int, number: int) -> bytes:
        chance = random.Random(number)
        if chance.random() < 0.5:
            return bytes(atheris.Mutate(data, most))
        return mutated([data, data, *seeds] if data else seeds, chance)[:most]

    options = [
        "fuzz", str(kept), str(FOLDER / target), f"-runs={runs}", f"-seed={seed}",
        f"-timeout={int(SLOW_SECONDS)}", f"-rss_limit_mb={MEMORY_BYTES >> 20}", "-max_len=16384",
        f"-artifact_prefix={found}/{target}-", "-print_final_stats=1", "-verbosity=1",
        "-reload=0",
    ]  # fmt: skip
    atheris.Setup(options, once, custom_mutator=custom)
    atheris.Fuzz()
    return 0


def blind(target: str, runs: int, seed: int, found: Path) -> int:
    """Our own mutations."""
    from .mutate import mutated, resealed
    from .targets import holds

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, resource.RLIM_INFINITY))
    seeds = [path.read_bytes() for path in sorted((FOLDER / target).iterdir())]
    chance = random.Random(f"{target} {seed}")
    readable, slowest = 0, 0.0
    for _ in range(runs):
        data = mutated(seeds, chance)
        if target == "zip" and chance.random() < 0.9:
            data = resealed(data)
        begin = time.perf_counter()
        try:
            readable += holds(target, data)
        except BaseException as error:
            (found / f"{target}-crash").write_bytes(data)
            print(f"{target}: {type(error).__name__}: {error}")
            raise
        slowest = max(slowest, time.perf_counter() - begin)
        if slowest > SLOW_SECONDS:
            (found / f"{target}-slow").write_bytes(data)
            print(f"{target}: an input took {slowest:.1f} s")
            return 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{target}: {runs:,} executions, {readable:,} readable, slowest {slowest:.2f} s, "
        f"peak {peak} MB"
    )
    return 0


if __name__ == "__main__":
    os.environ.setdefault("PYTHONDONTWRITEBYTECODE", "1")
    sys.exit(main())
