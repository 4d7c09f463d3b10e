"""Outputs as ``model.train()`` gives them, dropout and all."""

import random

import numpy as np
import torch
from torch import Tensor

from normcheck.live.batches import Batch, Feed
from normcheck.live.watching import outputs
from normcheck.live.watching.forward import Interrupted, RegimeOutputs, mode
from normcheck.live.watching.observe import watching
from normcheck.live.watching.outputs import ForwardOutput
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.untouched import untouched


def in_train_mode(
    regimes: Regimes, feed: Feed, at_batch: RegimeOutputs | None, tolerance: float
) -> tuple[RegimeOutputs | None, str]:
    """The outputs in train mode, or why there are none.

    Where train mode does nothing but normalise by the batch, as its first batch shows, those of
    the others are known already.

    Args:
        regimes: Runs the model.
        feed: All of the data.
        at_batch: Outputs of the same samples with the statistics of the same batches, all else as
            in eval mode; None where they are not known.
        tolerance: Relative difference that rounding can make.
    """
    model = regimes.forward.model
    if regimes.forward.fixed_mode:
        return None, ""
    torch.manual_seed(0)
    mains: list[Tensor] = []
    labels: list[Tensor | None] = []
    try:
        # Train mode updates statistics, by which the forwards that follow are to be judged.
        with untouched(model), mode(model, training=True):
            for batch in feed.batches:
                if mains or at_batch is None:
                    output, drawn = regimes.forward(batch), True
                else:
                    output, drawn = _watched(regimes, batch)
                main = output.main(batch.size)
                regimes.tick(batch.size)
                if main is None:
                    continue
                mains.append(main.cpu())
                labels.append(None if batch.labels is None else batch.labels.cpu())
                if not drawn and at_batch and _same(mains[0], at_batch, tolerance):
                    return at_batch, ""
    except Interrupted as error:
        return None, f"train mode failed: {error}"
    return RegimeOutputs(mains, labels).together(), ""


def _watched(regimes: Regimes, batch: Batch) -> tuple[ForwardOutput, bool]:
    """A forward, and whether it drew random numbers of any generator."""
    before = random.getstate(), _numpy_state()
    with watching(regimes.forward.model, batch.size, regimes.reached) as watch:
        output = regimes.forward(batch)
    return output, bool(watch.seen.random) or before != (random.getstate(), _numpy_state())


def _numpy_state() -> tuple[object, ...]:
    name, keys, *rest = np.random.get_state(legacy=True)
    return name, keys.tobytes() if isinstance(keys, np.ndarray) else keys, *rest


def _same(main: Tensor, known: RegimeOutputs, tolerance: float) -> bool:
    """Whether the first outputs are those that are known."""
    whole = known.rows(range(len(main)))
    if whole is None or len(whole.mains) != 1 or whole.mains[0].shape != main.shape:
        return False
    return outputs.relative(main, whole.mains[0]) <= tolerance
