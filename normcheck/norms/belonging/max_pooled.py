"""Links with a max pooling before their weights: for certain, by a graph, or by the shape of means.

How many independent values it acts like no file tells: neighbours are alike.
"""

from collections.abc import Sequence

import numpy as np

from normcheck.norms.belonging.fit import Fit, off_one
from normcheck.norms.belonging.likeliest_activation import HYPOTHESES, is_certain, likeliest
from normcheck.norms.belonging.prediction import Known, Prediction
from normcheck.norms.belonging.reaching import Hypothesis
from normcheck.norms.belonging.structure.activation_moments import POOLS, pools_under
from normcheck.norms.belonging.structure.link import Link


def has_room_for_pooling(link: Link) -> bool:
    """Whether a max pooling could stand in the link: a Sequential without a gap has no room."""
    certain = is_certain(link)
    return link.slopes is None and not (certain and link.role.endswith((" +1", " +2")))


def by_shape(links: Sequence[Link], activation: str) -> list[Fit]:
    """Fits of links behind an activation, each with the pooling, or none, that suits it best."""
    each = [Prediction(link, [Hypothesis(activation, pool) for pool in POOLS]) for link in links]
    return [one.fit(int(np.argmax(one.scores))) for one in each if one.finite]


def behind_max_poolings(fits: list[Fit], known: Known) -> list[Fit]:
    """Fits of links with a max pooling for certain, which share their activation.

    It raises means by as much as neighbours differ, which no file tells: of the independent values
    that its window may act like, those are taken for each link under which means have the size that
    the weights predict.

    Args:
        fits: Of links at one place, without the pooling.
        known: Predictions that are there already.
    """
    each = [known.get(id(fit.link)) or Prediction(fit.link, HYPOTHESES) for fit in fits]
    best = HYPOTHESES[likeliest([prediction for prediction in each if prediction.finite])]
    among = fits[0].link.among
    activation = best.activation if not among or best.activation in among else fits[0].activation
    pooled = []
    for fit in fits:
        acts_like = pools_under(fit.link.max_pooled)
        prediction = Prediction(fit.link, [Hypothesis(activation, pool) for pool in acts_like])
        if prediction.finite:
            pooled.append(_nearest_in_size(prediction))
    return pooled


def of_graph(prediction: Prediction) -> Fit:
    """The fit of a link whose way a graph shows.

    Where a max pooling is all of that way but an activation, as :func:`behind_max_poolings`; of
    one part of a sum its strength is told by shape.
    """
    from normcheck.norms.belonging.structure.inflow import Pooled

    if isinstance(prediction.link.inflow, Pooled):
        return _nearest_in_size(prediction)
    return prediction.fit(int(np.argmax(prediction.scores)))


def _nearest_in_size(prediction: Prediction) -> Fit:
    """The fit under which means have the size that the weights predict, or nearest to it."""
    under = [prediction.fit(place) for place in range(len(prediction.hypotheses))]
    return min(under, key=lambda fit: off_one(fit.slope))
