"""Exact moments of a population that comes in parts, in float64.

The mean and variance of all values, not the average of the parts' variances, which loses the
variance between parts. Chan, Golub and LeVeque, "Updating Formulae and a Pairwise Algorithm for
Computing Sample Variances" (1979).
"""

from dataclasses import field

import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass

_AT_ONCE = 1 << 24
"""Values that are converted to float64 at a time: 128 MiB."""


def _empty() -> Tensor:
    return torch.zeros(0, dtype=torch.float64)


@lazy_dataclass(frozen=False)
class Population:
    """Count, mean and sum of squared deviations per channel; parts can be merged in any order."""

    count: int = 0
    """Values per channel."""
    mean: Tensor = field(default_factory=_empty)
    """``(C,)``, float64, on the CPU."""
    deviations: Tensor = field(default_factory=_empty)
    """Sum of squared deviations from the mean, ``(C,)``."""

    def add(self, x: Tensor) -> None:
        """Take in what a batch norm is given, ``(N, C, …)``."""
        if x.numel() == 0:
            return
        # Apple's GPUs have no float64.
        device = torch.device("cpu") if x.device.type == "mps" else x.device
        rows = max(1, _AT_ONCE // max(1, x.numel() // x.shape[0]))
        axes = [0, *range(2, x.ndim)]
        for part in torch.split(x.detach(), rows):
            exact = part.to(device, torch.float64)
            variance, mean = torch.var_mean(exact, axes, correction=0)
            values = exact.numel() // exact.shape[1]
            self.merge(Population(values, mean.cpu(), variance.cpu() * values))

    def merge(self, other: "Population") -> None:
        """Take in another part of the same population."""
        if other.count == 0:
            return
        if self.count == 0:
            self.count = other.count
            self.mean, self.deviations = other.mean.clone(), other.deviations.clone()
            return
        total = self.count + other.count
        shift = other.mean - self.mean
        self.deviations += other.deviations
        self.deviations.addcmul_(shift, shift, value=self.count * other.count / total)
        self.mean.add_(shift, alpha=other.count / total)
        self.count = total

    @property
    def variance(self) -> Tensor:
        """Population variance (divided by n, not n - 1), ``(C,)``."""
        return (self.deviations / max(1, self.count)).clamp_min(0)
