"""Norms vouched for by what reaches them from elsewhere: joins, skips, other branches.

Of the sources that the number of channels allows the one is taken whose shape fits best, whatever
its factor. Such a link is a guess among many: it vouches where it fits beyond the chance of so many
tries and at the level of the model, and is held against nobody.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from math import log, sqrt

import numpy as np

from normcheck.norms.belonging.agreement import SAME_LEVEL, Agreement
from normcheck.norms.belonging.fit import Fit, beyond_none
from normcheck.norms.belonging.fit_links import cannot_judge
from normcheck.norms.belonging.fit_places import AGREES
from normcheck.norms.belonging.joins.sources import Nearby, Origin
from normcheck.norms.belonging.prediction import Prediction
from normcheck.norms.belonging.reaching import Hypothesis, Reaching
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.link import Link, role_of, usable, weights_kind
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.norms.belonging.structure.run_order import as_they_run
from normcheck.norms.belonging.structure.steps import places_served
from normcheck.norms.layer import Confidence, NormLayer, Recognition
from normcheck.norms.layer_numbers import median
from normcheck.norms.weight_layout import Layout, layouts_of
from normcheck.norms.weights_budget import BEYOND, within_budget
from normcheck.saved.checkpoint import SavedModel

FEWEST_AGREEING = 3
"""Norms that agree by links of their own: they tell the activation and the level."""
MOST_NORMS = 64
"""Norms of one model that are tried, so that its time is bounded."""
FEWEST_CHANNELS = 16
FOLLOWS = 0.9
"""Correlation of means from which a join agrees."""
BEYOND_CHANCE = 4.0
"""Standard errors that it must lie above none (``beyond_none``), of a single try."""


def with_joins(
    agreement: Agreement,
    model: SavedModel,
    layers: tuple[NormLayer, ...],
    steps: Sequence[ModuleStep],
    budget: int | None = None,
) -> Agreement:
    """An agreement with those norms besides that agree with what is joined before them.

    Args:
        agreement: Of the model, by links and by sums. What it says of them stays.
        model: Of a file that is open; without a graph.
        layers: Its norms.
        steps: What ``steps_of`` makes of both.
        budget: Bytes of weights that are read; None for the usual number.
    """
    sure = agreement.agreeing
    if len(sure) < FEWEST_AGREEING or agreement.activation not in ACTIVATIONS:
        return agreement
    vouched = {fit.link.target.path for fit in sure} | agreement.behind_sums
    wanted = {
        layer.path
        for layer in layers
        if layer.has_statistics and (layer.features or 0) >= FEWEST_CHANNELS
    } - vouched
    wanted -= {path for path, why in agreement.unjudged if why == BEYOND}
    if not wanted:
        return agreement
    run = as_they_run(steps, ordered=model.ordered)
    wanted -= places_served(model, layers).keys()
    added = bool(agreement.by_sums or agreement.behind_sums)
    nearby = Nearby(run, agreement.activation, added=added)
    each = _predictions(nearby, run, wanted, agreement.activation, layouts_of(model), budget)
    level = median([log(fit.slope) for fit in sure if fit.slope > 0])
    found = [fit for one in each if (fit := _best(one, level)) is not None]
    return replace(agreement, by_sums=(*agreement.by_sums, *found)) if found else agreement


def _predictions(
    nearby: Nearby,
    run: Sequence[ModuleStep],
    wanted: set[str],
    activation: str,
    layouts: Mapping[str, Layout],
    budget: int | None,
) -> list[Prediction]:
    """What every source predicts of the norms that are wanted."""
    places: list[tuple[ModuleStep, NormLayer, list[Origin]]] = []
    for place, (step, behind) in enumerate(pairwise(run)):
        target = behind.norm
        if target is None or target.path not in wanted or not step.is_weights:
            continue
        takes = (step.shape or (0, 0))[1]
        origins = nearby.origins(place, step.path, takes) if takes >= FEWEST_CHANNELS else []
        if origins:
            places.append((step, target, origins))
        if len(places) == MOST_NORMS:
            break
    nearby.learn(origin for _, _, origins in places for origin in origins)
    each_asked = [_sources(nearby, *place, layouts) for place in places]
    asked = [one for one in each_asked if one is not None]
    chosen = within_budget([link for link, _ in asked], budget)
    with np.errstate(over="ignore", invalid="ignore"):
        each = [
            Prediction(link, [Hypothesis(activation)] * inputs.means.shape[1], inputs)
            for index, (link, inputs) in enumerate(asked)
            if index in chosen
        ]
        return [prediction for prediction in each if prediction.finite]


def _sources(
    nearby: Nearby,
    step: ModuleStep,
    target: NormLayer,
    origins: Sequence[Origin],
    layouts: Mapping[str, Layout],
) -> tuple[Link, Reaching] | None:
    """The link to a norm, and what may reach its weights; None where nothing may."""
    layout, bias = layouts.get(step.weight_name), step.leaf("bias")
    takes = (step.shape or (0, 0))[1]
    if layout is not None and layout.inputs_first:
        return None
    kind = weights_kind(step.weight, takes, target.features or 0, None)
    if kind is None or (bias is not None and bias.numel != target.features):
        return None
    reached = [
        (origin.parts[0].norm, moments)
        for origin in origins
        if (moments := nearby.moments(origin)) is not None
    ]
    if not reached or not usable(reached[0][0], target):
        return None
    source = reached[0][0]
    link = Link(
        source,
        step.path,
        step.weight,
        bias,
        target,
        kind,
        f"{role_of(source.path, step.path, target.path)} join",
        Recognition(Confidence.LOW, "from norms of as many channels, by shape and place"),
    )
    if cannot_judge(link):
        return None
    means, variances = (np.stack([each[i] for _, each in reached], axis=1) for i in (0, 1))
    return link, Reaching(means, variances)


def _best(prediction: Prediction, level: float) -> Fit | None:
    """The fit of the source whose shape fits best; None where it does not agree."""
    scores = prediction.scores
    fit = prediction.fit(int(np.argmax(scores)))
    if fit.explained < AGREES or fit.slope <= 0 or abs(log(fit.slope) - level) > SAME_LEVEL:
        return None
    if fit.correlation < FOLLOWS:
        return None
    return fit if is_beyond_chance(fit, len(scores)) else None


def is_beyond_chance(fit: Fit, tries: int) -> bool:
    """Whether means correlate beyond what the best of so many unrelated sources would reach."""
    return beyond_none(fit) >= sqrt(BEYOND_CHANCE**2 + 2 * log(tries))
