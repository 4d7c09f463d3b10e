"""Branches that were merged into one convolution, as RepVGG and MobileOne do for inference.

    W = Σ over branches of the branch's weights with its batch norm folded in,

smaller kernels in the middle of the largest, and an identity branch (a batch norm alone) as the
kernel that copies each channel. b likewise.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np

from normcheck.compare.exports.export_match import Fate, NormMatch
from normcheck.compare.exports.folded_norms import USUAL_EPS, Weighted
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.layer import Floats, NormLayer
from normcheck.saved.dtypes import Array

_MOST_BRANCHES = 16
_DEEPEST = 3
"""Parts of a name between a block and the batch norms of its branches."""


@lazy_dataclass(eq=False)
class Branch:
    """A batch norm of a block, and the convolution before it; None for an identity branch."""

    layer: NormLayer
    weights: Weighted | None


def merged(
    branches: Mapping[str, Branch], candidates: Sequence[Weighted]
) -> Iterator[tuple[str, NormMatch]]:
    """The batch norms that went into merged convolutions, with what proves it.

    Args:
        branches: Of norms that are gone, by path.
        candidates: Convolutions of the other file that no norm was folded into alone.
    """
    done: set[str] = set()
    for block, paths in _blocks(branches):
        group = [branches[path] for path in paths if path not in done]
        if not 1 < len(group) <= _MOST_BRANCHES or len(group) < len(paths):
            continue
        inside = [_own_weights(branch, group, block) for branch in group]
        for candidate in candidates:
            deviation = _deviation(inside, candidate)
            if deviation is not None and deviation <= candidate.fits:
                done.update(paths)
                for path in paths:
                    yield (
                        path,
                        NormMatch(path, Fate.FOLDED, (), candidate.path, candidate.name, deviation),
                    )
                break


def _own_weights(branch: Branch, group: Sequence[Branch], block: str) -> Branch:
    """A branch whose weights lie outside its block, or are another's, is an identity."""
    weights = branch.weights
    if weights is None or not weights.path.startswith(f"{block}."):
        return Branch(branch.layer, None)
    sharing = [b for b in group if b.weights is not None and b.weights.path == weights.path]
    nearest = max(sharing, key=lambda b: _common_parts(b.layer.path, weights.path))
    return branch if branch is nearest else Branch(branch.layer, None)


def _common_parts(a: str, b: str) -> int:
    """Leading parts that two names share."""
    pairs = zip(a.split("."), b.split("."), strict=False)
    return next((i for i, (x, y) in enumerate(pairs) if x != y), len(a))


def _blocks(paths: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Groups of norms below one name, the smallest first."""
    groups: dict[str, list[str]] = {}
    for path in paths:
        parts = path.split(".")
        for depth in range(1, min(_DEEPEST, len(parts) - 1) + 1):
            groups.setdefault(".".join(parts[:-depth]), []).append(path)
    yield from sorted(groups.items(), key=lambda group: -group[0].count("."))


def _deviation(branches: Sequence[Branch], candidate: Weighted) -> float | None:
    """How far the sum of the folded branches lies from a candidate; None where none fits it."""
    shape = candidate.weights.shape
    outputs = shape[0]
    known = candidate.layout
    if len(shape) < 3 or (known is not None and known.inputs_first):
        return None
    bias = candidate.shift(outputs)
    if bias is None or any(branch.layer.features != outputs for branch in branches):
        return None
    theirs = np.asarray(candidate.weights.values(), dtype=np.float64)
    best: float | None = None
    for eps in USUAL_EPS:
        total, shift = np.zeros(shape), np.zeros(outputs)
        for branch in branches:
            part = _folded(branch, shape, eps)
            if part is None:
                return None
            total += part[0]
            shift += part[1]
        largest = float(max(np.abs(total).max(initial=0.0), 1e-30))
        apart = float(np.abs(theirs - total).max(initial=0.0)) / largest
        offset = float(np.abs(bias - shift).max(initial=0.0)) / max(
            float(np.abs(shift).max(initial=0.0)), 1e-30
        )
        if np.isfinite(apart + offset):
            best = max(apart, offset) if best is None else min(best, max(apart, offset))
    return best


def _flat(place: tuple[int, ...], shape: tuple[int, ...]) -> int:
    """A place among the taps of a kernel, as one number."""
    return int(np.ravel_multi_index(place, shape))


def _folded(branch: Branch, shape: tuple[int, ...], eps: float) -> tuple[Array, Floats] | None:
    """A branch's kernel in a shape, and its shift."""
    layer = branch.layer
    mean, variance = layer.running_mean, layer.running_var
    assert mean is not None  # noqa: S101  (asked before)
    assert variance is not None  # noqa: S101
    gamma = layer.weight.numbers if layer.weight else np.ones(mean.size)
    beta = layer.bias.numbers if layer.bias else np.zeros(mean.size)
    with np.errstate(all="ignore"):
        factor = gamma / np.sqrt(variance.numbers + (layer.eps or eps))
    kernel = np.zeros(shape)
    bias: Floats = np.zeros(mean.size)
    if branch.weights is None:
        middle = tuple((length - 1) // 2 for length in shape[2:])
        outputs = np.arange(shape[0])
        kernel.reshape(*shape[:2], -1)[outputs, outputs % shape[1], _flat(middle, shape[2:])] = 1.0
    else:
        own = np.asarray(branch.weights.weights.values(), dtype=np.float64)
        shift = branch.weights.shift(mean.size)
        if own.ndim != len(shape) or own.shape[:2] != shape[:2] or shift is None:
            return None
        gaps = [whole - part for whole, part in zip(shape[2:], own.shape[2:], strict=True)]
        if any(gap < 0 or gap % 2 for gap in gaps):
            return None
        place = tuple(
            slice(gap // 2, gap // 2 + part) for gap, part in zip(gaps, own.shape[2:], strict=True)
        )
        kernel[(slice(None), slice(None), *place)] = own
        bias = shift
    spread = factor.reshape(-1, *[1] * (len(shape) - 1))
    return kernel * spread, (bias - mean.numbers) * factor + beta
