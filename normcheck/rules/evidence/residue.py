"""What is left of the initial 0 and 1 in running statistics, as count and momentum tell.

After n updates with momentum m the share (1 - m)^n of each is still its initial value: means are
too small by that share, and that much is added to every variance, however small it is.
"""

from collections.abc import Sequence
from math import ceil, log

from normcheck.norms.layer import Momentum, NormLayer
from normcheck.norms.layer_numbers import median
from normcheck.rules.rule import DEFAULT_MOMENTUM, assumed_momentum

WARNING_RESIDUE = 0.01
"""Share left from which a layer is reported: means and variances are off by about 1 %,
which is what the noise of a running average amounts to anyway."""
DEAD = 1e-3
"""Variance above the rest, as a share of it, up to which a channel is constant: it has no variance
of its own that could be wrong."""
FEWEST_ALIVE = 4
MUCH_LEFT = 0.1
"""Share left from which smallest variances tell: below, small ones lie there in healthy models."""
HALF = 0.5
JUST_ABOVE = 1.35
"""Largest ratio of a layer's smallest variance to the rest of the initial 1 that it stands on."""


def residue(layer: NormLayer) -> float | None:
    """Share of the initial value that count and momentum leave; None where it cannot be told."""
    if not layer.has_statistics or layer.at_initial_values or layer.batches is None:
        return None
    momentum, _ = assumed_momentum(layer)
    # A count of 0 beside real statistics is an import; momentum 0 is a frozen layer.
    if isinstance(momentum, Momentum) or not 0 < momentum <= 1 or not layer.batches.whole:
        return None
    if layer.batches.value == 0:
        return None
    return float((1 - momentum) ** layer.batches.value)


def of_variances(layer: NormLayer, left: float) -> float:
    """Share of the stored variances that is a rest of the initial 1, by the median channel.

    Small inputs, as waveforms and gradients of images are, have variances of a hundredth: of these
    1 % of the initial value is half.

    Args:
        layer: With statistics.
        left: Share of the initial value that its count leaves.
    """
    eps = layer.assumed_eps
    if layer.running_var is None or left < 0.1 * eps:
        return 0.0
    stored = layer.running_var.numbers
    alive = stored[stored > left * (1 + DEAD)]
    if alive.size < max(FEWEST_ALIVE, stored.size // 4):
        return 0.0
    return median(left / (alive + eps))


def carried_by_variances(told: Sequence[tuple[NormLayer, float, float]]) -> bool:
    """Whether the stored variances themselves show the rest that the count tells.

    With a rest r in them none lies below r. In most layers the smallest then stands just above it,
    and the median of most consists of it by half. Statistics that were averaged in another way lie
    where the data put them: of 522 state dicts, held against every count up to 21, 0.4 %.
    What weights predict is known up to an unknown activation, and half of a ReLU's means are
    those of a SiLU; this is not.

    Args:
        told: Layers, the share of the initial value that their count leaves, and the share of
            their variances that this is, see :func:`of_variances`.
    """
    much = [(layer, left, share) for layer, left, share in told if left > MUCH_LEFT]
    if not much or 2 * len(much) < len(told):
        return False
    standing = sum(
        layer.running_var is not None and layer.running_var.lowest <= JUST_ABOVE * left
        for layer, left, _ in much
    )
    halved = median([share for _, _, share in much])
    return 2 * standing >= len(much) and halved >= HALF


def enough(layer: NormLayer, left: float, share: float) -> int:
    """Batches, in tens, that leave 1 % of the initial value, in small variances as well.

    Args:
        layer: With statistics.
        left: Share of the initial value that its count leaves.
        share: Of its variances that this is, see :func:`of_variances`.
    """
    momentum, _ = assumed_momentum(layer)
    rate = DEFAULT_MOMENTUM if isinstance(momentum, Momentum) else min(momentum, 0.999)
    share = min(share, 0.99)
    own = left * (1 - share) / share if share > 0 else 1.0  # what batches have, by the median
    wanted = WARNING_RESIDUE * min(max(own, 1e-6), 1.0)
    return 10 * ceil(log(wanted) / log(1 - rate) / 10)
