"""Do running statistics belong to the weights before them? What fits, and under what.

Prediction and stored statistics are compared link by link; see ``prediction.py`` for how a
link predicts.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from normcheck.norms.belonging.activation_moments import ACTIVATIONS, POOLS
from normcheck.norms.belonging.links import Link
from normcheck.norms.belonging.prediction import Fit, Hypothesis, Prediction, predictions
from normcheck.norms.belonging.weights_budget import BEYOND, within_budget
from normcheck.norms.layer import Confidence, NormLayer
from normcheck.norms.layer_numbers import median
from normcheck.saved.prefetch import fetch_ahead

FEWEST_CHANNELS = 8
"""Below this a good fit can be chance."""
AGREES = 0.8
"""Explained fraction from which a layer's statistics are said to agree with the weights. In
healthy models most links reach 0.9 to 1; unrelated statistics reach 0.2 by chance."""
CONVINCING = 0.9
"""Explained fraction at which no other hypothesis is looked for."""
CLEARLY_BETTER = 0.03
"""Gain in the explained fraction for which one place of a model gets an activation of its own,
or a max pooling."""
AS_GOOD = 0.003
"""Difference of explained fractions that does not tell activations apart."""
SAMPLED = 8
"""Links from which the activation of a model is told."""


@dataclass(frozen=True, slots=True, eq=False)
class Agreement:
    """The fits of a model, and what could not be judged."""

    fits: tuple[Fit, ...]
    activation: str
    """The activation that most links are consistent with."""
    unjudged: tuple[tuple[str, str], ...]
    """Norms with statistics that no link predicts, and why."""

    @property
    def likely(self) -> tuple[Fit, ...]:
        """The fits whose links probably exist: only these can speak against a model."""
        return tuple(f for f in self.fits if f.link.recognition.confidence is not Confidence.LOW)

    @property
    def agreeing(self) -> tuple[Fit, ...]:
        """The fits in which prediction and statistics agree, by whatever link."""
        return tuple(fit for fit in self.fits if fit.explained >= AGREES)


def agreement_of(
    links: tuple[Link, ...], norms: tuple[str, ...], budget: int | None = None
) -> Agreement:
    """Predict the target of every link and compare.

    Args:
        links: Of one model.
        norms: Paths of its norms with statistics, for the list of those not judged.
        budget: Bytes of weights that are read; None for the usual number.
    """
    reasons = dict.fromkeys(norms, "no norm feeds it directly")
    roles: dict[str, list[Link]] = defaultdict(list)
    usable = []
    for link in links:
        reason = _cannot_judge(link)
        if reason:
            reasons[link.target.path] = reason
        else:
            usable.append(link)
    chosen = within_budget(usable, budget)
    reasons |= {link.target.path: BEYOND for i, link in enumerate(usable) if i not in chosen}
    fetch_ahead(usable[i].weights for i in sorted(chosen))
    for index in sorted(chosen):
        roles[usable[index].role].append(usable[index])
    # Weights of a model that diverged overflow on the way; their links are left out below.
    with np.errstate(over="ignore", invalid="ignore"):
        known: _Known = {}
        usual = _usual_activation([link for members in roles.values() for link in members], known)
        fits = [fit for members in roles.values() for fit in _fit_place(members, usual, known)]
    order = {link.target.path: i for i, link in enumerate(links)}
    fits.sort(key=lambda fit: order[fit.link.target.path])
    judged = {fit.link.target.path for fit in fits}
    named = [fit.activation for fit in fits if fit.explained > 0.5]
    common = max(set(named), key=lambda name: (named.count(name), name)) if named else ""
    return Agreement(
        tuple(fits), common, tuple((p, r) for p, r in reasons.items() if p not in judged)
    )


def agreement_with(
    links: Callable[[], tuple[Link, ...]], layers: Sequence[NormLayer], budget: int | None
) -> Agreement | None:
    """How the running statistics fit the weights; None where there are none, or no link.

    Args:
        links: Finds the links of the model; not asked where no layer has statistics.
        layers: Of the model.
        budget: Bytes of weights that are read; None for the usual number.
    """
    stored = tuple(layer.path for layer in layers if layer.has_statistics)
    if not stored:
        return None
    found = links()
    return agreement_of(found, stored, budget) if found else None


def _cannot_judge(link: Link) -> str:
    target = link.target
    mean, variance = target.running_mean, target.running_var
    if mean is None or variance is None or mean.size < FEWEST_CHANNELS:
        return f"fewer than {FEWEST_CHANNELS} channels"
    if not (np.isfinite(mean.numbers).all() and np.isfinite(variance.numbers).all()):
        return "its statistics are not finite"
    if any(
        stored is not None and not np.isfinite(stored.numbers).all()
        for stored in (link.source.weight, link.source.bias)
    ):
        return "the scale or shift before it is not finite"
    if (mean.numbers >= 0).all() and (variance.numbers >= 0).all():
        # conv → activation → norm: means of rectified values, which a link does not predict.
        return "its means are those of rectified values: the norm stands behind the activation"
    return ""


_HYPOTHESES = tuple(Hypothesis(name) for name in ACTIVATIONS)
_Known = dict[int, Prediction]
"""Predictions under all activations by the link's identity: weights are read once for them."""


def _usual_activation(links: list[Link], known: _Known) -> str:
    """The activation that most models have throughout, told from a few links.

    A single small layer would pick whichever of thirteen happens to fit its channels best.
    """
    free = [link for link in links if link.slopes is None and link.inflow is None]
    order = list(Confidence)
    free.sort(key=lambda link: order.index(link.recognition.confidence))
    for prediction in predictions(free[:SAMPLED], _HYPOTHESES):
        known[id(prediction.link)] = prediction
    scores = [prediction.scores for prediction in known.values() if prediction.finite]
    if not scores:
        return next(iter(ACTIVATIONS))
    together = np.mean(scores, axis=0)
    # The first, and simplest, of those that are as good as the best.
    best = int(np.argmax(together >= together.max() - AS_GOOD))
    return _HYPOTHESES[best].activation


def _fit_place(links: list[Link], usual: str, known: _Known) -> list[Fit]:
    """Fits of the links at one place of a model's blocks, which share their activation."""
    if links[0].inflow is not None:
        each = [p for link in links if (p := Prediction(link, ())).finite]
        return [prediction.fit(int(np.argmax(prediction.scores))) for prediction in each]
    fits = [fit for link in links if (fit := _usual_fit(link, usual, known)) is not None]
    if not fits or _median(fits) >= CONVINCING or links[0].slopes is not None:
        return fits
    each = [known.get(id(link)) or Prediction(link, _HYPOTHESES) for link in links]
    each = [prediction for prediction in each if prediction.finite]
    middle = np.sort([prediction.scores for prediction in each], axis=0)[len(each) // 2]
    best = int(np.argmax(middle))
    others = [prediction.fit(best) for prediction in each]
    if _median(others) >= _median(fits) + CLEARLY_BETTER:
        fits = others
    if _median(fits) >= CONVINCING or not all(has_room_for_pooling(link) for link in links):
        return fits
    pooled = []
    for link in links:
        prediction = Prediction(link, [Hypothesis(usual, pool) for pool in POOLS])
        if prediction.finite:
            pooled.append(prediction.fit(int(np.argmax(prediction.scores))))
    return pooled if _median(pooled) >= _median(fits) + CLEARLY_BETTER else fits


def _usual_fit(link: Link, usual: str, known: _Known) -> Fit | None:
    """The fit under the usual activation; None where the weights predict no numbers."""
    prediction = known.get(id(link))
    if prediction is not None:
        place = _HYPOTHESES.index(Hypothesis(usual))
        return prediction.fit(place) if prediction.finite else None
    prediction = Prediction(link, [Hypothesis(usual)])
    return prediction.fit(0) if prediction.finite else None


def _median(fits: list[Fit]) -> float:
    return median([fit.explained for fit in fits]) if fits else -1.0


def has_room_for_pooling(link: Link) -> bool:
    """Whether a max pooling could stand in the link: a Sequential without a gap has no room."""
    certain = link.recognition.confidence is Confidence.HIGH
    return link.slopes is None and not (certain and link.role.endswith((" +1", " +2")))
