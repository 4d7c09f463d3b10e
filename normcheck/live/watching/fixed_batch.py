"""Exports that take batches of one size only, fed with any number of samples."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from normcheck.live.batches import Batch
from normcheck.live.watching.outputs import ForwardOutput, flattened


def in_batches(run: Callable[[Batch], Any], size: int, batch: Batch) -> ForwardOutput:
    """The outputs for all samples of a batch, ``size`` of them at a time.

    The last call is filled up with samples from the beginning. What the companions of a sample
    change shows all the same, as long as ``size`` is more than 1.

    Args:
        run: Takes a batch of ``size`` samples.
        size: The one size that the export takes.
        batch: Any number of samples.
    """
    count = batch.size
    pieces = [
        flattened(run(batch.rows([i % count for i in range(start, start + size)]))).tensors
        for start in range(0, count, size)
    ]
    joined: dict[str, Tensor] = {}
    for name, first in pieces[0].items():
        if first.ndim and len(first) == size:
            joined[name] = torch.cat([piece[name] for piece in pieces])[:count]
        else:
            joined[name] = first
    return ForwardOutput(joined)
