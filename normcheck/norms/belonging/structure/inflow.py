"""What reaches weights from the norms before them, where the graph tells it.

Behind a norm a channel is close to N(β, γ²). From there mean and variance are followed through
what a graph shows: activations, sums (residual connections; the parts taken as independent),
concatenation, pooling, flattening. Sums are taken as normal again for the next activation.
"""

from collections.abc import Callable

import numpy as np

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.structure.activation_moments import after_activation, pools_under
from normcheck.norms.layer import Floats, NormLayer


@lazy_dataclass(eq=False)
class Normed:
    """The output of a norm."""

    layer: NormLayer


@lazy_dataclass(eq=False)
class Activated:
    """An activation, element by element."""

    inner: "Inflow"
    name: str
    function: Callable[[Floats], Floats]


@lazy_dataclass(eq=False)
class Summed:
    """An add of values of one shape."""

    parts: "tuple[Inflow, ...]"


@lazy_dataclass(eq=False)
class Joined:
    """A concatenation of channels."""

    parts: "tuple[Inflow, ...]"


@lazy_dataclass(eq=False)
class Pooled:
    """Max pooling; how many of the values under its window are independent is not known."""

    inner: "Inflow"
    window: int
    """Values that it chooses from, which are the most that can be independent."""


@lazy_dataclass(eq=False)
class Averaged:
    """Average pooling: the means stay, variances shrink by what is not known."""

    inner: "Inflow"


Inflow = Normed | Activated | Summed | Joined | Pooled | Averaged


def moments(inflow: Inflow, pool: float) -> tuple[Floats, Floats]:
    """Mean and variance of each channel, two arrays of shape (channels,).

    Args:
        inflow: What reaches the weights.
        pool: Independent values that each max pooling chooses from, at most those under its
            window; of ``POOLS``.

    Raises:
        ValueError: Parts of a sum have different numbers of channels.
    """
    match inflow:
        case Normed(layer):
            count = layer.features or 0
            gamma = layer.weight.numbers if layer.weight is not None else np.ones(count)
            beta = layer.bias.numbers if layer.bias is not None else np.zeros(count)
            return beta, gamma**2
        case Activated(inner, _, function):
            mean, variance = moments(inner, pool)
            after = after_activation(np.sqrt(variance), mean, function)
            return after[0][:, 0], after[1][:, 0]
        case Pooled(inner, window):
            # Pooling and an increasing activation change places: the pool is taken first.
            below = inner.inner if isinstance(inner, Activated) else inner
            function = inner.function if isinstance(inner, Activated) else _same
            mean, variance = moments(below, pool)
            acts_like = min(pool, pools_under(window)[-1])
            after = after_activation(np.sqrt(variance), mean, function, (acts_like,))
            return after[0][:, 0], after[1][:, 0]
        case Averaged(inner):
            return moments(inner, pool)
        case Joined(parts):
            each = [moments(part, pool) for part in parts]
            return np.concatenate([m for m, _ in each]), np.concatenate([v for _, v in each])
        case Summed(parts):
            each = [moments(part, pool) for part in parts]
            return sum(m for m, _ in each), sum(v for _, v in each)  # type: ignore[return-value]


def _same(values: Floats) -> Floats:
    return values


def channels_of(inflow: Inflow) -> int | None:
    """How many channels there are; None where its parts contradict each other."""
    match inflow:
        case Normed(layer):
            sizes = {part.size for part in (layer.weight, layer.bias) if part is not None}
            return layer.features if sizes <= {layer.features} else None
        case Joined(parts) | Summed(parts):
            each = [channels_of(part) for part in parts]
            known = [count for count in each if count is not None]
            if len(known) < len(each):
                return None
            if isinstance(inflow, Joined):
                return sum(known)
            return known[0] if len(set(known)) == 1 else None
        case _:
            return channels_of(inflow.inner)


def steps_of(inflow: Inflow) -> int:
    """How many steps it has, each of which :func:`moments` takes for every channel."""
    match inflow:
        case Normed():
            return 1
        case Joined(parts) | Summed(parts):
            return 1 + sum(map(steps_of, parts))
        case _:
            return 1 + steps_of(inflow.inner)


def norms_of(inflow: Inflow) -> tuple[NormLayer, ...]:
    """The norms that it begins at."""
    match inflow:
        case Normed(layer):
            return (layer,)
        case Joined(parts) | Summed(parts):
            return tuple(layer for part in parts for layer in norms_of(part))
        case _:
            return norms_of(inflow.inner)


def pools_of(inflow: Inflow) -> tuple[float, ...]:
    """Of how many independent values its max poolings may choose; 1 alone where there is none."""
    match inflow:
        case Normed():
            return pools_under(1)
        case Joined(parts) | Summed(parts):
            return max((pools_of(part) for part in parts), key=len)
        case Pooled(inner, window):
            return max(pools_under(window), pools_of(inner), key=len)
        case _:
            return pools_of(inflow.inner)


def contains(inflow: Inflow, kind: type) -> bool:
    """Whether a step of some kind is anywhere in it."""
    if isinstance(inflow, kind):
        return True
    match inflow:
        case Normed():
            return False
        case Joined(parts) | Summed(parts):
            return any(contains(part, kind) for part in parts)
        case _:
            return contains(inflow.inner, kind)


def activation_of(inflow: Inflow) -> str:
    """The activation nearest to the weights, as ``ACTIVATIONS`` names it."""
    match inflow:
        case Activated(_, name, _):
            return name
        case Normed():
            return "no activation"
        case Joined(parts) | Summed(parts):
            return activation_of(parts[0])
        case _:
            return activation_of(inflow.inner)
