"""Networks whose running statistics belong to their weights: run, not trained."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from normcheck.formats.read_checkpoint import read_checkpoint
from normcheck.norms.anatomy import Anatomy
from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.find_norms import anatomy_of

PASSES = 12
CHANNELS = 32


def settle(model: nn.Module, *shape: int, seed: int = 0) -> nn.Module:
    """Give every norm a γ and β as training would, and collect its statistics.

    Args:
        model: Changed in place.
        shape: Of one sample of the random input.
        seed: For γ, β and the input.
    """
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.uniform_(module.weight, 0.3, 1.5)
            nn.init.normal_(module.bias, 0.0, 0.6)
            module.momentum = None  # a plain average: no residue of the initial values
    model.train()
    with torch.no_grad():
        for _ in range(PASSES):
            model(torch.randn(16, *shape))
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            # As after a whole training: a count of 12 would be a finding of its own.
            module.num_batches_tracked.fill_(1000)
    return model.eval()


def reorder(state: dict[str, torch.Tensor], norm: str) -> None:
    """Put the running statistics of one norm into another order of channels, in place."""
    order = torch.randperm(state[f"{norm}.running_mean"].numel())
    for leaf in ("running_mean", "running_var"):
        state[f"{norm}.{leaf}"] = state[f"{norm}.{leaf}"][order]


def _permuted(mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    order = torch.randperm(mean.numel())
    return mean[order], variance[order]


def _left(share: float) -> Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]:
    return lambda mean, variance: ((1 - share) * mean, (1 - share) * variance + share)


SICK: Mapping[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "permuted": _permuted,
    "30 %": _left(0.3),
    "60 %": _left(0.6),
    "90 %": _left(0.9),
    "zeros": lambda mean, variance: (0 * mean, variance),
    "negated": lambda mean, variance: (-mean, variance),
}
"""What becomes of a norm's mean and variance; of shares, what is left of the initial value."""


def sicken(norm: nn.Module, name: str) -> None:
    """Change the running statistics of a norm, in place, as ``SICK`` has it."""
    mean, variance = SICK[name](norm.running_mean.clone(), norm.running_var.clone())
    norm.running_mean.copy_(mean)
    norm.running_var.copy_(variance)


@contextmanager
def sick(norm: nn.Module, name: str) -> Iterator[None]:
    """The same for as long as the block lasts."""
    kept = norm.running_mean.clone(), norm.running_var.clone()
    sicken(norm, name)
    yield
    norm.running_mean.copy_(kept[0])
    norm.running_var.copy_(kept[1])


def anatomy(model: nn.Module, folder: Path, *, whole: bool = False) -> Anatomy:
    """What is read of the model when it is saved; the file stays open, as in a scan."""
    file = folder / "model.pt"
    torch.save(model if whole else model.state_dict(), file)
    return anatomy_of(read_checkpoint(file).models[0])


def agreement_in(file: Path) -> Agreement:
    """How the statistics of the one model in a file fit its weights."""
    checkpoint = read_checkpoint(file)
    try:
        agreement = anatomy_of(checkpoint.models[0]).agreement
    finally:
        checkpoint.close()
    assert agreement is not None
    return agreement


def conv_net(activation: nn.Module, blocks: int = 4) -> nn.Sequential:
    """3 × 3 convolutions with norms and one activation throughout, for 3 × 16 × 16 images."""
    layers: list[nn.Module] = []
    for block in range(blocks):
        made_of = 3 if block == 0 else CHANNELS
        layers += [
            nn.Conv2d(made_of, CHANNELS, 3, padding=1, bias=False),
            nn.BatchNorm2d(CHANNELS),
            activation,
        ]
    return nn.Sequential(*layers)
