"""Statistics held against the weights of a state dict of a gigabyte: seconds and memory.

    python benchmarks/foreign_large.py [--megabytes 1000]

Against reading the file once, with ``cat`` into nothing, and against reading it with its checksum,
without which nobody knows that the bytes are those that were saved.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import torch
from machine import described, in_turn, measured, medians
from torch import nn

RUNS = 3
WIDTH = 512
CHECKED = """
import sys, zlib
checksum = 0
with open(sys.argv[1], "rb") as file:
    while piece := file.read(1 << 20):
        checksum = zlib.crc32(piece, checksum)
"""
BLOCK = WIDTH * WIDTH * 9 * 4


def written(path: Path, megabytes: int) -> int:
    """A plain network of 3x3 convolutions with collected statistics; its size in bytes."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(max(4, megabytes * 1_000_000 // BLOCK)):
        layers += [
            nn.Conv2d(WIDTH, WIDTH, 3, padding=1, bias=False), nn.BatchNorm2d(WIDTH, momentum=1.0),
            nn.ReLU(),
        ]  # fmt: skip
    network = nn.Sequential(*layers)
    with torch.no_grad():
        network(torch.randn(4, WIDTH, 8, 8))
    torch.save(network.state_dict(), path)
    return path.stat().st_size


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=1000)
    options = parser.parse_args()
    print(described())
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "cnn.pt"
        size = written(path, options.megabytes)
        scan = [sys.executable, "-m", "normcheck", "scan", str(path), "--weights-budget"]
        commands = {
            "all weights": [*scan, "8G"],
            "the usual budget": scan[:-1],
            "no weights": [*scan, "0"],
            "reading it and its checksum": [sys.executable, "-c", CHECKED, str(path)],
            "reading it (cat)": ["sh", "-c", f"cat '{path}' > /dev/null"],
        }
        measured(commands["reading it (cat)"])
        print(f"{size / 1e6:,.0f} MB of convolutions with BatchNorm, in memory")
        rounds = in_turn(commands, RUNS)
        for what in commands:
            seconds, memory = medians(rounds, what)
            print(f"{what:<28} {seconds:6.2f} s  {memory:6.1f} MB resident")


if __name__ == "__main__":
    main()
