"""Which norm γ and β without statistics are: by names, the layers around them and metadata."""

import re
from bisect import bisect_left, bisect_right

from normcheck.lazy_pattern import lazy_pattern
from normcheck.norms.kinds import BY_NAME, NormKind, batch_norm
from normcheck.norms.recognise.groups import Weights
from normcheck.saved.tensors import TensorRef

NORM_BASE_VERSION = 2
"""``_version`` of BatchNorm and InstanceNorm in ``_metadata``; every other torch module
that has the leaves of a norm is at 1."""

_NAMED = lazy_pattern(
    r"""norm                      # norm1, input_layernorm, LayerNorm, group_norm, final_norm
    | (?:^|_)(?:ln|bn|gn)(?:$|_|\d)   # ln_1, ln1, bn2, _bn0, gn
    | (?:bn|ln)$              # conv1bn
    """,
    re.IGNORECASE | re.VERBOSE,
)
_NOT_NAMED = lazy_pattern(r"normaliz|(?:weight|spectral)_?norm|normal(?:_|$)", re.IGNORECASE)
_LAYER_NAMED = lazy_pattern(r"layer_?norm|(?:^|_)ln(?:$|_|\d)|ln$", re.IGNORECASE)
_RMS_NAMED = lazy_pattern(r"(?:^|[._])rms|rms_?norm", re.IGNORECASE)
"""``norms`` ends in it too."""
_GROUP_NAMED = lazy_pattern(r"group_?norm|(?:^|_)gn(?:$|_|\d)", re.IGNORECASE)
_BATCH_NAMED = lazy_pattern(r"batch_?norm|(?:^|_)bn(?:$|_|\d)|bn$", re.IGNORECASE)
_NEIGHBOURS = 12
"""Weights looked at on either side of a norm for the layer that it belongs to."""


def neighbour_of(position: int, features: int, weights: Weights) -> tuple[int, ...] | None:
    """The shape of the layer whose outputs, or inputs, a norm most likely normalises."""
    # By bisection: a model may have many thousands of norms, and of weights.
    positions, shapes = weights.positions, weights.shapes
    here, behind = bisect_left(positions, position), bisect_right(positions, position)
    first = bisect_left(positions, position - _NEIGHBOURS)
    last = bisect_right(positions, position + _NEIGHBOURS)
    before, after = shapes[first:here][::-1], shapes[behind:last]
    # Transposed convolutions have their inputs first.
    makes = [s for s in before if s[0] == features or (len(s) > 2 and s[1] == features)]
    takes = [s for s in after if s[1] == features]
    following = after[:1]
    if makes and len(makes[0]) == 2 and following and len(following[0]) > 2:
        # From a matrix into a convolution that takes as many channels: those of an image.
        takes = [s for s in following if s[1] == features]
        makes = takes or makes
    nearest = [*makes[:1], *takes[:1], *before[:1], *after[:1]]
    return nearest[0] if nearest else None


def _right_behind_convolution(position: int, features: int, weights: Weights) -> bool:
    """Whether the last weights before a norm are those of a convolution that makes its channels."""
    before = bisect_left(weights.positions, position)
    if before == 0 or weights.positions[before - 1] < position - _NEIGHBOURS:
        return False
    last = weights.shapes[before - 1]
    return len(last) > 2 and features in last[:2]


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
    weights: Weights,
    position: int,
) -> tuple[NormKind, str]:
    """The kind of a norm that has γ, perhaps β, and no statistics, and why."""
    neighbour = neighbour_of(position, weight.numel, weights)
    convolutional = neighbour is not None and len(neighbour) > 2
    called_batch = _BATCH_NAMED.search(named) and not _LAYER_NAMED.search(named)
    if version == NORM_BASE_VERSION:
        why = "metadata of BatchNorm or InstanceNorm, without statistics"
        if _BATCH_NAMED.search(named):
            return batch_norm(len(neighbour) - 2 if neighbour is not None else None), why
        if neighbour is not None and not convolutional:
            # Behind a linear layer there is no space that an InstanceNorm could average over.
            return batch_norm(0), why
        # Hardly any BatchNorm is built without statistics, hardly any InstanceNorm with them.
        dimensions = min(3, max(1, len(neighbour) - 2)) if neighbour is not None else 2
        return BY_NAME[f"InstanceNorm{dimensions}d"], why
    if weight.ndim > 1 and sum(length > 1 for length in weight.shape) > 1:
        return BY_NAME["LayerNorm"], f"weight and bias of {weight.ndim} dimensions"
    if called_batch and version is None:
        return batch_norm(len(neighbour) - 2 if neighbour else None), "but without statistics"
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
