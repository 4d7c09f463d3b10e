"""Small checkpoints of which no two are alike: architecture, activation, order, form, health.

What a folder of somebody's runs looks like to a reader: copies of a few files flatter whatever
keeps what it saw. Networks are not trained, but their statistics are those of a few batches that
went through them, so that norms fit the weights before them as after a training; every sixth file
has a fault of a known kind.
"""

import multiprocessing
import os
import random
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

_ACTIVATIONS: tuple[Callable[[], nn.Module], ...] = (
    nn.ReLU, nn.ReLU, nn.ReLU, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.ELU, nn.Hardswish, nn.ReLU6,
)  # fmt: skip
_PART = 25
"""Files that a process writes at a time."""
State = dict[str, Tensor]


def fill(folder: Path, count: int, seed: int = 0) -> None:
    """Write ``count`` checkpoints of 10 to 300 kB into a folder, and say on stderr how far it is.

    Args:
        folder: Exists already.
        count: Files; each is the same however many are written, and by however many processes.
        seed: Of everything in them.
    """
    parts = [range(start, min(start + _PART, count)) for start in range(0, count, _PART)]
    write = partial(_write, folder, seed)
    if len(parts) == 1:
        write(parts[0])
        return
    done = 0
    # Forked, torch's threads would wait for each other.
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn")) as pool:
        for written in pool.map(write, parts):
            done += written
            print(f"\r{done:,} of {count:,} files made", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)


def _write(folder: Path, seed: int, numbers: range) -> int:
    torch.set_num_threads(1)  # of small networks: more wait for each other
    for number in numbers:
        choice = random.Random(f"{seed} {number}")  # noqa: S311  # no secret
        torch.manual_seed(choice.randrange(1 << 30))
        model = _network(choice)
        _warm(model, choice)
        if choice.random() < 1 / 6:
            _harm(model, choice)
        _save(model, folder, f"run-{number:05}", choice)
    return len(numbers)


def _network(choice: random.Random) -> nn.Sequential:
    """Convolutions or linear layers with norms between, three to nine blocks."""
    act = choice.choice(_ACTIVATIONS)
    flat = choice.random() < 0.15
    width, before = choice.randrange(8, 33), choice.randrange(1, 4)
    layers: list[nn.Module] = []
    for _ in range(choice.randrange(3, 10)):
        after = max(4, width + choice.randrange(-6, 9))
        bias = choice.random() < 0.2
        if flat:
            layers += [nn.Linear(before, after, bias=bias), nn.BatchNorm1d(after)]
        elif choice.random() < 0.15 and before == after:
            layers += [
                nn.Conv2d(after, after, 3, padding=1, groups=after, bias=bias),
                nn.BatchNorm2d(after),
            ]
        else:
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=bias), nn.BatchNorm2d(after)]
        layers.append(act())
        before = width = after
    layers += [] if flat else [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(before, choice.randrange(2, 20)))


def _warm(model: nn.Sequential, choice: random.Random) -> None:
    """Affine parameters as after a training, and statistics of batches that went through."""
    first = model[0]
    channels = int(first.in_channels if isinstance(first, nn.Conv2d) else first.in_features)
    shape = (16, channels, 8, 8) if isinstance(first, nn.Conv2d) else (64, channels)
    with torch.no_grad():
        for layer in model:
            if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
                nn.init.uniform_(layer.weight, 0.6, 1.4)
                nn.init.normal_(layer.bias, 0.0, 0.3)
                layer.momentum = None
        for _ in range(2):  # forwards are what making a file takes
            model(torch.randn(shape))
    for layer in model:
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.momentum = 0.1
            layer.num_batches_tracked = torch.tensor(choice.randrange(500, 50_000))


def _harm(model: nn.Sequential, choice: random.Random) -> None:
    """One of the faults that a scan is there for."""
    norms = [layer for layer in model if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d)]
    kind = choice.randrange(4)
    with torch.no_grad():
        if kind == 0:
            for norm in norms:
                norm.reset_running_stats()
        elif kind == 1:
            choice.choice(norms).running_var.mul_(choice.choice((4.0, 25.0)))  # type: ignore[union-attr]
        elif kind == 2:
            choice.choice(norms).running_mean[0] = float("nan")  # type: ignore[index]
        else:
            for layer in model:
                if isinstance(layer, nn.Conv2d | nn.Linear):
                    layer.weight.add_(0.5 * torch.randn_like(layer.weight) * layer.weight.std())


def _save(model: nn.Sequential, folder: Path, name: str, choice: random.Random) -> None:
    """In one of the forms in which such files are found."""
    state = model.state_dict()
    if choice.random() < 0.3:
        state = type(state)((f"module.{key}", value) for key, value in state.items())
    form = choice.randrange(10)
    if form < 4:
        torch.save(state, folder / f"{name}.pt")
    elif form < 7:
        optimizer = torch.optim.SGD(model.parameters(), lr=choice.random(), momentum=0.9)
        kept = {
            "epoch": choice.randrange(200),
            "state_dict": state,
            "optimizer": optimizer.state_dict(),
            "best": choice.random(),
        }
        torch.save(kept, folder / f"{name}.pth")
    elif form < 8:
        torch.save(model.eval() if choice.random() < 0.5 else model, folder / f"{name}.pt")
    elif form < 9:
        torch.save(state, folder / f"{name}.pth", _use_new_zipfile_serialization=False)
    else:
        save_file(dict(state), folder / f"{name}.safetensors")
