"""Residual blocks that begin with their norm: what they add shows between two stored means.

Such a block, ``bn1, conv1, bn2, conv2``, adds its last weights to what it takes, and the next block
begins with a norm over the sum. The norm at its own beginning has recorded what it took, so that

    mean of the next norm - mean of the own norm = b + Σ W m        m behind the last inner norm

holds without anything that a file does not show. Where the number of channels changes, weights
without a norm stand in the shortcut, and V m or V times the stored mean takes the place of the own
norm's mean: whether the shortcut begins before the first norm or behind it is chosen for the whole
model. Only differences count: that two stored means are alike is no sign of anything.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.agreement import SAME_LEVEL
from normcheck.norms.belonging.fit import Fit, off_one, weighted_means
from normcheck.norms.belonging.fit_links import cannot_judge
from normcheck.norms.belonging.reaching import Hypothesis, reaching
from normcheck.norms.belonging.structure.link import (
    Link,
    WeightStructure,
    role_of,
    usable,
    weights_kind,
)
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.sums.blocks import is_shortcut, numbered
from normcheck.norms.belonging.weighted_sums import behind_weights
from normcheck.norms.layer import Confidence, Floats, NormLayer, Recognition, Values
from normcheck.norms.weight_layout import Layout
from normcheck.saved.tensors import TensorRef

ONCE = 0.1
"""Share of what a block takes that its sum may hold too little or too much of, beside a standard
error: in a block with a rest of the initial value it is that rest."""
WAYS = (False, True)
"""Whether a shortcut with weights begins behind the first norm of its block, and its activation."""


@lazy_dataclass(eq=False)
class Block:
    """A block that begins with its norm, and the norm over the sum behind it."""

    own: NormLayer
    """At its beginning: over what it takes."""
    inner: NormLayer
    """Before its last weights."""
    last: ModuleStep
    """These."""
    shortcut: ModuleStep | None
    """Weights of the branch that is added; None where what the block takes is added as it is."""
    target: NormLayer
    """Over the sum."""


def blocks_of(steps: Sequence[ModuleStep]) -> Iterator[Block]:
    """Blocks that begin with their norm.

    Args:
        steps: The modules of a model, as they run.
    """
    if not any(_may_begin(norm, then) for norm, then in pairwise(steps)):
        return  # as nearly always
    whole = _around(steps)
    places = [list(members) for _, members in groupby(range(len(steps)), whole.__getitem__)]
    for here, behind in pairwise(places):
        target = steps[behind[0]].norm
        block = _block([steps[i] for i in here], whole[here[0]]) if whole[here[0]] else None
        if block is None or target is None:
            continue
        own, inner, last, shortcut = block
        if last.shape is None or last.shape[0] != target.features:
            continue
        if shortcut is None and own.features != target.features:
            continue
        yield Block(own, inner, last, shortcut, target)


def _may_begin(norm: ModuleStep, then: ModuleStep) -> bool:
    """Whether a norm and the weights behind it are in one module, and go together by channels."""
    if norm.norm is None or not then.is_weights or then.shape is None:
        return False
    beside = norm.path.rpartition(".")[0] == then.path.rpartition(".")[0]
    return beside and then.shape[1] == norm.norm.features


def _around(steps: Sequence[ModuleStep]) -> list[str]:
    """The block of each module: of the numbered ones around it the innermost with two norms."""
    around = [tuple(numbered(step.path)) for step in steps]
    norms: dict[str, int] = {}
    for step, places in zip(steps, around, strict=True):
        for place in places if step.norm is not None else ():
            norms[place] = norms.get(place, 0) + 1
    return [next((place for place in places if norms.get(place, 0) > 1), "") for places in around]


_Parts = tuple[NormLayer, NormLayer, ModuleStep, ModuleStep | None]


def _block(steps: Sequence[ModuleStep], name: str) -> _Parts | None:
    """First norm, last inner norm, last weights and shortcut; None for another kind of block."""
    beside = [step for step in steps if is_shortcut(step.path[len(name) + 1 :])]
    main = [step for step in steps if step not in beside]
    if len(main) % 2 and len(main) > 4 and not beside and main[-1].is_weights:
        beside = [main.pop()]  # named like the others, but it follows weights
    pairs = list(zip(main[::2], main[1::2], strict=False))
    if len(main) % 2 or len(pairs) < 2 or len(beside) > 1:
        return None
    if not all(norm.norm is not None and then.is_weights for norm, then in pairs):
        return None
    if any(not step.is_weights for step in beside):
        return None
    own, (before, last) = pairs[0][0].norm, pairs[-1]
    if own is None or before.norm is None or (pairs[0][1].shape or (0, 0))[1] != own.features:
        return None
    return own, before.norm, last, beside[0] if beside else None


def links_of(
    blocks: Sequence[Block], activation: str, layouts: Mapping[str, Layout], *, behind: bool
) -> Iterator[tuple[Link, Floats]]:
    """Links from the last inner norm of each block to what the block adds, and to what it adds it.

    Args:
        blocks: Of one model.
        activation: Behind each norm.
        layouts: Of weights, where a model tells them.
        behind: One of ``WAYS``.
    """
    for block in blocks:
        kind = _kind(block.last, block.inner, block.target.features or 0, layouts)
        if (
            kind is None
            or not usable(block.inner, block.target)
            or not usable(block.own, block.own)
        ):
            continue
        taken = _taken(block, activation, layouts, behind=behind)
        mean = block.target.running_mean
        if taken is None or mean is None or not np.isfinite(taken).all():
            continue
        added = replace(block.target, running_mean=Values(mean.numbers - taken, mean.dtype))
        link = Link(
            block.inner,
            block.last.path,
            block.last.weight,
            block.last.leaf("bias"),
            added,
            kind,
            f"{role_of(block.inner.path, block.last.path, block.target.path)} sum",
            Recognition(Confidence.LOW, "what a block adds to what its first norm has recorded"),
        )
        if not cannot_judge(link):
            yield link, taken


def adds_up(fit: Fit, taken: Floats) -> bool:
    """Whether what a block takes is in the sum once: neither a share of it nor more.

    A rest of the initial value in the norm over the sum takes away as much of both its parts, of
    which what the block adds may be the smaller one.

    Args:
        fit: Of what the block adds.
        taken: The mean of what it is added to, of shape (channels,).
    """
    unit = np.sqrt(weighted_means(fit.link)[1])
    parts = np.stack([fit.predicted_mean, taken], axis=1) * unit[:, None]
    sums = fit.stored_mean * unit
    found, *_ = np.linalg.lstsq(parts, sums, rcond=None)
    left = sums - parts @ found
    square = parts.T @ parts
    inverse = np.linalg.pinv(square)[1, 1]
    error = np.sqrt(float(left @ left) / max(len(sums) - 2, 1) * max(inverse, 0.0))
    return bool(abs(found[1]) <= ONCE + error) and off_one(found[0]) <= SAME_LEVEL


def _kind(
    step: ModuleStep, source: NormLayer, makes: int, layouts: Mapping[str, Layout]
) -> WeightStructure | None:
    layout, bias = layouts.get(step.weight_name), step.leaf("bias")
    if (layout is not None and layout.inputs_first) or (bias is not None and bias.numel != makes):
        return None
    return weights_kind(step.weight, source.features or 0, makes, layout)


def _taken(
    block: Block, activation: str, layouts: Mapping[str, Layout], *, behind: bool
) -> Floats | None:
    """The mean of what a block's branch is added to, of shape (channels,)."""
    own = block.own.running_mean
    if own is None or not usable(block.own, block.own):
        return None
    if block.shortcut is None:
        return own.numbers
    makes = block.target.features or 0
    kind = _kind(block.shortcut, block.own, makes, layouts)
    if kind is None:
        return None
    bias = block.shortcut.leaf("bias")
    link = Link(
        block.own,
        block.shortcut.path,
        block.shortcut.weight,
        bias,
        block.target,
        kind,
        "shortcut",
        Recognition(Confidence.LOW, "weights in a shortcut"),
    )
    reached = reaching(link, (Hypothesis(activation),)).means if behind else own.numbers[:, None]
    mean = behind_weights(link, reached)[0][:, 0, 0]
    return mean + _numbers(bias)


def _numbers(bias: TensorRef | None) -> Floats:
    if bias is None or not bias.readable:
        return np.zeros(1)
    return np.asarray(bias.values(), dtype=np.float64).reshape(-1)
