"""Which weights between norms are read: those that fit a budget, the surest links first."""

from collections.abc import Sequence

from normcheck.norms.belonging.structure.link import Link
from normcheck.norms.layer import Confidence
from normcheck.saved.tensors import TensorRef
from normcheck.sources.source import is_distant

HERE = 256 << 20
"""Bytes of weights of one model in a local file; nearly every network with BatchNorm is smaller,
and of a larger one part of the layers is enough to judge it."""
DISTANT = 64 << 20
"""The same for a remote file, where each byte takes a journey."""
BEYOND = "its weights are beyond the budget (--weights-budget)"
"""Why a link is not judged."""


def within_budget(links: Sequence[Link], budget: int | None) -> set[int]:
    """Indexes of the links whose weights are read.

    A link that does not fit leaves its share to those after it.

    Args:
        links: Of one model, in its order; weights that several share count each time.
        budget: In bytes; None for the usual one.
    """
    if budget is None:
        budget = DISTANT if any(_is_distant(link.weights) for link in links[:1]) else HERE
    order = list(Confidence)
    surest = sorted(range(len(links)), key=lambda i: order.index(links[i].recognition.confidence))
    chosen: set[int] = set()
    for index in surest:
        weights = links[index].weights
        cost = weights.span * weights.dtype.itemsize
        if cost <= budget:
            budget -= cost
            chosen.add(index)
    return chosen


def _is_distant(tensor: TensorRef) -> bool:
    spans = tensor.storage.spans(0, 1) if tensor.storage is not None else ()
    return any(is_distant(source) for source, _, _ in spans)
