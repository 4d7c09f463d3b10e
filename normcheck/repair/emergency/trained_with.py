"""Whether weights that stand with statistics of 0 and 1 may have been trained with them.

A file alone cannot tell. The scores on random fields hint at it: in the mode that the weights were
trained in they depend on the input; in the other they are nearly the same for every input, or
what is left of the input is small beside what is not of it.
"""

from math import log

import torch
from torch import Tensor

from normcheck.live.watching.forward import RegimeOutputs

_FAINT = 0.5
"""Deviation of the scores over the inputs, in parts of that under the new statistics, below which
the stored ones leave nothing of the input: at least 0.8 where weights were trained with them."""
_CLEARER = 4.5
"""How many times more the scores depend on the input under the new statistics than under the
stored ones, beside what is the same for every input: at most 4.0 where weights were trained with
0 and 1, on 16 networks of 8 styles and 2 data sets; from 2.8 to 250 where these were lost."""
_VAGUE = 0.9
"""Entropy of the decisions under the new statistics, in parts of that of guessing, up to which
weights decide anything: those that learned nothing, or with 0 and 1, leave more."""
_CLASSES = 3


def shown_lost(stored: RegimeOutputs, given: RegimeOutputs) -> bool:
    """Whether the scores show that the weights were not trained with the stored 0 and 1.

    Args:
        stored: Outputs of random fields in eval mode.
        given: The same under statistics that are estimated on such fields.
    """
    before, after = _scores(stored), _scores(given)
    if before is None or after is None:
        return False
    if _vagueness(after) > _VAGUE:
        return False
    spread_before, beside_before = _dependence(before)
    spread_after, beside_after = _dependence(after)
    return spread_before < _FAINT * spread_after or beside_after > _CLEARER * beside_before


def _scores(measured: RegimeOutputs) -> Tensor | None:
    if not measured.mains or any(m.ndim != 2 or m.shape[1] < _CLASSES for m in measured.mains):
        return None
    found = torch.cat([main.double() for main in measured.mains])
    return found if bool(found.isfinite().all()) else None


def _vagueness(scores: Tensor) -> float:
    logarithms = scores.log_softmax(1)
    return float(-(logarithms.exp() * logarithms).sum(1).mean()) / log(scores.shape[1])


def _dependence(scores: Tensor) -> tuple[float, float]:
    """Deviation over the inputs, and the same in deviations of what is the same for all."""
    spread = float(scores.std(0).mean())
    return spread, spread / max(float(scores.mean(0).std()), 1e-12)
