"""Variances behind two layers of weights: channels that are not independent.

The plain prediction takes the inputs of weights as independent, and its variances follow stored
ones but loosely, with a third of their spread or less. What makes inputs go together is known in
part: the weights before them. For x → A → norm → φ → W → norm, with values y_i = β_i + γ_i z_i
behind the first norm and the linear part of φ(y_i), a_i z_i with a_i = E[φ(y_i) z_i] (Bussgang
1952: what is left does not correlate with z),

    variance_o = Σ over neighbours and inputs of (W ∗ (a/s) A)_o squared, in the correlation of x
                 + Σ W[o, i]² (Var[φ(y_i)] - a_i²)

where s is the deviation that A makes of x. The correlation of x is not known: a few are tried, of
neighbours ρ and of channels c, as for the first norm, and the one is taken whose shape fits best.
"""

from collections.abc import Iterable, Sequence
from functools import cached_property, lru_cache
from math import exp, inf, prod, sqrt

import numpy as np
from numpy.typing import NDArray

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.fit import Fit
from normcheck.norms.belonging.reaching import in_parts
from normcheck.norms.belonging.structure.activations import ACTIVATIONS
from normcheck.norms.belonging.structure.link import Before, Link, WeightStructure
from normcheck.norms.belonging.two_kernels import (
    INPUTS,
    dense,
    of_both,
    of_inputs,
    one_behind_the_other,
    usual_variance,
)
from normcheck.norms.layer import Floats
from normcheck.norms.layer_numbers import median
from normcheck.saved.tensors import TensorRef

FEWEST_CHANNELS = 16
MOST_BORDER = 0.2
"""Of an image of 8 pixels it is 0.14, of 4 a quarter."""
SIGNAL = 3
"""Dimensions of weights that run over time."""
FLAT = 2
"""Dimensions of weights without neighbours. What decay has left of them in a healthy published
network of a table makes all channels go together, more than its inputs do: variances are 0.6 of
those predicted through two layers, and 6 to 40 times those of independent channels."""
QUIET = 1e-6
"""Share of the usual variance below which a channel has none to speak of."""
_MOST = 20_000_000
"""Products of one link: of more, fewer of its outputs are predicted."""
_KINDS = frozenset(
    (
        WeightStructure.CONVOLUTION,
        WeightStructure.LINEAR,
        WeightStructure.GROUPED,
        WeightStructure.DEPTHWISE,
        WeightStructure.SEPARABLE,
    )
)
EXACT = 1e-6
"""Share of their squares that logarithms miss at least: less is rounding."""
LIKELY = 1.0
"""Difference of log likelihoods up to which another input is about as likely."""


@lazy_dataclass()
class Spread:
    """How stored variances spread beside those predicted through two layers, as logarithms."""

    path: str
    """Of the norm that stores them."""
    channels: int
    correlation: float
    """Of stored and predicted ones, under the input for which it is largest, up or down."""
    ratio: float
    """Standard deviation of the stored ones over that of the predicted ones: 0.8 to 1.5 for
    variances, by the median of a model, half of that for deviations in their place."""
    varied: float
    """Standard deviation of the predicted ones: what hardly varies says little."""


class TwoLayers:
    """The variances of one fit's target, predicted through the weights before its source, too.

    Args:
        fit: Of a plain link, whose file is still open.
        before: The weights before its source.
        outputs: Places of the channels that are predicted.

    Raises:
        UnreadableError: The file ends early, or its checksum is wrong.
    """

    def __init__(self, fit: Fit, before: Before, outputs: NDArray[np.intp]) -> None:
        """Read both weights, and put one behind the other."""
        link = fit.link
        linear, rest = in_parts(link, fit.activation, fit.reaching)
        sizes = before.weights.shape[2:] or (1,), _kernel_of(link).shape[2:] or (1,)
        first = dense(before.weights, before.groups)
        if link.depthwise is None:
            second = dense(link.weights, linear.size // link.weights.shape[1])[outputs]
        else:
            second = of_both(link.weights, link.depthwise.weights, linear.size, outputs)
        share = linear / np.maximum(np.sqrt(usual_variance(first, sizes[0])), 1e-30)
        kernel = one_behind_the_other(second, first, share.astype(np.float32), sizes)
        size = tuple(a + b - 1 for a, b in zip(*sizes, strict=True))
        alone = np.square(second).reshape(outputs.size, -1) @ rest.astype(np.float32).repeat(
            second.shape[2]
        )
        self.path, self._channels = link.target.path, outputs.size
        self._apart = fit.log_scale if link.weights.ndim == FLAT else -inf
        self._compare(of_inputs(kernel, size) + alone, fit.stored_variance[outputs])

    def _compare(self, predicted: Floats, stored: Floats) -> None:
        """Hold the logarithms of stored variances against predicted ones, (inputs, channels)."""
        # All in one array, the stored ones last: a call takes longer than its numbers.
        logs = np.log(np.concatenate((predicted, stored[None])))
        means = logs @ np.full(self._channels, 1 / self._channels)
        logs -= means[:, None]
        products = logs @ logs.T
        self._logs, self._means = logs, means
        self._squares: list[float] = products.diagonal().tolist()
        self._both: list[float] = products[-1].tolist()

    def spread(self, inputs: Iterable[tuple[float, float]] = INPUTS) -> Spread | None:
        """How the stored ones spread beside those predicted under the input that fits best.

        Args:
            inputs: Of ``INPUTS``, those that are tried.

        Returns:
            None where no numbers are predicted.
        """
        places = [place for each in inputs if 0 < self._squares[place := INPUTS.index(each)] < inf]
        if not (places and 0 < self._squares[-1] < inf):
            return None
        best = max(places, key=lambda place: abs(self._both[place]) / sqrt(self._squares[place]))
        varied, stored = sqrt(self._squares[best]), sqrt(self._squares[-1])
        return Spread(
            self.path,
            self._channels,
            self._both[best] / (varied * stored),
            stored / varied,
            varied / sqrt(self._channels),
        )

    def scale(self) -> float | None:
        """Median logarithm of stored over predicted variances, under the input that suits best.

        Of inputs that are about as likely by the shape of the variances the one that makes it
        nearest to 0, and 0 itself where they lie on both sides of it. Of layers without neighbours
        no variance is small that is larger than independent channels would have.

        Returns:
            None where no numbers are predicted.
        """
        own, missed = self._squares[-1], {}
        for place, (both, square) in enumerate(zip(self._both[:-1], self._squares, strict=False)):
            if 0 < square * own < inf:
                missed[place] = 1.0 - max(both, 0.0) ** 2 / (square * own)
        if not missed:
            return None
        most = max(min(missed.values()), EXACT) * exp(2 * LIKELY / self._channels)
        likely = [self._scales[place] for place, each in missed.items() if each <= most]
        return max(min(likely), min(max(*likely, self._apart), 0.0))

    def sizes(self) -> tuple[float, float] | None:
        """The least and the largest :meth:`scale` under any of the inputs, whatever their shape.

        Returns:
            None where no numbers are predicted.
        """
        each = zip(self._scales, self._squares, strict=False)
        all_of = [scale for scale, square in each if 0 < square < inf]
        return (min(all_of), max(all_of)) if all_of and 0 < self._squares[-1] < inf else None

    def stored(self) -> tuple[float, float]:
        """Logarithms of the stored variances: the median, and below which a quarter of them lie."""
        logs = sorted((self._logs[-1] + self._means[-1]).tolist())
        return logs[len(logs) // 2], logs[len(logs) // 4]

    @cached_property
    def _scales(self) -> list[float]:
        """Logarithms of stored over predicted variances under each input."""
        apart = self._logs[-1] - self._logs[:-1]
        apart.sort(axis=1)
        # Not the mean: a few channels that hardly vary have logarithms far below all others.
        middle = apart[:, self._channels // 2]
        scales: list[float] = (middle + (self._means[-1] - self._means[:-1])).tolist()
        return scales


def is_told(fit: Fit) -> bool:
    """Whether two layers of weights predict the variances of a fit's target at all."""
    link, before = fit.link, fit.link.before
    if before is None or not (before.weights.readable and link.weights.readable):
        return False
    if link.kind not in _KINDS or fit.activation not in ACTIVATIONS or fit.pool > 1:
        return False
    if link.depthwise is not None and not link.depthwise.ahead:
        return False
    # Signals over time go together more than any input that is tried. In four healthy published
    # networks of them (seismograms, electrocardiograms and -encephalograms, sounds) variances are
    # 0.55 to 10 times the predicted ones, and spread by half as much.
    kernel = _kernel_of(link)
    if kernel.ndim == SIGNAL and max(kernel.shape[2:] + before.weights.shape[2:]) > 1:
        return False
    # On a small map most taps of two kernels meet nothing.
    return (
        link.weights.ndim == before.weights.ndim and not fit.small_map and fit.border <= MOST_BORDER
    )


def two_layers(fits: Sequence[Fit], most: int) -> list[TwoLayers | None]:
    """The variances of the targets of fits through two layers of weights.

    Args:
        fits: Of a model whose file is still open.
        most: Channels that are predicted of each.

    Returns:
        None in the place of one whose weights before are not known, or the channels too few or too
        large.

    Raises:
        UnreadableError: The file ends early, or its checksum is wrong.
    """
    with np.errstate(divide="ignore", invalid="ignore"):  # what is no number is left out later
        return [_two_layers(fit, most) if is_told(fit) else None for fit in fits]


def _two_layers(fit: Fit, most: int) -> TwoLayers | None:
    link, before = fit.link, fit.link.before
    if before is None:
        return None
    stored = fit.stored_variance
    (outputs,) = (stored > QUIET * max(median(stored), 0.0)).nonzero()
    products = before.weights.numel * before.groups * prod(_kernel_of(link).shape[2:])
    most = min(most, _MOST // products)
    if most < outputs.size:
        outputs = outputs[_spread_over(outputs.size, most)]
    return TwoLayers(fit, before, outputs) if outputs.size >= FEWEST_CHANNELS else None


@lru_cache(maxsize=64)
def _spread_over(size: int, most: int) -> NDArray[np.intp]:
    """So many places of ``size``, from the first to the last."""
    return np.linspace(0, size - 1, most).astype(np.intp)


def _kernel_of(link: Link) -> TensorRef:
    """The weights of a link that have its taps."""
    return link.weights if link.depthwise is None else link.depthwise.weights
