"""What a scan of a large checkpoint costs: bytes read, seconds, memory.

    python benchmarks/large.py [--gigabytes 20] [--folder DIR] [--growth]

The files are sparse (see ``sparse.py``) and take a few megabytes of disk. Bytes are those that the
readers ask the files for; seconds and memory are those of whole processes.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
from collections import OrderedDict
from pathlib import Path

from machine import described, measured
from sparse import Made, many_tensors, model, sharded, stem, torch_zip

COUNTED = """
import sys
from normcheck.sources.source import FileSource
read_at, count = FileSource.read_at, [0, 0]
def counted(self, offset, length):
    count[0] += length
    count[1] += 1
    return read_at(self, offset, length)
FileSource.read_at = counted
import normcheck
report = normcheck.scan(sys.argv[1:])
assert not report.errors, report.errors
print(*count, sum(len(model.layers) for model in report.models))
"""
RUNS = 3
MOST_SECONDS, MOST_MEGABYTES, MOST_RATIO = 2.0, 120, 1.1


def counted(path: Path) -> tuple[int, int, int]:
    """Bytes and reads that a scan asks of the files, and the norms that it finds."""
    done = subprocess.run(
        [sys.executable, "-c", COUNTED, str(path)], capture_output=True, text=True, check=True
    )
    first, second, third = map(int, done.stdout.split())
    return first, second, third


def row(name: str, made: Made, times: int = RUNS) -> None:
    """One line of the table."""
    read, reads, norms = counted(made.path)
    runs = [
        measured([sys.executable, "-m", "normcheck", "scan", str(made.path)]) for _ in range(times)
    ]
    seconds, memory = (statistics.median(values) for values in zip(*runs, strict=True))
    needed = made.structure + made.judged
    print(
        f"{name:<34} {made.size / 1e9:7.2f} GB  needed {needed / 1e6:7.2f} MB  "
        f"read {read / 1e6:7.2f} MB ({read / needed:4.2f} times, {reads:,} reads)  "
        f"{norms:>6,} norms  {seconds:6.2f} s  {memory:6.1f} MB resident"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--growth", action="store_true", help="also against size and count")
    options = parser.parse_args()
    print(described())
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        state = model(options.gigabytes)
        print(f"promised: {MOST_RATIO} times, {MOST_SECONDS} s, {MOST_MEGABYTES} MB")
        row("one torch zip", torch_zip(folder / "model.pt", state))
        row("8 safetensors shards", sharded(folder / "shards", state))
        if not options.growth:
            return
        for gigabytes in (5, 80):
            row(f"torch zip of {gigabytes} GB", torch_zip(folder / "g.pt", model(gigabytes)), 1)
        for count in (10_000, 30_000, 100_000, 300_000):
            many = OrderedDict([*stem().items(), *many_tensors(count)])
            row(f"torch zip, {count:,} tensors", torch_zip(folder / "n.pt", many), 1)
            row(f"safetensors, {count:,} tensors", sharded(folder / f"n{count}", many, 1), 1)


if __name__ == "__main__":
    main()
