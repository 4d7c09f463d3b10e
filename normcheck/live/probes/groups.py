"""One forward that stands for many: groups of samples, each normalised in a way of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch import Tensor

from normcheck.live.batches import Batch
from normcheck.live.watching.batch_norm_call import BatchNormCall
from normcheck.live.watching.forward import RegimeOutputs
from normcheck.live.watching.regimes import Regimes, Statistics


def grouped(
    regimes: Regimes, whole: Batch, groups: Sequence[Sequence[int]], most: int
) -> list[Tensor]:
    """The main outputs of groups of samples, each with its own statistics.

    As forwards of each group would give, in as few as may be.

    Args:
        regimes: Runs the model.
        whole: The samples.
        groups: Their numbers in it; a sample may be in several.
        most: Samples in a forward, where a group has no more.

    Returns:
        One output for each group; none where the outputs are not those of samples.

    Raises:
        Interrupted: A forward raised.
    """
    found: list[Tensor] = []
    for pack in packed(groups, most):
        ends = np.cumsum([len(group) for group in pack]).tolist()

        def how(call: BatchNormCall, ends: list[int] = ends) -> object:
            if call.training:
                return None
            return call.in_groups(ends, lambda part, _: part.with_batch_statistics())

        rows = whole.rows([i for group in pack for i in group])
        for main in RegimeOutputs.of(regimes.run((rows,), how)).mains:
            found += main.tensor_split(ends[:-1])
    return found


def given_each(
    regimes: Regimes, batch: Batch, variants: Sequence[Statistics], most: int
) -> list[Tensor]:
    """The main outputs of one batch under each of several sets of statistics.

    Args:
        regimes: Runs the model.
        batch: What is fed.
        variants: As for ``given``.
        most: Samples in a forward, where the batch has no more.

    Returns:
        One output for each set; none where the outputs are not those of samples.
    """
    found: list[Tensor] = []
    together = 1 if regimes.forward.fixed_batch else max(1, most // batch.size)
    for start in range(0, len(variants), together):
        some = variants[start : start + together]
        ends = [batch.size * (number + 1) for number in range(len(some))]

        def how(
            call: BatchNormCall,
            some: Sequence[Statistics] = some,
            ends: list[int] = ends,
        ) -> object:
            if call.training or not any(call.place in each for each in some):
                return None
            return call.in_groups(ends, lambda part, i: part.by(some[i].get(call.place)))

        rows = batch.rows(list(range(batch.size)) * len(some))
        for main in RegimeOutputs.of(regimes.run((rows,), how)).mains:
            found += main.tensor_split(ends[:-1])
    return found


def packed(groups: Sequence[Sequence[int]], most: int) -> Iterator[list[Sequence[int]]]:
    """Groups put together up to so many samples, in their order."""
    pack: list[Sequence[int]] = []
    for group in groups:
        if pack and sum(map(len, pack)) + len(group) > most:
            yield pack
            pack = []
        pack.append(group)
    if pack:
        yield pack
