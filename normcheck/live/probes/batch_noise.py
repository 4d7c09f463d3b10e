"""How far outputs scatter where batches of one size give the statistics."""

import numpy as np
import torch

from normcheck.live.batches import Feed
from normcheck.live.measurement import NoiseAt
from normcheck.live.probes.regime_comparison import difference
from normcheck.live.watching import outputs
from normcheck.live.watching.forward import Interrupted
from normcheck.live.watching.regimes import Collected, Regimes, Statistics

NOISE_SIZES = (1, 2, 4, 8, 16, 32)
_NOISE_SAMPLES = 64
_NOISE_BATCHES = 16
"""Most forwards at one batch size: how far outputs scatter is no finer matter than that."""


def batch_noise(
    regimes: Regimes, feed: Feed, estimated: Statistics, collected: Collected
) -> tuple[NoiseAt, ...]:
    """Outputs under batch statistics at several batch sizes, against those of all the data."""
    whole = feed.pooled()
    if whole is None:
        return ()
    count = min(_NOISE_SAMPLES, whole.size)
    some = feed.spread(count)
    settled = torch.cat(regimes.given(some, estimated).mains)
    # The spread is that of the layer whose batch means scatter most.
    spread = max(
        (float(np.median(collected.moments[place].spread())) for place in collected.stored),
        default=1.0,
    )
    found = []
    for size in NOISE_SIZES:
        if size > count:
            break
        effective = size / spread if spread > 0 else float("inf")
        part = min(count, _NOISE_BATCHES * size)
        try:
            noisy = regimes.batch(some.part(range(part)), size=size).mains
        except Interrupted:
            found.append(NoiseAt(size, None, None, effective))
            continue
        a, b = [torch.cat(noisy)], [settled[:part]]
        found.append(NoiseAt(size, difference(a, b), outputs.flips(a, b), effective))
    return tuple(found)
