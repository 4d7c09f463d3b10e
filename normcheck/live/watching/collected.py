"""What batch norms were given in some forwards, and what they have stored."""

from __future__ import annotations

from dataclasses import field

import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.input_moments import Moments
from normcheck.live.watching.seen import CallSite


@lazy_dataclass(frozen=False)
class Collected:
    """Moments of the inputs of all batch norms, in the order in which they run."""

    moments: dict[CallSite, Moments] = field(default_factory=dict)
    stored: dict[CallSite, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """The running statistics that each was given, where it was given any."""
    eps: dict[CallSite, float] = field(default_factory=dict)
    samples: list[Tensor] = field(default_factory=list)
    """Means and logarithms of variances of each sample, ``(N, 2 C)``, at the first norm."""
    measures: bool = True
    """Whether moments are taken, and not only what is stored."""
    kept: int = 0
    """Samples, the first ones, of which each norm's moments are kept apart."""
    first: dict[CallSite, tuple[Tensor, Tensor]] = field(default_factory=dict)
    """Their means and variances, ``(kept, C)``."""

    def take(self, call: BatchNormCall) -> None:
        """Note what one batch norm is given."""
        place = call.place
        new = place not in self.eps
        if new:
            mean, variance = call.statistics
            if mean is not None and variance is not None and not call.training:
                self.stored[place] = (
                    mean.detach().double().cpu(),
                    variance.detach().double().cpu(),
                )
            self.eps[place] = call.eps
        if not self.measures:
            return
        mean, variance, _ = self.moments.setdefault(place, Moments()).add(call.input)
        if new and self.kept:
            self.first[place] = mean[: self.kept].clone(), variance[: self.kept].clone()
        if place == next(iter(self.moments)):
            self.samples.append(torch.cat([mean, variance.clamp_min(1e-12).log()], dim=1))

    def statistics(self) -> dict[CallSite, tuple[Tensor, Tensor]]:
        """Pooled mean and variance of every norm that eval mode gives stored ones."""
        return {place: self.moments[place].pooled() for place in self.stored}
