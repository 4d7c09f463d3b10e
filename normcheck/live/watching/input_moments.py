"""Moments of what batch norms are given, per channel, with the sample as the unit.

Streaming and mergeable: a layer costs a few numbers per channel, however many samples pass and
however deep the model is. Pixels of one image are not independent, so intervals rest on the
scatter between samples.
"""

import math
from dataclasses import field
from statistics import NormalDist
from typing import Any

import numpy as np
import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.seen import CallSite
from normcheck.norms.layer import Floats

_CANCELLATION = 1e-3
"""Share of the second moment below which ``q - m^2`` in float32 has lost its digits."""


def sample_moments(x: Tensor) -> tuple[Tensor, Tensor, int]:
    """Mean and variance of each sample and channel of ``(N, C, ...)``, in float64 on the CPU.

    Args:
        x: What a batch norm is given.

    Returns:
        Two tensors ``(N, C)``, and the number of values in each.
    """
    values = math.prod(x.shape[2:])
    if x.dtype in (torch.float16, torch.bfloat16):
        x = x.float()
    if values == 1:
        mean = x.reshape(x.shape[:2]).double().cpu()
        return mean, torch.zeros_like(mean), 1
    axes = tuple(range(2, x.ndim))
    # Two vectorised reductions: on CPUs three to four times as fast as var_mean.
    mean = x.mean(axes).double()
    square = torch.linalg.vector_norm(x, dim=axes).double().square() / values
    variance = square - mean.square()
    if bool((variance < _CANCELLATION * square).any()):
        variance = x.var(axes, correction=0).double()
    return mean.cpu(), variance.clamp_min(0).cpu(), values


@lazy_dataclass(frozen=False)
class Moments:
    """Sums over samples of one layer; ``m`` is a sample's mean, ``q`` its second moment.

    Both are taken about the first sample's mean, so that large offsets cost no digits.
    """

    samples: int = 0
    values: float = 0.0
    """Numbers per channel, over all samples."""
    origin: Tensor | None = None
    m: Tensor = field(default_factory=lambda: torch.zeros(0))
    q: Tensor = field(default_factory=lambda: torch.zeros(0))
    mm: Tensor = field(default_factory=lambda: torch.zeros(0))
    qq: Tensor = field(default_factory=lambda: torch.zeros(0))
    mq: Tensor = field(default_factory=lambda: torch.zeros(0))
    weighted_m: Tensor = field(default_factory=lambda: torch.zeros(0))
    weighted_q: Tensor = field(default_factory=lambda: torch.zeros(0))

    def add(self, x: Tensor) -> tuple[Tensor, Tensor, int]:
        """Take in a batch ``(N, C, ...)``; returns its :func:`sample_moments`."""
        mean, variance, values = sample_moments(x)
        if self.origin is None:
            self.origin = torch.nan_to_num(mean[0].clone())
            zeros = torch.zeros_like(self.origin)
            self.m, self.q, self.mm, self.qq, self.mq = (zeros.clone() for _ in range(5))
            self.weighted_m, self.weighted_q = zeros.clone(), zeros.clone()
        centred = mean - self.origin
        second = variance + centred.square()
        self.samples += len(mean)
        self.values += values * len(mean)
        self.m += centred.sum(0)
        self.q += second.sum(0)
        self.mm += centred.square().sum(0)
        self.qq += second.square().sum(0)
        self.mq += (centred * second).sum(0)
        self.weighted_m += values * centred.sum(0)
        self.weighted_q += values * second.sum(0)
        return mean, variance, values

    def pooled(self) -> tuple[Tensor, Tensor]:
        """Mean and population variance over all values (Chan et al., 1979), in float64."""
        assert self.origin is not None  # noqa: S101  (only layers that were fed are asked)
        shift = self.weighted_m / self.values
        variance = (self.weighted_q / self.values - shift.square()).clamp_min(0)
        return self.origin + shift, variance

    def mean_error(self) -> Floats:
        """Standard error of the mean per channel, from the scatter between samples."""
        n = self.samples
        variance = (self.mm - self.m.square() / n).clamp_min(0) / max(1, n - 1)
        return np.asarray((variance / n).sqrt().numpy(), dtype=np.float64)

    def variance_error(self) -> Floats:
        """Standard error of the variance per channel, by the delta method.

        The variance is ``mean(q) - mean(m)^2``; its influence function at a sample is
        ``q - 2 mean(m) m``, up to a constant.
        """
        n = self.samples
        a = self.m / n
        var_q = self.qq - self.q.square() / n
        var_m = self.mm - self.m.square() / n
        cov = self.mq - self.m * self.q / n
        variance = (var_q - 4 * a * cov + 4 * a.square() * var_m).clamp_min(0) / max(1, n - 1)
        return np.asarray((variance / n).sqrt().numpy(), dtype=np.float64)

    def spread(self) -> Floats:
        """Variance of per-sample means over the whole variance, per channel."""
        n = self.samples
        between = (self.mm - self.m.square() / n).clamp_min(0) / n
        whole = self.pooled()[1]
        share = torch.where(whole > 0, between / whole.clamp_min(1e-300), torch.ones_like(whole))
        return np.asarray(share.clamp(0, 1).numpy(), dtype=np.float64)


def student_quantile(tail: float, degrees: int) -> float:
    """The value that Student's t exceeds with probability ``tail`` on one side.

    G. W. Hill, Algorithm 396, Communications of the ACM 13 (1970): six digits from 3 degrees
    of freedom on.

    >>> round(student_quantile(0.025, 15), 3)
    2.131
    """
    p = 2 * tail
    if degrees < 1:
        return math.inf
    if degrees == 1:
        return 1 / math.tan(p * math.pi / 2)
    if degrees == 2:
        return math.sqrt(2 / (p * (2 - p)) - 2)
    n = float(degrees)
    a = 1 / (n - 0.5)
    b = 48 / (a * a)
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * n
    y = math.pow(d * p, 2 / n)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(p / 2)
        y = x * x
        if n < 5:
            c += 0.3 * (n - 4.5) * (x + 0.6)
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y * y)
    else:
        y = (1 / (((n + 6) / (n * y) - 0.089 * d - 0.822) * (n + 2) * 3) + 0.5 / (n + 4)) * y - 1
        y = y * (n + 1) / (n + 2) + 1 / math.pow(d * p, 2 / n)
    return math.sqrt(n * y)


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


def pooled(
    first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor], share: float
) -> tuple[Tensor, Tensor]:
    """Mean and variance of two sets of samples together (Chan et al., 1979).

    Args:
        first: Mean and population variance of one, ``(C,)`` each.
        second: The same of the other.
        share: Of all values, those of the first.
    """
    mean = share * first[0] + (1 - share) * second[0]
    variance = share * (first[1] + (first[0] - mean).square())
    variance += (1 - share) * (second[1] + (second[0] - mean).square())
    return mean, variance


LEAST_LEFT = 0.02
"""Share of the variance of all that is left where one sample is nearly all of it: a channel that is
active in a single sample has none in the others, and what it gives there would be without bound."""


def by_others(call: BatchNormCall, statistics: tuple[Tensor, Tensor], samples: int) -> Any:
    """What a batch norm gives where each sample is normalised by the statistics of all the others.

    Statistics of half of the data are noisier than those of all, and the noise costs the
    predictions that are made with them; those of all hold the sample that is predicted. Without
    it they are as good as all, and know nothing of it.

    With ``n`` samples of equally many values, mean ``m`` and variance ``v`` of all, ``m_i`` and
    ``v_i`` of one, the others have the mean ``(n m - m_i) / (n - 1)``, and their second moment
    about ``m`` is ``(n v - v_i - (m_i - m)^2) / (n - 1)``; their variance counts as a fiftieth of
    ``v`` at least.

    Args:
        call: That is about to run.
        statistics: Of all samples, ``(C,)`` each; a batch that holds them all tells its own, which
            are those of the inputs that the norms before it give now.
        samples: How many these are of, the batch's among them.

    Returns:
        None where the rows of the input are not those of the samples.
    """
    x = call.input
    batch = call.samples or len(x)
    rows, rest = divmod(len(x), batch)
    if rest or not rows or samples < 2:
        return None
    own_mean, own_variance, _ = sample_moments(x)
    if rows > 1:  # tokens, say, of each sample
        each = own_mean.reshape(batch, rows, -1)
        own_variance = own_variance.reshape(batch, rows, -1).mean(1) + each.var(1, correction=0)
        own_mean = each.mean(1)
    mean, variance = statistics
    if batch == samples:
        mean = own_mean.mean(0)
        variance = own_variance.mean(0) + own_mean.var(0, correction=0)
    others = (samples * mean - own_mean) / (samples - 1)
    about = samples * variance - own_variance - (own_mean - mean).square()
    left = (about / (samples - 1) - (others - mean).square()).maximum(LEAST_LEFT * variance)
    return call.with_own_statistics(
        others.repeat_interleave(rows, dim=0), left.repeat_interleave(rows, dim=0)
    )
