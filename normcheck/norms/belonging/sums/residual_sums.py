"""Weights that a residual sum reaches, in files whose names and shapes alone tell the blocks.

The first weights of a residual block take what the block before added up: the output of its last
norm and that of its shortcut, a branch with a norm of its own or the block's input as it is. What a
file does not show (whether the activation stands behind the sum, before it or nowhere; how an input
of fewer channels is padded) is chosen for the whole model by what fits most of its links.

Such a link is a guess. It vouches for a norm where the agreement is beyond chance, and is held
against nobody. Where sums explain the norms behind them better than plain links do, which take the
norm before alone, only it vouches for them: a part of a sum is the smaller mean, and looks right
where the stored mean is too small.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import log

import numpy as np

from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.fit import Fit, beyond_none, off_one
from normcheck.norms.belonging.fit_links import cannot_judge
from normcheck.norms.belonging.fit_places import AGREES, LARGEST_FACTOR
from normcheck.norms.belonging.likeliest_activation import EXACT
from normcheck.norms.belonging.prediction import Prediction
from normcheck.norms.belonging.reaching import Hypothesis, Reaching
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.link import Link, role_of, usable, weights_kind
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.structure.run_order import as_they_run
from normcheck.norms.belonging.structure.steps import places_served
from normcheck.norms.belonging.sums.blocks import Pair, Unit, units_of
from normcheck.norms.belonging.sums.norms_first import WAYS, adds_up, blocks_of, links_of
from normcheck.norms.belonging.sums.stream import Stream, behind
from normcheck.norms.layer import Confidence, Floats, NormLayer, Recognition
from normcheck.norms.layer_numbers import median
from normcheck.norms.weight_layout import Layout, layouts_of
from normcheck.norms.weights_budget import within_budget
from normcheck.saved.checkpoint import SavedModel

FEWEST_BLOCKS = 2
"""Blocks of a model that add up anything, and norms that nothing else vouches for."""
MOST_WITHIN = 0.5
"""Share of the norms inside blocks, which no sum reaches, that must agree before sums are looked
at: where they do not, statistics are not those of the weights."""
FOLLOWS = 0.8
"""Correlation of means from which a sum agrees."""
BEYOND_CHANCE = 4.0
"""Standard errors that it must lie above none (``beyond_none``): unrelated means of 16 channels get
there in one of 30,000."""
CLEARLY_SUMS = 0.2
"""Mean logarithm of what plain links miss over what the sums do (1 minus the alignment, which no
factor touches), from which the sums are there. With four links or more it is 0.26 to 4.3 in the
published and trained networks that add, and at most 0.04 in those that add nothing."""
_MOST_CHANNELS = 1 << 18
"""Channels of one model that are followed, so that its time is bounded; of the deepest ResNets
they are some 80,000."""


def with_sums(
    agreement: Agreement,
    model: SavedModel,
    layers: tuple[NormLayer, ...],
    steps: Sequence[ModuleStep],
    budget: int | None = None,
) -> Agreement:
    """An agreement with those norms besides that agree with what residual sums predict.

    Args:
        agreement: Of the model, by links that cross no sum. What it says of them stays.
        model: Of a file that is open; without a graph.
        layers: Its norms.
        steps: What ``steps_of`` makes of both.
        budget: Bytes of weights that are read; None for the usual number.
    """
    if agreement.activation not in ACTIVATIONS:
        return agreement
    run = as_they_run(steps, ordered=model.ordered)
    if (found_first := _norms_first(agreement, model, layers, run, budget)) is not None:
        return found_first
    agreeing = {fit.link.target.path for fit in agreement.agreeing}
    wanted = {
        layer.path for layer in layers if layer.has_statistics and layer.path not in agreeing
    } - places_served(model, layers).keys()
    if len(wanted) < FEWEST_BLOCKS:
        return agreement
    units = tuple(units_of(run))
    blocks = [unit for unit in units if unit.is_block]
    if len(blocks) < FEWEST_BLOCKS or not _fit_within(blocks, agreeing):
        return agreement
    found = list(_links(units, layers, agreement, layouts_of(model)))
    readings = _readings(found, wanted, agreement.activation, budget)
    best = _best(readings)
    vouching = [fit for fit in _fits(readings, best) if agrees(fit)]
    if not vouching:
        return agreement
    explained = _readings(found, agreeing, agreement.activation, budget)
    if not explained or not _are_there(_fits([*readings, *explained], best), agreement):
        return replace(agreement, by_sums=tuple(vouching))
    behind_sums = frozenset(link.target.path for link, _ in found)
    vouching += [fit for fit in _fits(explained, best) if agrees(fit)]
    return replace(agreement, by_sums=tuple(vouching), behind_sums=behind_sums)


def _norms_first(
    agreement: Agreement,
    model: SavedModel,
    layers: tuple[NormLayer, ...],
    run: list[ModuleStep],
    budget: int | None,
) -> Agreement | None:
    """The same for blocks that begin with their norm; None where a model has no such blocks."""
    mixed = places_served(model, layers)
    blocks = [block for block in blocks_of(run) if block.target.path not in mixed]
    agreeing = {fit.link.target.path for fit in agreement.agreeing}
    inner = [block.inner.path for block in blocks]
    if len(blocks) < FEWEST_BLOCKS or sum(p in agreeing for p in inner) <= MOST_WITHIN * len(inner):
        return None
    ways = WAYS if any(block.shortcut is not None for block in blocks) else WAYS[:1]
    layouts = layouts_of(model)
    each: list[list[tuple[Fit, Floats]]] = []
    with np.errstate(over="ignore", invalid="ignore"):
        for behind_norm in ways:
            links = list(links_of(blocks, agreement.activation, layouts, behind=behind_norm))
            chosen = within_budget([link for link, _ in links], budget)
            predicted = [
                (Prediction(link, [Hypothesis(agreement.activation)]), taken)
                for place, (link, taken) in enumerate(links)
                if place in chosen
            ]
            each.append([(one.fit(0), taken) for one, taken in predicted if one.finite])
    fits = min(each, key=lambda some: sum(log(_missed(fit)) for fit, _ in some))
    vouching = [fit for fit, taken in fits if agrees(fit) and adds_up(fit, taken)]
    if 2 * len(vouching) <= len(fits):
        return None
    there = {fit.link.target.path for fit, _ in fits}
    return replace(agreement, by_sums=tuple(vouching), behind_sums=frozenset(there))


def _fit_within(blocks: Sequence[Unit], agreeing: Collection[str]) -> bool:
    """Whether the norms inside the blocks agree with their weights."""
    within = [pair.norm.path for block in blocks for pair in block.main[1:]]
    return sum(path in agreeing for path in within) > MOST_WITHIN * len(within)


def _links(
    units: Sequence[Unit],
    layers: tuple[NormLayer, ...],
    agreement: Agreement,
    layouts: Mapping[str, Layout],
) -> Iterator[tuple[Link, Reaching]]:
    """Links to norms behind a sum, and what reaches their weights under each reading."""
    pools = {fit.link.source.path: fit.pool for fit in agreement.fits}
    stored = {layer.path for layer in layers if layer.has_statistics}
    stream: Stream | None = None
    followed = 0
    for unit in units:
        if stream is not None and stream.summed:
            for pair in (unit.main[0], unit.shortcut):
                if pair is None or pair.norm.path not in stored:
                    continue
                link = _link(stream, pair, layouts)
                if link is not None:
                    yield link, Reaching(stream.means, stream.variances)
        followed += unit.main[-1].makes
        if followed > _MOST_CHANNELS:
            return
        stream = behind(unit, stream, agreement.activation, pools)


def _link(stream: Stream, pair: Pair, layouts: Mapping[str, Layout]) -> Link | None:
    """The link from a sum through the weights of a pair to its norm; None where none is judged."""
    target, step = pair.norm, pair.weights
    layout = layouts.get(step.weight_name)
    if not usable(stream.last, target) or (layout is not None and layout.inputs_first):
        return None
    kind = weights_kind(step.weight, len(stream.means), pair.makes, layout)
    bias = step.leaf("bias")
    if kind is None or (bias is not None and bias.numel != pair.makes):
        return None
    link = Link(
        stream.last,
        step.path,
        step.weight,
        bias,
        target,
        kind,
        f"{role_of(stream.last.path, step.path, target.path)} sum",
        Recognition(Confidence.LOW, "behind a residual sum, by names and shapes"),
    )
    return None if cannot_judge(link) else link


def _readings(
    links: Sequence[tuple[Link, Reaching]],
    targets: Collection[str],
    activation: str,
    budget: int | None,
) -> list[Prediction]:
    """What the links to some norms predict, under each reading of the sums."""
    some = [one for one in links if one[0].target.path in targets]
    chosen = within_budget([link for link, _ in some], budget)
    # Weights of a model that diverged overflow on the way; their links are left out.
    with np.errstate(over="ignore", invalid="ignore"):
        each = [
            Prediction(link, [Hypothesis(activation)] * inputs.means.shape[1], inputs)
            for index, (link, inputs) in enumerate(some)
            if index in chosen
        ]
        return [prediction for prediction in each if prediction.finite]


def _best(each: Sequence[Prediction]) -> int:
    """The one reading that suits most of the links."""
    readings = max((len(prediction.hypotheses) for prediction in each), default=1)
    scores = [np.resize(prediction.scores, readings) for prediction in each]
    return int(np.argmax([median(column) for column in np.transpose(scores).tolist()] or [0.0]))


def _fits(each: Sequence[Prediction], reading: int) -> list[Fit]:
    return [prediction.fit(reading % len(prediction.hypotheses)) for prediction in each]


def _are_there(fits: Sequence[Fit], agreement: Agreement) -> bool:
    """Whether sums explain the norms behind them clearly better than the plain links there do."""
    plain = {fit.link.target.path: fit for fit in agreement.fits}
    pairs = [(plain[path], fit) for fit in fits if (path := fit.link.target.path) in plain]
    gains = [log(_missed(without) / _missed(fit)) for without, fit in pairs]
    return bool(gains) and sum(gains) >= CLEARLY_SUMS * len(gains)


def _missed(fit: Fit) -> float:
    return max(1.0 - fit.alignment, EXACT)


def agrees(fit: Fit) -> bool:
    """Whether prediction and statistics agree beyond what chance does.

    Means that have a part in common, as those behind a ReLU have, are explained by that part
    alone: that they follow each other has to show beside it.
    """
    if fit.explained < AGREES or off_one(fit.slope) > LARGEST_FACTOR or fit.correlation < FOLLOWS:
        return False
    return beyond_none(fit) >= BEYOND_CHANCE
