"""How well the biases right before norms tell in which mode a network was trained.

    python benchmarks/bias_trace.py [--seeds N]

Trains small networks in train mode, in eval mode throughout, and with norms that are frozen for the
second half, by several optimizers on data that packages ship. It prints, for each way of training,
the smallest and the largest standard errors that the correlation of biases and β reaches, and in
how many networks the trace says that stored statistics were used, or batch statistics.
"""

import argparse
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable
from math import isnan
from pathlib import Path

import torch
from torch import nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.small_networks import Data, cells, digits, patches, wines  # noqa: E402
from normcheck.formats.read_checkpoint import read_checkpoint  # noqa: E402
from normcheck.norms.find_norms import anatomy_of  # noqa: E402
from normcheck.norms.traces.bias_trace import BiasTrace, bias_trace  # noqa: E402

OPTIMIZERS: dict[str, Callable[[nn.Module], torch.optim.Optimizer]] = {
    "Adam 1e-3": lambda m: torch.optim.Adam(m.parameters(), 1e-3),
    "Adam 3e-3, decay": lambda m: torch.optim.Adam(m.parameters(), 3e-3, weight_decay=1e-4),
    "AdamW 1e-2": lambda m: torch.optim.AdamW(m.parameters(), 1e-2),
    "SGD 0.01": lambda m: torch.optim.SGD(m.parameters(), 0.01),
    "SGD 0.05, momentum, decay": lambda m: torch.optim.SGD(
        m.parameters(), 0.05, momentum=0.9, weight_decay=5e-4
    ),
    "RMSprop 1e-3": lambda m: torch.optim.RMSprop(m.parameters(), 1e-3),
}
MODES = ("train mode", "eval mode", "frozen for half")
STEPS = 240


def table(features: int, classes: int) -> nn.Module:
    """The network of the famous bug: one norm."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(features, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, classes)
    )


def deep(features: int, classes: int) -> nn.Module:
    """Three norms in a row."""
    parts: list[nn.Module] = [nn.Flatten()]
    for taken in (features, 64, 64):
        parts += [nn.Linear(taken, 64), nn.BatchNorm1d(64), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(64, classes))


def images(channels: int, classes: int) -> nn.Module:
    """Convolutions with the biases that torch gives them."""
    parts: list[nn.Module] = []
    for taken, made in ((channels, 24), (24, 32), (32, 48)):
        parts += [nn.Conv2d(taken, made, 3, padding=1), nn.BatchNorm2d(made), nn.SiLU()]
    return nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, classes))


def networks() -> list[tuple[str, Callable[[int, int], nn.Module], Data]]:
    """Each network with its data."""
    of_digits, of_patches, of_cells, of_wines = digits(), patches(), cells(), wines()
    return [
        ("one norm", table, of_cells), ("one norm", table, of_digits), ("deep", deep, of_wines),
        ("deep", deep, of_digits), ("images", images, of_digits), ("images", images, of_patches),
    ]  # fmt: skip


def trained(model: nn.Module, data: Data, made: str, mode: str, seed: int) -> nn.Module:
    """The model after a number of steps; in eval mode norms use what is stored."""
    optimizer = OPTIMIZERS[made](model)
    order = torch.Generator().manual_seed(seed)
    done = 0
    while done < STEPS:
        for rows in torch.randperm(len(data.x), generator=order).split(32):
            if len(rows) < 2:
                continue
            model.train(mode == MODES[0] or (mode == MODES[2] and done < STEPS // 2))
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(data.x[rows]), data.y[rows]).backward()
            optimizer.step()
            done += 1
    return model.eval()


def told(model: nn.Module, file: Path) -> tuple[BiasTrace | None, float]:
    """What the file tells, and the standard errors whether that is enough or not."""
    torch.save(model.state_dict(), file)
    saved = read_checkpoint(file).models[0]
    anatomy = anatomy_of(saved, judge_links=False)
    pairs = anatomy.biases_before_norms
    trace = bias_trace(saved.tensors, pairs, anatomy.layers)
    anyhow = bias_trace(saved.tensors, pairs, anatomy.layers, together=-float("inf"))
    return trace, anyhow.errors if anyhow is not None else float("nan")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--seeds", type=int, default=4)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows: dict[tuple[str, str], list[tuple[BiasTrace | None, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for _, build, data in networks():
            taken = data.x.shape[1] if build is images else data.x[0].numel()
            for made in OPTIMIZERS:
                for mode in MODES:
                    for seed in range(arguments.seeds):
                        torch.manual_seed(seed)
                        model = build(taken, int(data.y.max()) + 1)
                        trained(model, data, made, mode, seed)
                        rows[made, mode].append(told(model, Path(folder) / "model.pt"))
    print("| optimizer | trained in | networks | errors | stored | batch |")
    print("|---|---|---|---|---|---|")
    for (made, mode), found in sorted(rows.items(), key=lambda row: (MODES.index(row[0][1]), row)):
        errors = [e for _, e in found if not isnan(e)]
        span = f"{min(errors):.1f} to {max(errors):.1f}" if errors else "–"
        used = [trace.used.value.split()[0] for trace, _ in found if trace is not None]
        print(
            f"| {made} | {mode} | {len(found)} | {span} | {used.count('stored')} "
            f"| {used.count('batch')} |"
        )


if __name__ == "__main__":
    main()
