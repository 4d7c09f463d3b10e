"""What watching costs: the same forwards bare, and with all normalizations seen and measured.

For convolutional networks and a transformer of sizes in use, randomly initialised. "watched" sees
every operator; "measured" also takes per-channel, per-sample moments at the input of each batch
norm. Times are the medians of paired rounds, given as ratios to the bare forwards of the same
round: this is not a test, machines are noisy. Memory is the peak of a process that runs the
forwards, less that of one that only makes the model.

    python benchmarks/overhead.py
"""

import argparse
import resource
import subprocess
import sys
import time
from statistics import median

import torch
from resnet import Block, resnet
from torch import Tensor, nn

from normcheck.live.batches import Batch, Feed
from normcheck.live.watching.forward import Forward
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.reachable_modules import reachable
from normcheck.live.watching.regimes import Regimes

ROUNDS = 7


def chain(depth: int) -> nn.Module:
    """So many blocks of one width, for the growth of memory with depth."""
    return nn.Sequential(nn.Conv2d(3, 32, 3), *(Block(32, 32) for _ in range(depth)))


def encoder() -> nn.Module:
    """A transformer encoder of BERT's base width, six layers."""
    layer = nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True)
    return nn.TransformerEncoder(layer, 6, enable_nested_tensor=False)


MODELS = {
    "ResNet-18, 16 images of 224": (resnet, (16, 3, 224, 224)),
    "ResNet-34, 16 images of 160": (lambda: resnet((3, 4, 6, 3)), (16, 3, 160, 160)),
    "transformer encoder, 8 x 128 tokens": (encoder, (8, 128, 768)),
}
DEPTHS = (5, 30)


def timed(model: nn.Module, batch: Tensor) -> tuple[float, float]:
    """Median ratios of watched and of measured forwards to bare ones."""
    regimes = Regimes(Forward(model, torch.device("cpu")), reachable(model), set())
    feed = Feed((Batch((batch,)),), "", True, batch_size=len(batch))

    def bare() -> None:
        with torch.no_grad():
            model(batch)

    ways = (bare, lambda: regimes.stored(feed), lambda: regimes.stored(feed, Collected()))
    for way in ways:
        way()
    rounds = []
    for _ in range(ROUNDS):
        taken = []
        for way in ways:
            start = time.perf_counter()
            way()
            taken.append(time.perf_counter() - start)
        rounds.append((taken[1] / taken[0], taken[2] / taken[0]))
    return median(r[0] for r in rounds), median(r[1] for r in rounds)


def peak(depth: int, way: str) -> float:
    """Peak memory in MB of a process of its own."""
    words = [sys.executable, __file__, "--peak", way, "--depth", str(depth)]
    return float(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def run_one(depth: int, way: str) -> None:
    """In the process of its own: run, and print the peak."""
    torch.manual_seed(0)
    torch.backends.mha.set_fastpath_enabled(False)
    model, batch = chain(depth).eval(), torch.randn(96, 3, 96, 96)
    regimes = Regimes(Forward(model, torch.device("cpu")), reachable(model), set())
    feed = Feed((Batch((batch,)),), "", True, batch_size=len(batch))
    if way == "bare":
        with torch.no_grad():
            model(batch)
    elif way == "measured":
        regimes.stored(feed, Collected())
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--peak", choices=["nothing", "bare", "measured"], help=argparse.SUPPRESS)
    parser.add_argument("--depth", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        run_one(options.depth, options.peak)
        return
    torch.manual_seed(0)
    # Eval mode of the encoder has a fused path, which is switched off while it is watched.
    torch.backends.mha.set_fastpath_enabled(False)
    print(f"{'time, as a ratio to bare forwards':<40}{'watched':>10}{'measured':>10}")
    for name, (make, shape) in MODELS.items():
        watched, measured = timed(make().eval(), torch.randn(*shape))
        print(f"{name:<40}{watched:>10.3f}{measured:>10.3f}")
    print(f"\n{'peak memory above the model, in MB':<40}{'bare':>10}{'measured':>10}{'ratio':>10}")
    for depth in DEPTHS:
        made = peak(depth, "nothing")
        bare, measured = peak(depth, "bare") - made, peak(depth, "measured") - made
        name = f"{2 * depth} batch norms in a row"
        print(f"{name:<40}{bare:>10.0f}{measured:>10.0f}{measured / bare:>10.2f}")


if __name__ == "__main__":
    main()
