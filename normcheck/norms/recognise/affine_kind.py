"""Which norm γ and β without statistics are: by names, the layers around them and metadata."""

import re
from bisect import bisect_left, bisect_right
from operator import itemgetter

from normcheck.norms.kinds import BY_NAME, NormKind, batch_norm
from normcheck.norms.recognise.groups import Group
from normcheck.saved.tensors import TensorRef

NORM_BASE_VERSION = 2
"""``_version`` of BatchNorm and InstanceNorm in ``_metadata``; every other torch module
that has the leaves of a norm is at 1."""

_NAMED = re.compile(
    r"""norm                      # norm1, input_layernorm, LayerNorm, group_norm, final_norm
    | (?:^|_)(?:ln|bn|gn)(?:$|_|\d)   # ln_1, ln1, bn2, _bn0, gn
    | (?:bn|ln)$              # conv1bn
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NOT_NAMED = re.compile(r"normaliz|(?:weight|spectral)_?norm|normal(?:_|$)", re.IGNORECASE)
_LAYER_NAMED = re.compile(r"layer_?norm|(?:^|_)ln(?:$|_|\d)|ln$", re.IGNORECASE)
_RMS_NAMED = re.compile(r"(?:^|[._])rms|rms_?norm", re.IGNORECASE)
"""``norms`` ends in it too."""
_GROUP_NAMED = re.compile(r"group_?norm|(?:^|_)gn(?:$|_|\d)", re.IGNORECASE)
_BATCH_NAMED = re.compile(r"batch_?norm|(?:^|_)bn(?:$|_|\d)|bn$", re.IGNORECASE)
_NEIGHBOURS = 12
"""Weights looked at on either side of a norm for the layer that it belongs to."""


def matrices(groups: list[Group]) -> list[tuple[int, TensorRef]]:
    """The weights of the layers between which norms stand, with their places."""
    return [
        (group.position, weight)
        for group in groups
        if (weight := group.leaves.get("weight")) is not None and weight.ndim >= 2
    ]


def neighbour_of(
    position: int, features: int, weights: list[tuple[int, TensorRef]]
) -> TensorRef | None:
    """The layer whose outputs, or inputs, a norm most likely normalises."""
    # By bisection: a model may have many thousands of norms, and of weights.
    here = bisect_left(weights, position, key=itemgetter(0))
    first = bisect_left(weights, position - _NEIGHBOURS, key=itemgetter(0))
    last = bisect_right(weights, position + _NEIGHBOURS, key=itemgetter(0))
    before = [w for _, w in weights[first:here]][::-1]
    after = [w for p, w in weights[here:last] if p > position]
    # Transposed convolutions have their inputs first.
    makes = [w for w in before if w.shape[0] == features or (w.ndim > 2 and w.shape[1] == features)]
    takes = [w for w in after if w.shape[1] == features]
    behind = after[:1]
    if makes and makes[0].ndim == 2 and behind and behind[0].ndim > 2:
        # From a matrix into a convolution that takes as many channels: those of an image.
        takes = [w for w in behind if w.shape[1] == features]
        makes = takes or makes
    nearest = [*makes[:1], *takes[:1], *before[:1], *after[:1]]
    return nearest[0] if nearest else None


def _right_behind_convolution(
    position: int, features: int, weights: list[tuple[int, TensorRef]]
) -> bool:
    """Whether the last weights before a norm are those of a convolution that makes its channels."""
    before = bisect_left(weights, position, key=itemgetter(0))
    if before == 0 or weights[before - 1][0] < position - _NEIGHBOURS:
        return False
    last = weights[before - 1][1]
    return last.ndim > 2 and features in last.shape[:2]


def named_part(path: str) -> str:
    """The part of the path that calls itself a norm; empty where none does.

    The last part counts, and the one before it where the last is only a number.
    """
    parts = path.split(".")
    last = parts[-1]
    candidates = [last] if not last.isdecimal() or len(parts) == 1 else [last, parts[-2]]
    for part in candidates:
        if _NAMED.search(part) and not _NOT_NAMED.search(part):
            return part
    return ""


def kind_of_affine(
    named: str,
    version: int | None,
    weight: TensorRef,
    bias: TensorRef | None,
    weights: list[tuple[int, TensorRef]],
    position: int,
) -> tuple[NormKind, str]:
    """The kind of a norm that has γ, perhaps β, and no statistics, and why."""
    neighbour = neighbour_of(position, weight.numel, weights)
    convolutional = neighbour is not None and neighbour.ndim > 2
    called_batch = _BATCH_NAMED.search(named) and not _LAYER_NAMED.search(named)
    if version == NORM_BASE_VERSION:
        why = "metadata of BatchNorm or InstanceNorm, without statistics"
        if _BATCH_NAMED.search(named):
            return batch_norm(neighbour.ndim - 2 if neighbour is not None else None), why
        # Hardly any BatchNorm is built without statistics, hardly any InstanceNorm with them.
        dimensions = min(3, max(1, neighbour.ndim - 2)) if neighbour is not None else 2
        return BY_NAME[f"InstanceNorm{dimensions}d"], why
    if weight.ndim > 1 and sum(length > 1 for length in weight.shape) > 1:
        return BY_NAME["LayerNorm"], f"weight and bias of {weight.ndim} dimensions"
    if called_batch and version is None:
        return batch_norm(neighbour.ndim - 2 if neighbour else None), "but without statistics"
    if bias is None and (
        version is not None
        or _RMS_NAMED.search(named)
        or not _right_behind_convolution(position, weight.numel, weights)
    ):
        return BY_NAME["RMSNorm"], "a weight of one value a feature, no bias"
    if _RMS_NAMED.search(named):
        return BY_NAME["RMSNorm"], "weight and bias of one value a feature"
    if _GROUP_NAMED.search(named):
        return BY_NAME["GroupNorm"], "weight and bias of one value a channel"
    what = "weight and bias" if bias is not None else "a weight, no bias,"
    if _LAYER_NAMED.search(named) or not convolutional:
        return BY_NAME["LayerNorm"], f"{what} of one value a feature"
    return BY_NAME["LayerNorm or GroupNorm"], f"{what} of one value a channel"
