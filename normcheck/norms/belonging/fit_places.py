"""The activation that stands at each place of a model's blocks, and what fits under it.

Most models have one activation throughout, which a few links tell. A place whose links fit another
clearly better has that one, or a max pooling before its weights; a place whose factor differs from
that of the rest, the activation of the same likelihood that explains it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from math import log

from normcheck.norms.belonging.fit import Fit, Predicted, fits_of, off_one
from normcheck.norms.belonging.likeliest_activation import (
    AS_NEAR,
    FEWEST_TELLING,
    HYPOTHESES,
    PLACES,
    is_certain,
    likeliest,
)
from normcheck.norms.belonging.max_pooled import (
    behind_max_poolings,
    by_shape,
    has_room_for_pooling,
    of_graph,
)
from normcheck.norms.belonging.prediction import Known, Prediction, predictions
from normcheck.norms.belonging.reaching import Hypothesis
from normcheck.norms.belonging.small_maps import on_small_maps
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.link import Link, WeightStructure, place_in_block
from normcheck.norms.layer import Confidence
from normcheck.norms.layer_numbers import median

AGREES = 0.8
"""Explained fraction from which a layer's statistics are said to agree with the weights. In
healthy models most links reach 0.9 to 1; unrelated statistics reach 0.2 by chance."""
MISSES = 0.5
"""Median alignment below which other links are looked for."""
LARGEST_FACTOR = 0.3
"""Logarithm of a factor between means and weights up to which they agree."""
MILD = 0.12
"""Logarithm of a factor from which other activations are asked for a milder one."""
FEWEST_ONE_WAY = 2
"""Links before and behind a change of the activation."""
CONVINCING = 0.9
"""Alignment at which no other hypothesis is looked for."""
CLEARLY_BETTER = 0.03
"""Gain in the alignment for which one place of a model gets an activation of its own, or a max
pooling."""
FEWEST_ALONE = 16
BEYOND_CHANCE = 0.97
"""Channels of a single link, and alignment, from which it has an activation of its own."""
TURNED = 0.8
"""The same from which square weights are read as a transposed convolution's. Two orientations have
nothing in common, while activations resemble each other: so much of 16 means is no chance."""
MISSING_LESS = 0.2
"""Share of what the usual reading misses that a link's own one may miss."""
TRIED_ALONE = 12
"""Links of one model of which that is tried."""
SAMPLED = 8
"""Links from which the activation of a model is told."""
TELLING = 0.25
"""Mean of (stored mean / σ)² from which a link tells activations apart."""
FAINT = 0.01
"""The same from which means are more than rounding."""


def usual_activation(links: list[Link], known: Known) -> str:
    """The activation that most models have throughout, told from a few links.

    A single small layer would pick whichever of thirteen happens to fit its channels best.
    """
    free = [
        link for link in links if link.slopes is None and link.inflow is None and not link.rectified
    ]
    order = list(Confidence)
    free.sort(key=lambda link: order.index(link.recognition.confidence))
    for prediction in predictions(free[:SAMPLED], HYPOTHESES):
        known[id(prediction.link)] = prediction
    each = [prediction for prediction in known.values() if prediction.finite]
    if not each:
        return next(iter(ACTIVATIONS))
    telling = [p for p in each if is_certain(p.link) and p.energy > TELLING]
    if len(telling) < FEWEST_TELLING:
        telling = [p for p in each if p.energy > FAINT] or each
    return HYPOTHESES[likeliest(telling)].activation


def fit_all(links: list[Link], usual: str, known: Known) -> list[Fit]:
    """Fits of all links, each place with the activation that it seems to have."""
    fits = _fit_places(links, usual, known)
    if _factor_off(fits) > MILD:
        other = usual_activation(_spread(links), known)
        if other != usual:
            fits = _fit_places(links, other, known)
    return _milder(fits, known)


def _spread(links: list[Link]) -> list[Link]:
    """Links of all depths: early ones alone may differ from the rest."""
    step = max(1, len(links) // SAMPLED)
    return sorted(links, key=lambda link: not is_certain(link))[::step]


def _fit_places(links: Sequence[Link], usual: str, known: Known) -> list[Fit]:
    """Fits of all links, those at one place of a model's blocks together."""
    roles: dict[str, list[Link]] = defaultdict(list)
    for link in links:
        roles[link.role].append(link)
    first = _usual_fits(roles.values(), usual, known)
    return [fit for members in roles.values() for fit in _fit_place(members, first, known)]


def _fit_place(links: list[Link], first: dict[int, Fit | None], known: Known) -> list[Fit]:
    """Fits of the links at one place of a model's blocks, which share their activation."""
    if links[0].inflow is not None:
        each = [p for link in links if (p := Prediction(link, ())).finite]
        return [of_graph(prediction) for prediction in each]
    fits = [fit for link in links if (fit := first[id(link)]) is not None]
    if not fits or links[0].slopes is not None:
        return fits
    return [fit for part in _parted(fits) for fit in _fit_part(part, known)]


def _parted(fits: list[Fit]) -> list[list[Fit]]:
    """The fits, apart where parts of a block that have words of their own fit nowhere."""
    by_word: dict[str, list[Fit]] = defaultdict(list)
    for fit in fits:
        by_word[place_in_block(fit.link.weights_path)].append(fit)
    poor = [
        word
        for word, members in by_word.items()
        if len(members) >= FEWEST_ONE_WAY and _median(members) < MISSES
    ]
    if len(poor) in (0, len(by_word)):
        return [fits]
    return [[f for word, members in by_word.items() if (word in poor) == bad for f in members]
            for bad in (True, False)]  # fmt: skip


def _milder(fits: list[Fit], known: Known) -> list[Fit]:
    """The fits, with another activation at places whose factor differs from that of the model.

    A factor that all places share is a fault; one that a place has alone, and that another
    activation of the same likelihood has not, is that activation.
    """
    logs = _logs(fits)
    if not logs or max(logs) - min(logs) <= LARGEST_FACTOR:
        return fits
    roles: dict[str, list[Fit]] = defaultdict(list)
    for fit in fits:
        roles[fit.link.role].append(fit)
    parts = [part for members in roles.values() for part in _before_and_behind(members)]
    shared = [median(one) for one in map(_logs, parts) if len(one) >= FEWEST_ONE_WAY]
    whole = min(shared, key=abs, default=median(logs))
    return [fit for part in parts for fit in _milder_part(part, whole, known)]


def _milder_part(fits: list[Fit], whole: float, known: Known) -> list[Fit]:
    telling, off = _logs(fits), _factor_off(fits)
    if not telling or off <= MILD or abs(median(telling) - whole) <= LARGEST_FACTOR:
        return fits
    if not all(_is_free(fit.link) for fit in fits) or any(fit.pool > 1 for fit in fits):
        return fits
    each = [known.get(id(f.link)) or Prediction(f.link, HYPOTHESES) for f in fits]
    best = likeliest(each)
    others = [prediction.fit(best) for prediction in each]
    return others if _factor_off(others) < off - AS_NEAR else fits


def _logs(fits: Sequence[Fit]) -> list[float]:
    """Logarithms of the factors of those whose means tell one."""
    return [log(fit.slope) for fit in fits if fit.slope > 0 and fit.energy > FAINT]


def _before_and_behind(fits: list[Fit]) -> list[list[Fit]]:
    """The fits at one place, apart where their factor changes once in the order of the blocks.

    There the activation changes, from ReLU to hardswish as in MobileNetV3.
    """
    logs = [log(fit.slope) for fit in fits if fit.slope > 0]
    if len(logs) < len(fits) or max(logs) - min(logs) <= LARGEST_FACTOR:
        return [fits]
    places = range(FEWEST_ONE_WAY, len(logs) - FEWEST_ONE_WAY + 1)
    place = min(places, key=lambda p: _scatter(logs[:p]) + _scatter(logs[p:]), default=0)
    if not place or abs(median(logs[:place]) - median(logs[place:])) <= LARGEST_FACTOR:
        return [fits]
    return [fits[:place], fits[place:]]


def _scatter(values: Sequence[float]) -> float:
    """How far they are from their median, all together."""
    middle = median(values)
    return sum(abs(value - middle) for value in values)


def _fit_part(fits: list[Fit], known: Known) -> list[Fit]:
    """Fits of links that share their activation, perhaps another one than was thought."""
    links = [fit.link for fit in fits]
    if all(link.max_pooled > 1 for link in links):
        return behind_max_poolings(fits, known)
    if _median(fits) >= CONVINCING:
        return fits
    if len(links[0].among) != 1:
        each = [known.get(id(link)) or Prediction(link, HYPOTHESES) for link in links]
        each = [prediction for prediction in each if prediction.finite]
        best = likeliest(each)
        others = [prediction.fit(best) for prediction in each]
        if _median(others) >= _median(fits) + CLEARLY_BETTER:
            fits = others
    if _median(fits) >= CONVINCING or not all(has_room_for_pooling(link) for link in links):
        return fits
    fits = on_small_maps(fits)
    pooled = by_shape(links, fits[0].activation)
    return pooled if _median(pooled) >= _median(fits) + CLEARLY_BETTER else fits


def _factor_off(fits: Sequence[Fit]) -> float:
    """How far the factor is off 1, by the median of those that means are large enough to tell."""
    telling = [off_one(fit.slope) for fit in fits if fit.energy > FAINT]
    return median(telling) if telling else 0.0


def exceptions(fits: list[Fit], known: Known) -> dict[int, Fit]:
    """A few links that only a reading of their own explains, with it, by their identity.

    Numbers in names count blocks, or layers of one block: ``norm1``, ``fc1``, ``norm2``, ``fc2``
    of a transformer have an activation in one place of the two. And a model of convolutions may
    have one transposed one among them whose weights are square, as autoencoders do.
    """
    poor = [
        fit
        for fit in fits
        if (fit.alignment < CONVINCING or fit.explained < AGREES)
        and fit.stored_mean.size >= FEWEST_ALONE
        and (_is_free(fit.link) or fit.link.either_way)
    ]
    found: dict[int, Fit] = {}
    for fit in poor[:TRIED_ALONE]:
        least = 1 - (1 - fit.alignment) * MISSING_LESS
        for link in _own_readings(fit.link):
            each = known.get(id(link)) or Prediction(link, HYPOTHESES)
            if not each.finite:
                continue
            # A PReLU's slopes are known: there is nothing to choose.
            other = each.fit(0 if link.slopes is not None else likeliest([each]))
            turned = link.kind is not fit.link.kind
            enough = max(least, TURNED if turned else BEYOND_CHANCE)
            # Nothing is pooled between vectors, so that a factor of means is one of the statistics.
            plain = link.kind is WeightStructure.LINEAR and is_certain(link) and other.slope > 0
            if other.alignment >= enough and (plain or off_one(other.slope) <= LARGEST_FACTOR):
                found[id(fit.link)] = other
                break
    return found


def _own_readings(link: Link) -> Iterator[Link]:
    """What else a single link can be: behind another activation, or a transposed convolution."""
    if _is_free(link):
        yield link
    if link.either_way:
        yield replace(link, kind=WeightStructure.TRANSPOSED, either_way=False)


def _is_free(link: Link) -> bool:
    """Whether nothing but the numbers tells its activation."""
    return link.slopes is None and link.inflow is None and not link.rectified and not link.among


def _usual_fits(places: Iterable[list[Link]], usual: str, known: Known) -> dict[int, Fit | None]:
    """Fits under the usual activation, by the link's identity.

    None where the weights predict no numbers. Of graphs there are none.
    """
    found: dict[int, Fit | None] = {}
    at_once: list[Predicted] = []
    for members in places:
        among = members[0].among
        first = usual if not among or usual in among else among[0]
        for link in members if members[0].inflow is None else ():
            found[id(link)] = None
            if (prediction := known.get(id(link))) is None:
                # One after the other: what was worked out of its weights is not kept.
                prediction = Prediction(link, [Hypothesis(first)])
                found[id(link)] = prediction.fit(0) if prediction.finite else None
            elif prediction.finite:
                at_once.append(prediction.under(PLACES[first]))
    return found | {id(fit.link): fit for fit in fits_of(at_once)}


def _median(fits: list[Fit]) -> float:
    return median([fit.alignment for fit in fits]) if fits else -1.0
