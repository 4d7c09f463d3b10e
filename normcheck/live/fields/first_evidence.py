"""Whether the first norm's statistics are of the weights before it: told by what chance would do.

With two dozen channels some field fits statistics of other weights by accident, and what it tells
of the images is then made up. Given to the channels in another order, statistics that are of these
weights fit worse; those that are not fit as well or as badly as before (a permutation test, exact
whatever the distributions are: Pitman, "Significance tests which may be applied to samples from
any populations", 1937).
"""

from collections.abc import Sequence

import numpy as np

from normcheck.live.fields.first_response import Response, StoredFirst
from normcheck.norms.layer import Floats

_ORDERS = 499
_CHANCE = 0.004
"""Share of the orders, theirs among them, that may fit as well: of intact first norms none did."""
_NOTHING = 1e-12


def is_of_these_weights(stored: StoredFirst, responses: Sequence[Response]) -> bool:
    """Whether hardly an order of the channels fits as well as theirs does.

    Args:
        stored: What the first norm has stored.
        responses: What it is given of fields of each smoothness, at least one.
    """
    if not bool((stored.variance > 0).all()):
        return False
    logs = np.log(np.maximum(np.stack([_of_field(r) for r in responses]), _NOTHING))
    random = np.random.default_rng(0)
    own = _likelihood(stored, responses[0], logs)
    as_good = sum(
        _likelihood(_in_order(stored, random.permutation(len(stored.mean))), responses[0], logs)
        >= own
        for _ in range(_ORDERS)
    )
    return bool((1 + as_good) / (1 + _ORDERS) <= _CHANCE)


def _of_field(response: Response) -> Floats:
    """Variances that the field itself makes, ``(C,)``: offsets have none."""
    found: Floats = response.products[:, 0, 0] - response.means[:, 0] ** 2
    return found


def _in_order(stored: StoredFirst, order: np.ndarray) -> StoredFirst:
    return StoredFirst(stored.mean[order], stored.variance[order], stored.eps)


def _likelihood(stored: StoredFirst, response: Response, logs: Floats) -> float:
    """Logarithm of how much likelier the statistics are by these weights than by none.

    Means by some offset of each channel of the input, and logarithms of variances by one factor
    and the best of all smoothnesses; each with normal errors of any size.

    Args:
        stored: The statistics.
        response: What the norm is given of constants; that is the same for every smoothness.
        logs: Logarithms of the variances that each smoothness makes, ``(fields, C)``.
    """
    weights = 1.0 / stored.deviation
    wanted = (stored.mean - response.means[:, -1]) * weights
    matrix = response.means[:, 1:-1] * weights[:, None]
    rest = wanted - matrix @ np.linalg.lstsq(matrix, wanted, rcond=1e-6)[0]
    own = np.log(stored.deviation**2)
    off = _centred(own[None] - logs)
    by_means = np.log((wanted @ wanted + _NOTHING) / (rest @ rest + _NOTHING))
    centred = _centred(own[None])
    by_variances = np.log(
        (np.square(centred).sum() + _NOTHING) / (np.square(off).sum(axis=1) + _NOTHING)
    ).max()
    return float(len(own) / 2 * (by_means + by_variances))


def _centred(values: Floats) -> Floats:
    found: Floats = values - values.mean(axis=1, keepdims=True)
    return found
