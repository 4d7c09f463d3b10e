"""Weights that a residual sum reaches, in files whose names and shapes alone tell the blocks.

The first weights of a residual block take what the block before added up: the output of its last
norm and of its shortcut, a branch with a norm of its own or the block's input as it is. Block by
block mean and variance of that stream are carried on, its parts taken as independent and their
sum as normal again, as ``inflow.py`` does it for graphs. What a file does not show (whether the
activation stands behind the sum, before it or nowhere; how channels that no weights make are
padded) is chosen for the whole model by what fits.

Such a link is a guess. It vouches for a norm where the agreement is beyond chance, and is held
against nobody.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from math import atanh, sqrt

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.lazy_pattern import lazy_pattern
from normcheck.norms.belonging.activation_moments import ACTIVATIONS, after_activation
from normcheck.norms.belonging.agreement import Agreement, cannot_judge
from normcheck.norms.belonging.fit_places import AGREES, LARGEST_FACTOR
from normcheck.norms.belonging.links import Link, role_of, usable, weights_kind
from normcheck.norms.belonging.prediction import Fit, Prediction, off_one
from normcheck.norms.belonging.reaching import Hypothesis, Reaching
from normcheck.norms.belonging.steps import ModuleStep, places_served, usual_order
from normcheck.norms.kinds import Family
from normcheck.norms.layer import Confidence, Floats, NormLayer, Recognition
from normcheck.norms.layer_numbers import median
from normcheck.norms.weight_layout import Layout, layouts_of
from normcheck.norms.weights_budget import within_budget
from normcheck.saved.checkpoint import SavedModel

FEWEST_BLOCKS = 2
"""Blocks of a model that add up anything."""
MOST_WITHIN = 0.5
"""Share of the links inside blocks that must agree before sums are looked at."""
FOLLOWS = 0.8
BEYOND_CHANCE = 4.0
"""Correlation of means from which a sum agrees, and how many standard deviations (by Fisher's z)
it must lie above none: unrelated statistics get there in one of 30,000."""
_SHORTCUT = lazy_pattern(
    r"downsample|shortcut|(^|[._])(skip|short)|identity|(^|[._])proj|match|res_?conv|conv_?res",
    re.IGNORECASE,
)
"""Parts of names of the branch that a block adds."""


_Moments = tuple[Floats, Floats]
"""Means and variances."""
_ARRANGED = ((False, True), (False, False), (True, False))
"""Whether an activation stands between the last norm of a block and the sum, and whether one stands
behind the sum: a ResNet, a linear bottleneck as in MobileNetV2, and an activated branch."""
_PADDED = ("", "around", "behind")
"""Where an input of fewer channels gets its zeros; with neither, such a block adds nothing."""


@lazy_dataclass(eq=False)
class _Pair:
    """Weights and the norm right behind them."""

    weights: ModuleStep
    norm: NormLayer


@lazy_dataclass(eq=False)
class _Unit:
    """A block, or weights with their norm that stand alone."""

    pairs: tuple[_Pair, ...]
    """Of the main path, in order."""
    shortcut: _Pair | None
    is_block: bool


@lazy_dataclass(eq=False)
class _Stream:
    """What flows from block to block, in a column for each reading of the sums.

    Of each of ``_PADDED`` those of ``_ARRANGED``; before the first block that pads, they are the
    same for each and are there once.
    """

    means: Floats
    """Of shape (channels, readings)."""
    variances: Floats
    """Likewise."""
    last: NormLayer
    """The norm that was added last."""
    summed: bool
    """Whether anything was added."""


def with_sums(
    agreement: Agreement,
    model: SavedModel,
    layers: tuple[NormLayer, ...],
    steps: Sequence[ModuleStep],
    budget: int | None = None,
) -> Agreement:
    """An agreement with the norms behind residual sums that agree with what the sums predict.

    Args:
        agreement: Of the model, by its links that cross no sum. What it says of them stays.
        model: Of a file that is open; without a graph.
        layers: Its norms.
        steps: What ``steps_of`` makes of both.
        budget: Bytes of weights that are read; None for the usual number.
    """
    agreeing = {fit.link.target.path for fit in agreement.agreeing}
    open_ones = {
        layer.path for layer in layers if layer.has_statistics and layer.path not in agreeing
    } - places_served(model, layers).keys()
    if len(open_ones) < FEWEST_BLOCKS or agreement.activation not in ACTIVATIONS:
        return agreement
    run = list(steps) if model.ordered else usual_order(list(steps))[0]
    units = list(_units(run))
    blocks = [unit for unit in units if unit.is_block]
    if len(blocks) < FEWEST_BLOCKS or not _fit_within(blocks, agreeing):
        return agreement
    found = list(_links(units, open_ones, agreement, layouts_of(model)))
    chosen = within_budget([link for link, _ in found], budget)
    read = [one for i, one in enumerate(found) if i in chosen]
    fits = tuple(fit for fit in _fits(read) if _agrees(fit))
    return replace(agreement, by_sums=fits) if fits else agreement


def _fit_within(blocks: Sequence[_Unit], agreeing: Collection[str]) -> bool:
    """Whether the norms inside the blocks, which no sum reaches, agree with their weights."""
    within = [pair.norm.path for block in blocks for pair in block.pairs[1:]]
    return sum(path in agreeing for path in within) > MOST_WITHIN * len(within)


def _fits(links: Sequence[tuple[Link, Reaching]]) -> list[Fit]:
    """Fits under the reading that suits most links."""
    with np.errstate(over="ignore", invalid="ignore"):
        each = [
            Prediction(link, [Hypothesis("")] * inputs.means.shape[1], inputs)
            for link, inputs in links
        ]
        each = [prediction for prediction in each if prediction.finite]
        if not each:
            return []
        readings = max(len(prediction.hypotheses) for prediction in each)
        scores = [np.resize(prediction.scores, readings) for prediction in each]
        best = int(np.argmax([median(column) for column in np.transpose(scores).tolist()]))
        return [prediction.fit(best % len(prediction.hypotheses)) for prediction in each]


def _agrees(fit: Fit) -> bool:
    """Whether prediction and statistics agree beyond what chance does.

    Means that have a part in common, as those behind a ReLU have, are explained by that part
    alone; so that they follow each other has to show beside it.
    """
    count = fit.stored_mean.size
    if fit.explained < AGREES or off_one(fit.slope) > LARGEST_FACTOR:
        return False
    if fit.correlation < FOLLOWS or count <= 3:
        return False
    return atanh(min(fit.correlation, 1 - 1e-9)) * sqrt(count - 3) >= BEYOND_CHANCE


def _units(steps: Sequence[ModuleStep]) -> Iterator[_Unit]:
    """Blocks, and what stands between them, in order."""
    pairs = [
        _Pair(here, behind.norm)
        for here, behind in pairwise(steps)
        if here.is_weights and behind.norm is not None
    ]
    counts: dict[str, int] = {}
    for pair in pairs:
        for prefix in _numbered(pair.weights.path):
            counts[prefix] = counts.get(prefix, 0) + 1
    places = [
        next((p for p in _numbered(pair.weights.path) if counts[p] >= 2), "") for pair in pairs
    ]
    for place, members in groupby(range(len(pairs)), places.__getitem__):
        some = [pairs[i] for i in members]
        if place:
            yield _block(some)
        else:
            yield from (_Unit((pair,), None, is_block=False) for pair in some)


def _numbered(path: str) -> Iterator[str]:
    """The modules around one that a number tells from others, the innermost first."""
    parent = path.rpartition(".")[0]
    while parent:
        if parent[-1].isdecimal():
            yield parent
        parent = parent.rpartition(".")[0]


def _block(pairs: Sequence[_Pair]) -> _Unit:
    """A block with its shortcut told from its main path, by names or else by its shape."""
    side = [pair for pair in pairs if _SHORTCUT.search(_inside(pair, pairs))]
    if len(side) == len(pairs):
        side = []
    if not side and len(pairs) > 2:
        *main, last = pairs
        if (
            _takes(last) == _takes(main[0])
            and _takes(last) != _makes(main[-1])
            and _makes(last) == _makes(main[-1])
        ):
            side = [last]
    rest = tuple(pair for pair in pairs if pair not in side)
    return _Unit(rest, side[-1] if len(side) == 1 else None, is_block=len(side) < 2)


def _inside(pair: _Pair, pairs: Sequence[_Pair]) -> str:
    """The name of weights within their block."""
    paths = [one.weights.path.split(".") for one in pairs]
    shared = next(
        (i for i, words in enumerate(zip(*paths, strict=False)) if len(set(words)) > 1), 0
    )
    return ".".join(pair.weights.path.split(".")[shared:])


def _takes(pair: _Pair) -> int:
    return pair.weights.weight.shape[1]


def _makes(pair: _Pair) -> int:
    return pair.norm.features or 0


def _grows(unit: _Unit, stream: _Stream) -> bool:
    """Whether a block without weights in its shortcut has a multiple of its inputs as outputs."""
    return len(stream.means) * 2 == _makes(unit.pairs[-1]) or (
        len(stream.means) * 4 == _makes(unit.pairs[-1])
    )


def _links(
    units: Sequence[_Unit],
    wanted: Collection[str],
    agreement: Agreement,
    layouts: Mapping[str, Layout],
) -> Iterator[tuple[Link, Reaching]]:
    """Links behind sums, and what reaches their weights under each reading."""
    name = agreement.activation
    pools = {fit.link.source.path: fit.pool for fit in agreement.fits}
    stream: _Stream | None = None
    for unit in units:
        entries = [unit.pairs[0], *([unit.shortcut] if unit.shortcut else [])]
        if stream is not None and stream.summed:
            for pair in entries:
                link = _link(stream, pair, layouts) if pair.norm.path in wanted else None
                if link is not None:
                    yield link, Reaching(stream.means, stream.variances)
        stream = _behind(unit, stream, name, pools)


def _link(stream: _Stream, pair: _Pair, layouts: Mapping[str, Layout]) -> Link | None:
    target, step = pair.norm, pair.weights
    layout = layouts.get(step.weight_name)
    if not usable(stream.last, target) or (layout is not None and layout.inputs_first):
        return None
    kind = weights_kind(step.weight, len(stream.means), target.features or 0, layout)
    bias = step.leaf("bias")
    if kind is None or (bias is not None and bias.numel != target.features):
        return None
    path = step.path
    link = Link(
        stream.last,
        path,
        step.weight,
        bias,
        target,
        kind,
        role_of(stream.last.path, path, target.path) + " sum",
        Recognition(Confidence.LOW, "through a residual sum, by names and shapes"),
    )
    return None if cannot_judge(link) else link


def _behind(
    unit: _Unit, stream: _Stream | None, name: str, pools: Mapping[str, float]
) -> _Stream | None:
    """What flows behind a unit; None where nothing tells it."""
    last = unit.pairs[-1].norm
    own = _affine(last)
    if own is None:
        return None
    readings = np.zeros((1, len(_ARRANGED)))
    if not unit.is_block:
        mean, variance = after_activation(
            np.sqrt(own[1][:, 0]), own[0][:, 0], ACTIVATIONS[name], (pools.get(last.path, 1.0),)
        )
        return _Stream(mean + readings, variance + readings, last, summed=False)
    added: list[_Moments | None] = [None]
    if unit.shortcut is not None:
        shortcut = _affine(unit.shortcut.norm)
        if shortcut is None or len(shortcut[0]) != len(own[0]):
            return None
        added = [(shortcut[0] + readings, shortcut[1] + readings)]
    elif stream is not None and _reached(unit, stream):
        added = _widened(unit, stream)
    activated = _activated(own, name)
    sums = [_sums(own, activated, one) for one in added]
    mean, variance = (np.concatenate(each, axis=1) for each in zip(*sums, strict=True))
    behind = np.resize([behind for _, behind in _ARRANGED], mean.shape[1])
    rectified = _activated((mean[:, behind], variance[:, behind]), name)
    mean[:, behind], variance[:, behind] = rectified
    return _Stream(mean, variance, last, summed=any(one is not None for one in added))


def _sums(own: _Moments, activated: _Moments, added: _Moments | None) -> _Moments:
    """What a block makes of its last norm, under each reading, and what is added to it."""
    repeats = 1 if added is None else added[0].shape[1] // len(_ARRANGED)
    columns = [activated if before else own for before, _ in _ARRANGED] * repeats
    mean, variance = (np.concatenate(each, axis=1) for each in zip(*columns, strict=True))
    return (mean, variance) if added is None else (mean + added[0], variance + added[1])


def _reached(unit: _Unit, stream: _Stream) -> bool:
    """Whether a block takes what flows: its first weights have as many inputs."""
    first = unit.pairs[0]
    return weights_kind(first.weights.weight, len(stream.means), _makes(first), None) is not None


def _widened(unit: _Unit, stream: _Stream) -> list[_Moments | None]:
    """What a block adds of its input under each padding; once where none is needed."""
    flowing = stream.means, stream.variances
    missing = _makes(unit.pairs[-1]) - len(stream.means)
    if missing == 0:
        return [flowing]
    if not _grows(unit, stream):
        return [None]
    once = slice(None, len(_ARRANGED))
    parts: list[_Moments | None] = []
    for place, padded in enumerate(_PADDED):
        if not padded:
            parts.append(None)
            continue
        # A second block that pads does it as the first.
        some = slice(place * len(_ARRANGED), (place + 1) * len(_ARRANGED))
        some = some if stream.means.shape[1] > len(_ARRANGED) else once
        ahead = missing // 2 if padded == "around" else 0
        mean, variance = (
            np.pad(each[:, some], ((ahead, missing - ahead), (0, 0))) for each in flowing
        )
        parts.append((mean, variance))
    return parts


def _activated(moments: _Moments, name: str) -> _Moments:
    """Moments behind an activation, of the same shape."""
    mean, variance = after_activation(
        np.sqrt(moments[1]).reshape(-1), moments[0].reshape(-1), ACTIVATIONS[name]
    )
    return mean.reshape(moments[0].shape), variance.reshape(moments[0].shape)


def _affine(norm: NormLayer) -> _Moments | None:
    """β and γ² of a batch norm, each of shape (channels, 1); None where they are not usable."""
    count = norm.features or 0
    stored = [part for part in (norm.weight, norm.bias) if part is not None]
    if norm.kind.family not in (Family.BATCH, Family.FROZEN_BATCH) or not count:
        return None
    if not all(part.finite and part.size == count for part in stored):
        return None
    gamma = norm.weight.numbers if norm.weight is not None else np.ones(count)
    beta = norm.bias.numbers if norm.bias is not None else np.zeros(count)
    return beta[:, None], np.square(gamma)[:, None]
