"""The random field that stands in for data, fitted to the first norm where that is intact."""

from itertools import product

import numpy as np
import torch
from torch import Tensor

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.fields.first_evidence import is_of_these_weights
from normcheck.live.fields.first_response import EQUATIONS, StoredFirst, is_linear, response_of
from normcheck.live.fields.smooth_fields import Smoothness, smooth_fields
from normcheck.live.watching.input_moments import Collected
from normcheck.live.watching.regimes import Regimes
from normcheck.live.watching.seen import CallSite
from normcheck.norms.belonging.first_norm import CHANNELS, NEIGHBOURS

GREY = Smoothness(0.7, 0.5)
COLOURED = Smoothness(0.9, 0.9)
"""Where nothing tells: of the smoothnesses tried on the networks of
``benchmarks/repair_without_data.py`` the ones that brought back most of small images of one
channel, and of photographs, whose three channels nearly agree."""
_ABOUT = (-0.2, 0.0, 0.05, 0.15)
"""Images differ in how smooth they are: steps in the correlation of neighbours, of a quarter of the
fields each. Chosen with 47 networks of digits and of digits on photographs, against one smoothness,
mixtures of contrasts, offsets of whole images and dead leaves, which brought back less; on 17
networks of patches of photographs, which were not in the choice, 0.73 against 0.71 of the lost
accuracy (median, first norm intact; ``benchmarks/repair_ceiling.py``)."""
_SMOOTHEST = 0.98
_COLOURS = 3
_PIXELS = 1 << 18
"""Of all fields of one trial."""
_FEWEST, _MOST = 16, 64
"""Fields of one trial."""
_SCATTER = 0.6
"""Root mean square of log variance ratios up to which the first norm fits a field: 0.11 to 0.46
of intact ones."""
_SCATTER_DOUBTED = 0.46
"""The same where others are of other weights: no more than of intact ones. One that is of an early
time of training is near enough to its weights not to fit by chance, and yet tells of images that
are far too rough (neighbours correlated by 0.5 for 0.95): it scatters by 0.47 to 0.56."""
_LEFTOVER = 0.45
"""The same of its means, in deviations; the rule on foreign statistics accuses from more."""


@lazy_dataclass()
class Field:
    """A random field that images are drawn from."""

    shape: tuple[int, int, int]
    smoothness: Smoothness
    factor: float = 1.0
    offsets: tuple[float, ...] = (0.0,)
    """Of each channel, or one for all."""
    fitted: bool = False
    """Whether it is fitted to the first norm."""

    def drawn(self, count: int, seed: int) -> Tensor:
        """Images of it, ``(count, C, H, W)``: some rougher, some smoother, in any order."""
        offsets = torch.tensor(self.offsets).reshape(1, -1, 1, 1)
        return self.factor * self._mixed(count, seed) + offsets

    def _mixed(self, count: int, seed: int) -> Tensor:
        if count < 2 * len(_ABOUT):
            return smooth_fields(count, self.shape, self.smoothness, seed)
        each = 2 * -(-count // (2 * len(_ABOUT)))
        parts = []
        for number, step in enumerate(_ABOUT):
            near = min(max(self.smoothness.neighbours + step, 0.0), _SMOOTHEST)
            how = Smoothness(near, self.smoothness.channels)
            parts.append(smooth_fields(each, self.shape, how, seed + number))
        order = torch.randperm(each * len(_ABOUT), generator=torch.Generator().manual_seed(seed))
        return torch.cat(parts)[order[:count]]


def usual_field(shape: tuple[int, int, int]) -> Field:
    """The field of images of which nothing is known but their shape."""
    return Field(shape, COLOURED if shape[0] == _COLOURS else GREY)


def likeliest_field(
    regimes: Regimes,
    seen: Collected,
    first: CallSite | None,
    shape: tuple[int, int, int],
    *,
    doubted: bool = False,
) -> Field:
    """The field under which the first norm's statistics come about; the usual one without it.

    Args:
        regimes: Runs the model.
        seen: What eval mode gives each norm.
        first: The first norm to run, where its statistics may be intact; None otherwise.
        shape: Channels, height and width of the input.
        doubted: Whether other norms are of other weights, so that the first one has to show that
            it is not.
    """
    usual = usual_field(shape)
    if first is None or first not in seen.stored:
        return usual
    mean, variance = (np.asarray(t.numpy(), np.float64) for t in seen.stored[first])
    stored = StoredFirst(mean, variance, seen.eps[first])
    count = min(_MOST, max(_FEWEST, _PIXELS // (shape[1] * shape[2])))
    if not is_linear(regimes, first, usual.drawn(2, 0)):
        return usual
    best, closest = usual, _SCATTER_DOUBTED if doubted else _SCATTER
    across = CHANNELS if shape[0] > 1 else CHANNELS[:1]
    responses = []
    for smoothness in (Smoothness(*pair) for pair in product(NEIGHBOURS, across)):
        x = smooth_fields(count, shape, smoothness, 0)
        response = response_of(regimes, first, x)
        if response is None or len(response.means) < EQUATIONS * (response.means.shape[1] - 1):
            return usual
        responses.append(response)
        parts = stored.fitted(response, 1.0)
        left = stored.leftover(response)
        if parts is None or left is None or left > _LEFTOVER:
            continue
        scatter = stored.scatter(response, parts)
        if scatter < closest:
            best = Field(shape, smoothness, float(parts[0]), tuple(map(float, parts[1:-1])), True)
            closest = scatter
    if doubted and best.fitted and not is_of_these_weights(stored, responses):
        return usual
    return best
