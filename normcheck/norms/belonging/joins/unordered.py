"""The norm before each norm of a file that keeps no order, told by its numbers.

Safetensors sort their tensors, and where names are words (``stem``, ``block``, ``head``) nothing is
left of the order in which modules run. But the weights before a norm are in its block, they take a
number of channels, and of all norms with as many the one that feeds them explains the norm's means:
hundreds of channels agree by no chance with one of a few dozen. Such a link vouches, and is held
against nobody.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from normcheck.norms.belonging.agreement import Agreement
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.fit_links import agreement_of, cannot_judge
from normcheck.norms.belonging.joins.joined import FEWEST_CHANNELS, MOST_NORMS, is_beyond_chance
from normcheck.norms.belonging.prediction import Prediction
from normcheck.norms.belonging.reaching import Hypothesis, Reaching
from normcheck.norms.belonging.structure.link import Link, role_of, usable, weights_kind
from normcheck.norms.belonging.structure.links import find_links
from normcheck.norms.belonging.structure.module_step import NUMBER, ModuleStep
from normcheck.norms.belonging.structure.run_order import as_they_run
from normcheck.norms.belonging.structure.steps import places_served
from normcheck.norms.belonging.sums.stream import moments_behind
from normcheck.norms.layer import Confidence, NormLayer, Recognition
from normcheck.norms.weight_layout import layouts_of
from normcheck.norms.weights_budget import within_budget
from normcheck.saved.checkpoint import SavedModel

MOST_SOURCES = 64
"""Norms that may feed one, so that time is bounded."""
SAMPLED = 8
"""Of the norms that are looked at: where none of so many is explained, the others are not asked."""
MOST_WEIGHTS = 3
"""Weights of one block that may stand before a norm."""
ACTIVATIONS_TRIED = ("ReLU", "no activation", "SiLU", "tanh")
"""One of each shape: the link that is found is then read under all of them."""
FOLLOWS = 0.95
"""Alignment from which a norm is what feeds another; parts of a sum reach 0.8."""


def with_sources_found(
    agreement: Agreement | None,
    model: SavedModel,
    layers: tuple[NormLayer, ...],
    steps: list[ModuleStep],
    budget: int | None = None,
) -> Agreement | None:
    """An agreement that knows, of norms that names lead nowhere, what feeds them.

    Args:
        agreement: Of the model in its usual order; None where that has no link.
        model: Of a file that is open.
        layers: Its norms.
        steps: What ``steps_of`` makes of both.
        budget: Bytes of weights that are read; None for the usual number.

    Returns:
        The same where the file keeps an order, or nothing is found.
    """
    if model.ordered:
        return agreement
    sure = {fit.link.target.path for fit in agreement.agreeing} if agreement else set()
    stored = tuple(layer.path for layer in layers if layer.has_statistics)
    served = places_served(model, layers)
    wanted = [
        layer
        for layer in layers
        if layer.has_statistics
        and (layer.features or 0) >= FEWEST_CHANNELS
        and layer.path not in sure
        and layer.path not in served
    ]
    found = _found(wanted[:SAMPLED], model, layers, steps, budget)
    if not found:
        return agreement
    found |= _found(wanted[SAMPLED:MOST_NORMS], model, layers, steps, budget)
    links = [
        found.pop(link.target.path, link)
        for link in (find_links(model, layers, steps) if agreement else ())
    ]
    other = agreement_of((*links, *found.values()), stored, budget)
    more = len(other.agreeing) > (len(agreement.agreeing) if agreement else 0)
    return other if more else agreement


def _found(
    wanted: Sequence[NormLayer],
    model: SavedModel,
    layers: tuple[NormLayer, ...],
    steps: list[ModuleStep],
    budget: int | None,
) -> dict[str, Link]:
    """The links that explain norms, by the norm's path."""
    by_channels: dict[int, list[NormLayer]] = defaultdict(list)
    for layer in layers:
        if layer.features and layer.has_statistics:
            by_channels[layer.features].append(layer)
    asked = list(_asked(wanted, by_channels, model, steps))
    feeding = {norm.path: norm for _, norms in asked for norm in norms}
    moments = {name: moments_behind(list(feeding.values()), name) for name in ACTIVATIONS_TRIED}
    chosen = within_budget([link for link, _ in asked], budget)
    best: dict[str, tuple[float, Link]] = {}
    with np.errstate(over="ignore", invalid="ignore"):
        for index in sorted(chosen):
            link, norms = asked[index]
            reached = [
                (norm, name, moments[name][norm.path])
                for norm in norms
                for name in ACTIVATIONS_TRIED
                if norm.path in moments[name]
            ]
            if not reached:
                continue
            means, variances = (np.stack([each[i] for *_, each in reached], axis=1) for i in (0, 1))
            tried = Prediction(
                link, [Hypothesis(name) for _, name, _ in reached], Reaching(means, variances)
            )
            if not tried.finite:
                continue
            place = int(np.argmax(tried.scores))
            fit, source = tried.fit(place), reached[place][0]
            known = best.get(link.target.path)
            if _explains(fit, len(reached)) and (known is None or known[0] < fit.alignment):
                best[link.target.path] = fit.alignment, _link(source, link)
    return {path: link for path, (_, link) in best.items()}


def _explains(fit: Fit, tries: int) -> bool:
    """Whether a norm explains the means of another, beyond the chance of so many tries."""
    return fit.alignment >= FOLLOWS and fit.slope > 0 and is_beyond_chance(fit, tries)


def _asked(
    wanted: Sequence[NormLayer],
    by_channels: dict[int, list[NormLayer]],
    model: SavedModel,
    steps: list[ModuleStep],
) -> Iterator[tuple[Link, list[NormLayer]]]:
    """Weights that may stand before each norm, as a link from any source, and all its sources."""
    layouts = layouts_of(model)
    for target in wanted:
        for step in _weights_before(target, steps):
            layout, bias = layouts.get(step.weight_name), step.leaf("bias")
            if bias is not None and bias.numel != target.features:
                continue
            takes = (step.shape or (0, 0))[1]
            # Of a depthwise convolution, which takes one channel for each that it makes.
            channels = takes if takes > 1 else target.features or 0
            kind = weights_kind(step.weight, channels, target.features or 0, layout)
            sources = [
                norm
                for norm in by_channels.get(channels, ())
                if norm is not target and usable(norm, target)
            ][:MOST_SOURCES]
            if kind is None or not sources:
                continue
            # The source is only to be found: this one stands for all of them.
            link = Link(sources[0], step.path, step.weight, bias, target, kind, "", _BY_NUMBERS)
            if not cannot_judge(link):
                yield link, sources


_BY_NUMBERS = Recognition(
    Confidence.LOW, "of all norms of as many channels the one that explains its means"
)


def _link(source: NormLayer, asked: Link) -> Link:
    """The link from the source that was found."""
    return replace(
        asked,
        source=source,
        role=role_of(source.path, asked.weights_path, asked.target.path),
    )


def _weights_before(norm: NormLayer, steps: Sequence[ModuleStep]) -> list[ModuleStep]:
    """Weights of the norm's own block that make its channels; else those before it as usual."""
    block, number = _block_and_number(norm.path)
    beside = [
        step
        for step in steps
        if step.is_weights
        and _block_and_number(step.path)[0] == block
        and (step.shape or (0,))[0] == norm.features
    ]
    if len(beside) > MOST_WEIGHTS:
        beside = [step for step in beside if _block_and_number(step.path)[1] == number]
    if beside:
        return beside[:MOST_WEIGHTS]
    run = as_they_run(steps, ordered=False)
    place = next((i for i, step in enumerate(run) if step.norm is norm), 0)
    return [run[place - 1]] if place and run[place - 1].is_weights else []


def _block_and_number(path: str) -> tuple[str, str]:
    """The names of what a module is in, and the last number of its own name, if it has one."""
    block, _, last = path.rpartition(".")
    return block, next(iter(NUMBER.findall(last)[-1:]), "")
