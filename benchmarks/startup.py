"""How long a scan of a small checkpoint takes, against loading it with torch.

Whole processes in turn, A B A B …, so that a machine whose speed drifts slows both alike;
the ratio of each pair counts, and its median is what to quote.

    python benchmarks/startup.py [CHECKPOINT] [--pairs N]
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from machine import measured

ROOT = Path(__file__).resolve().parent.parent
DEFAULT = ROOT / "sample_models" / "digits-healthy.pt"
TARGET_RATIO = 1 / 6
"""What the project promises at least; a tenth is the aim."""
TARGET_MEGABYTES = 60


def main() -> None:
    """Print the medians, the ratio pair by pair, and whether torch was imported."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", nargs="?", default=str(DEFAULT))
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    load = "import sys, torch; torch.load(sys.argv[1], map_location='cpu', weights_only=False)"
    ours = [sys.executable, "-m", "normcheck", "scan", options.checkpoint]
    theirs = [sys.executable, "-c", load, options.checkpoint]
    imported = subprocess.run(
        [sys.executable, "-X", "importtime", *ours[1:]], capture_output=True, text=True, check=False
    ).stderr
    measured(ours), measured(theirs)  # once unmeasured: the files are then in memory for both
    pairs = [(measured(ours), measured(theirs)) for _ in range(options.pairs)]
    ratios = [a[0] / b[0] for a, b in pairs]
    for name, index in (("normcheck scan", 0), ("torch.load", 1)):
        seconds = statistics.median(pair[index][0] for pair in pairs)
        memory = statistics.median(pair[index][1] for pair in pairs)
        print(f"{name:<16} {seconds:6.3f} s  {memory:6.1f} MB")
    ratio = statistics.median(ratios)
    print(
        f"ratio            {ratio:.3f} (1/{1 / ratio:.1f}), "
        f"{min(ratios):.3f} to {max(ratios):.3f}, "
        f"promised {TARGET_RATIO:.3f} and {TARGET_MEGABYTES} MB"
    )
    lines = {line.rpartition("|")[2].strip() for line in imported.splitlines()}
    print(f"torch imported   {'yes' if 'torch' in lines else 'no'}")


if __name__ == "__main__":
    main()
