"""What a scan with data costs: passes over the data, forwards, processor seconds, peak memory.

    python benchmarks/passes.py [--against FOLDER_OR_COMMIT] [--rounds 3] [--only NAME ...]

Networks count for themselves what runs through them, so that any build of normcheck can be asked:
a *pass* is all samples through all norms once, and a forward that is ended early counts for the
part of the norms that it reached. *Fed* counts such a forward in full. Healthy networks have the
statistics of 2,048 other samples; sick ones have 30 % of the initial value left in theirs. Every
figure is of a process of its own; seconds of two builds are compared round by round.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from machine import described
from resnet import Block, resnet
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = 256
CLASSES = 10
RESIDUE = 0.3
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
_CALIBRATION, _BATCH = 2048, 32


@dataclass(slots=True)
class Counts:
    """What ran. A scan puts back all that a model holds, so that it is kept outside of it."""

    forwards: int = 0
    fed: int = 0
    """Samples."""
    reached: int = 0
    """Samples, once for each norm that they came to."""
    size: int = 0
    """Of the batch that runs."""


COUNTS = Counts()


class Counted(nn.Module):
    """Counts the samples and forwards that enter a network."""

    def __init__(self, inner: nn.Module) -> None:
        """Around a network."""
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        """The network's scores."""
        COUNTS.forwards += 1
        COUNTS.fed += len(x)
        COUNTS.size = len(x)
        scores: Tensor = self.inner(x)
        return scores


def _reached(module: nn.Module, _args: Any) -> None:
    if isinstance(module, NORMS):
        COUNTS.reached += COUNTS.size


def plain() -> nn.Module:
    """Eight convolutions in a row, with max pooling."""
    layers: list[nn.Module] = []
    for inputs, outputs in ((3, 32), (32, 32), (32, 64), (64, 64), (64, 96), (96, 96)):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU()]
        if inputs != outputs:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(96, CLASSES))


def perceptron(drop: float = 0.0) -> nn.Module:
    """Four hidden layers of 512 with BatchNorm1d."""
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs in (3 * 32 * 32, 512, 512, 512):
        layers += [nn.Linear(inputs, 512), nn.BatchNorm1d(512), nn.ReLU(), nn.Dropout(drop)]
    return nn.Sequential(*layers, nn.Linear(512, CLASSES))


def with_dropout() -> nn.Module:
    """Blocks of a ResNet, dropout between them and before the scores."""
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, 2, 1), Block(32, 32, 1), nn.Dropout2d(0.1), Block(32, 64, 2),
        nn.Dropout2d(0.1), Block(64, 64, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Dropout(0.3), nn.Linear(64, CLASSES),
    )  # fmt: skip


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "ResNet-18-like, 64 px": (resnet, 64),
    "plain, 32 px": (plain, 32),
    "MLP of BatchNorm1d": (perceptron, 32),
    "residual with dropout, 32 px": (with_dropout, 32),
}
"""How each is made, and the size of its images."""


def images(count: int, size: int, seed: int) -> Tensor:
    """Smooth random images, standardised: a coarse field, enlarged, with finer noise on it."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, size // 8, size // 8, generator=random)
    smooth = nn.functional.interpolate(coarse, size=size, mode="bilinear", align_corners=False)
    return smooth * 1.3 + 0.3 * torch.randn(smooth.shape, generator=random)


def made(name: str, *, sick: bool) -> tuple[nn.Module, Tensor, Tensor]:
    """A network, images that it never saw, and as labels what it answers when it is healthy."""
    make, size = NETWORKS[name]
    torch.manual_seed(0)
    model = make()
    norms = [m for m in model.modules() if isinstance(m, NORMS)]
    for norm in norms:
        norm.momentum = None
    model.train()
    with torch.no_grad():
        for part in range(_CALIBRATION // _BATCH):
            model(images(_BATCH, size, 1 + part))
    model.eval()
    for norm in norms:
        norm.momentum = 0.1
    shown = images(SAMPLES, size, 1000)
    with torch.no_grad():
        labels = torch.cat([model(part).argmax(1) for part in shown.split(_BATCH)])
    if sick:
        for norm in norms:
            norm.running_mean.mul_(1 - RESIDUE)  # type: ignore[union-attr]
            norm.running_var.mul_(1 - RESIDUE).add_(RESIDUE)  # type: ignore[union-attr]
    return model, shown, labels


def peak() -> float:
    """Largest resident memory of this process so far, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(name: str, *, sick: bool) -> dict[str, Any]:
    """Scan one network in this process, with the build that is on the path."""
    import normcheck

    torch.set_num_threads(1)
    model, shown, labels = made(name, sick=sick)
    counted = Counted(model).eval()
    norms = sum(isinstance(m, NORMS) for m in model.modules())
    nn.modules.module.register_module_forward_pre_hook(_reached)
    # Memory is that of the scan alone where it goes above what making the network took.
    before, start = peak(), time.process_time()
    report = normcheck.scan(counted, data=(shown, labels))
    seconds = time.process_time() - start
    return {
        "passes": COUNTS.reached / norms / SAMPLES,
        "fed": COUNTS.fed / SAMPLES,
        "forwards": COUNTS.forwards,
        "seconds": seconds,
        "megabytes": peak() - before,
        "findings": sorted({f"{f.rule} {f.severity.value}" for f in report.findings}),
    }


def asked(build: Path, name: str, sick: bool) -> dict[str, Any]:
    """The same of a build, in a process of its own."""
    words = [sys.executable, __file__, "--one", name, *(["--sick"] if sick else [])]
    environment = {**os.environ, "PYTHONPATH": str(build), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, check=False)
    if done.returncode:
        raise SystemExit(f"{build} on {name}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compared(builds: dict[str, Path], name: str, sick: bool, rounds: int) -> None:
    """A row for each build."""
    runs = [{b: asked(path, name, sick) for b, path in builds.items()} for _ in range(rounds)]
    for build in builds:
        of = [run[build] for run in runs]
        seconds = statistics.median(run["seconds"] for run in of)
        part = statistics.median(
            run[next(iter(builds))]["seconds"] / run[build]["seconds"] for run in runs
        )
        print(
            f"| {name} | {'sick' if sick else 'healthy'} | {build} | {of[0]['passes']:.1f} | "
            f"{of[0]['fed']:.1f} | {of[0]['forwards']} | {seconds:.1f} s | {part:.2f} | "
            f"{max(run['megabytes'] for run in of):.0f} MB | {', '.join(of[0]['findings'])} |",
            flush=True,
        )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--against", default="", help="another commit, or a folder that holds one")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[], help="parts of networks' names")
    parser.add_argument("--one", default="", help=argparse.SUPPRESS)
    parser.add_argument("--sick", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, sick=options.sick)))
        return
    print(f"{described()}, {SAMPLES} samples\n")
    with tempfile.TemporaryDirectory() as folder:
        builds = {"this checkout": ROOT}
        if options.against:
            from before_after import checkout  # of this build, and not of the one that is asked

            other = Path(options.against)
            builds[other.name] = (
                other.resolve() if other.is_dir() else checkout(options.against, Path(folder))
            )
        print(
            "| network | | build | passes | fed | forwards | seconds | ours | memory | findings |"
        )
        print("|---|---|---|---|---|---|---|---|---|---|")
        for name in NETWORKS:
            if not options.only or any(part in name for part in options.only):
                for sick in (False, True):
                    compared(builds, name, sick, options.rounds)


if __name__ == "__main__":
    main()
