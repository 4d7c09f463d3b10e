"""Re-estimated statistics against the usual tools: how far from the population, at what cost.

The sample network with lost statistics and its training digits, through
``normcheck.recalibrate``, ``torch.optim.swa_utils.update_bn`` and the averaging of the mean and
variance of each batch in train mode, which is what PreciseBN does (our own few lines: fvcore is
not installed). Batches of 32, of 2, and of 32 sorted by class.

    python benchmarks/recalibrate.py
"""

import copy
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from normcheck import recalibrate  # noqa: E402
from sample_models.data import Part, load  # noqa: E402
from sample_models.networks import DigitsNet  # noqa: E402

Batches = list[Tensor]


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of a model."""
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


@torch.no_grad()
def averaged(model: nn.Module, batches: Iterable[Tensor]) -> None:
    """Replace statistics by the average of each batch's mean and variance, in train mode."""
    sums = [
        (torch.zeros_like(n.running_mean), torch.zeros_like(n.running_var)) for n in norms(model)
    ]
    momenta = [norm.momentum for norm in norms(model)]
    model.train()
    count = 0
    for norm in norms(model):
        norm.momentum = 1.0
    for batch in batches:
        model(batch)
        count += 1
        for norm, (mean, variance) in zip(norms(model), sums, strict=True):
            mean.add_(norm.running_mean)
            variance.add_(norm.running_var)
    for norm, momentum, (mean, variance) in zip(norms(model), momenta, sums, strict=True):
        norm.running_mean.copy_(mean / count)
        norm.running_var.copy_(variance / count)
        norm.momentum = momentum


@torch.no_grad()
def population(model: nn.Module, images: Tensor) -> list[tuple[Tensor, Tensor]]:
    """What eval mode feeds each norm when all norms before it have exact statistics, in float64."""
    model = copy.deepcopy(model).double().eval()
    found: list[tuple[Tensor, Tensor]] = []

    def take(norm: nn.Module, args: tuple[Tensor, ...]) -> None:
        x = args[0]
        norm.running_mean, norm.running_var = x.mean((0, 2, 3)), x.var((0, 2, 3), correction=0)
        found.append((norm.running_mean, norm.running_var))

    for norm in norms(model):
        norm.register_forward_pre_hook(take)
    model(images.double())
    return found


def distance(model: nn.Module, wanted: list[tuple[Tensor, Tensor]]) -> tuple[float, float]:
    """Largest error of a mean in standard deviations, and of a variance in parts."""
    shift = scale = 0.0
    for norm, (mean, variance) in zip(norms(model), wanted, strict=True):
        shift = max(shift, float(((norm.running_mean - mean).abs() / variance.sqrt()).max()))
        scale = max(scale, float((norm.running_var / variance - 1).abs().max()))
    return shift, scale


@torch.no_grad()
def accuracy(model: nn.Module, part: Part) -> float:
    """In eval mode."""
    right = model.eval()(part.inputs["images"]).argmax(1) == part.labels
    return float(right.double().mean())


def main() -> None:
    """Print a row for each tool and each way of batching."""
    torch.set_num_threads(1)
    train, holdout = load()
    lost = DigitsNet()
    lost.load_state_dict(torch.load(ROOT / "sample_models/statistics-lost.pt", weights_only=True))
    images = train.inputs["images"]
    by_class = images[train.labels.argsort(stable=True)]
    wanted = population(lost, images)
    tools: dict[str, Callable[[nn.Module, Batches], object]] = {
        "normcheck.recalibrate": recalibrate,
        "update_bn": lambda model, batches: torch.optim.swa_utils.update_bn(batches, model),
        "averaged batches": averaged,
    }
    ways: dict[str, Batches] = {
        "32 shuffled": list(images.split(32)),
        "2 shuffled": list(images[:600].split(2)),
        "32 by class": list(by_class.split(32)),
    }
    # Once unmeasured: torch imports part of itself at the first dispatch.
    recalibrate(copy.deepcopy(lost), images[:64])
    print(f"{'batches':<12} {'tool':<22} {'mean off':>9} {'var off':>9}  accuracy  seconds")
    for way, batches in ways.items():
        truth = wanted if way != "2 shuffled" else population(lost, images[:600])
        for tool, apply in tools.items():
            model = copy.deepcopy(lost)
            start = time.perf_counter()
            apply(model, batches)
            seconds = time.perf_counter() - start
            shift, scale = distance(model, truth)
            print(
                f"{way:<12} {tool:<22} {shift:>7.4f}sd {scale:>9.2%} "
                f"{accuracy(model, holdout):>9.3f} {seconds:>8.2f}"
            )


if __name__ == "__main__":
    main()
