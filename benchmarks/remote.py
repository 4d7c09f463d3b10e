"""What a scan of a remote checkpoint costs: bytes and requests, counted by the server.

    python benchmarks/remote.py [--gigabytes 20] [--milliseconds 30]

A web server on this machine, each of whose answers waits as long as a journey takes, serves a
sparse checkpoint (see ``sparse.py``). Set against the time that fetching it all would take at a
gigabit a second.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path

from machine import described, measured
from sparse import Made, model, sharded, torch_zip

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.sources.remote.server import Web, serving

GIGABIT = 125e6
"""Bytes a second."""
RUNS = 3


def row(name: str, made: Made, web: Web) -> None:
    """One line of the table."""
    address = f"{web.address}/{made.path.relative_to(web.folder).as_posix()}"
    seconds = []
    for _ in range(RUNS):
        web.asked.clear()
        web.sent = 0
        seconds.append(measured([sys.executable, "-m", "normcheck", "scan", address]))
    took, memory = (statistics.median(values) for values in zip(*seconds, strict=True))
    needed = made.structure + made.judged
    print(
        f"{name:<22} {made.size / 1e9:6.1f} GB  needed {needed / 1e6:6.2f} MB  fetched "
        f"{web.sent / 1e6:6.2f} MB in {len(web.asked):,} requests  {took:5.2f} s  {memory:5.1f} MB "
        f"resident  (all of it: {made.size / GIGABIT:,.0f} s at a gigabit)"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20)
    parser.add_argument("--milliseconds", type=float, default=30)
    options = parser.parse_args()
    print(described(), f"{options.milliseconds:.0f} ms a journey", sep=", ")
    with tempfile.TemporaryDirectory() as name, serving(Path(name)) as web:
        web.delay = options.milliseconds / 1000
        state = model(options.gigabytes)
        begin = time.perf_counter()
        row("one torch zip", torch_zip(Path(name) / "model.pt", state), web)
        row("8 safetensors shards", sharded(Path(name) / "shards", state), web)
        print(f"measured in {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
