"""Smooth random images: Gaussian fields whose neighbouring values correlate.

A stationary process in both directions, of first order in each: values that lie ``d`` rows and
``e`` columns apart correlate by ``neighbours ** (d + e)``, and channels at one place by
``channels``. Values have mean 0 and variance 1. Natural images are such to the second order
(Field, "Relations between the statistics of natural images and the response properties of
cortical cells", 1987), which is what the statistics of a norm behind a convolution depend on.
"""

import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Smoothness:
    """How values of a field correlate, each from 0 to below 1."""

    neighbours: float
    """One value and the next."""
    channels: float
    """Channels at one place."""


def smooth_fields(count: int, shape: tuple[int, int, int], how: Smoothness, seed: int) -> Tensor:
    """Random fields, each together with its negative.

    So the mean of all is exactly 0, and their variance is made exactly 1: a few smooth fields
    have but a few independent values, and would be off by a fifth of a deviation otherwise.

    Args:
        count: How many; one more of an odd number.
        shape: Channels, height and width.
        how: How they correlate.
        seed: Of the random numbers; the global generator is left alone.

    Returns:
        ``(count, C, H, W)`` in float32; the negatives follow all others.
    """
    generator = torch.Generator().manual_seed(seed)
    half = -(-count // 2)
    own = torch.randn(half, *shape, generator=generator)
    shared = torch.randn(half, 1, *shape[1:], generator=generator)
    together = how.channels if shape[0] > 1 else 0.0
    white = (1 - together) ** 0.5 * own + together**0.5 * shared
    high, wide = (_process(size, how.neighbours) for size in shape[1:])
    fields = high @ white @ wide.T
    fields /= fields.square().mean().sqrt()
    return torch.cat([fields, -fields])


def _process(size: int, correlation: float) -> Tensor:
    """What makes independent values a process of first order, ``(size, size)``."""
    places = torch.arange(size)
    apart = places[:, None] - places[None]
    made = torch.where(apart >= 0, correlation ** apart.clamp_min(0).double(), 0.0)
    made[:, 1:] *= (1 - correlation**2) ** 0.5
    return made.float()
