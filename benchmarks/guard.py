"""What a guard costs a training loop: steps with it over steps without, of the same model.

Each round times one step bare and one guarded, in changing order, on two equal models; what is
given is the median of the ratios. The clock is this process's own time on the processor, on one
thread: what else runs on the machine does not count. What a guard does is Python's work and takes
as long on any device, so the ratio is larger where steps are shorter: the second table gives the
microseconds that it adds to a step which computes nothing.

    python -m benchmarks.guard
"""

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median

import torch
from torch import nn

import normcheck
from benchmarks.overhead import resnet

STEPS = 60
"""Before the clock runs: a guard looks closely at the first ones, and at ever fewer later."""
MODELS = {
    "ResNet-18, 8 images of 64": ((2, 2, 2, 2), (8, 3, 64, 64)),
    "ResNet-34, 8 images of 96": ((3, 4, 6, 3), (8, 3, 96, 96)),
    "ResNet-18, 16 images of 128": ((2, 2, 2, 2), (16, 3, 128, 128)),
}


def step_of(model: nn.Module, batch: torch.Tensor) -> Callable[[], None]:
    """One step of training."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)

    def step() -> None:
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()

    return step


def ratio(blocks: tuple[int, ...], shape: tuple[int, ...], rounds: int) -> tuple[float, float]:
    """Median ratio of a guarded step to a bare one, and the milliseconds of the bare one."""
    batch = torch.randn(shape)
    bare, guarded = resnet(blocks), resnet(blocks)
    steps = [step_of(bare, batch), step_of(guarded, batch)]
    ratios, times = [], []
    with normcheck.guard(guarded):
        for step in steps:
            for _ in range(5):
                step()
        for number in range(rounds):
            taken = [0.0, 0.0]
            for which in (0, 1) if number % 2 else (1, 0):
                start = time.process_time()
                steps[which]()
                taken[which] = time.process_time() - start
            ratios.append(taken[1] / taken[0])
            times.append(taken[0])
    return median(ratios), 1e3 * median(times)


class Hollow(nn.Module):
    """Many norms, none of which computes: what is left is the guard."""

    def __init__(self, count: int) -> None:
        """So many norms, in four parts as those of a ResNet."""
        super().__init__()
        self.parts = nn.ModuleList(
            nn.Sequential(*(nn.BatchNorm2d(64) for _ in range(count // 4))) for _ in range(4)
        )
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Scale the input."""
        return x * self.weight


def bound(count: int, steps: int = 4000) -> float:
    """Microseconds that a guard adds to a step of a model with so many norms."""
    taken = []
    for guarded in (False, True):
        model = Hollow(count)
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer = torch.optim.SGD([model.weight, *model.parts.parameters()], lr=0.0)
        optimizer.param_groups[0]["params"] = [model.weight, next(model.parts.parameters())]
        x = torch.ones(1)
        guard = normcheck.guard(model) if guarded else None
        start = time.process_time()
        for _ in range(steps):
            model(x)
            optimizer.step()
        taken.append(time.process_time() - start)
        if guard:
            guard.close()
    return 1e6 * (taken[1] - taken[0]) / steps


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=STEPS)
    rounds = parser.parse_args().rounds
    warnings.simplefilter("ignore")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    print(f"{'model':<30} {'bare step':>12} {'with a guard':>14}")
    for name, (blocks, shape) in MODELS.items():
        share, milliseconds = ratio(blocks, shape, rounds)
        print(f"{name:<30} {milliseconds:>9.1f} ms {share:>13.4f}x")
    print("\nadded to a step, whatever it computes")
    for count in (20, 52, 160):
        print(f"{count:>4} norms {bound(count):>28.1f} µs")


if __name__ == "__main__":
    main()
