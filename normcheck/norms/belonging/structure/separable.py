"""Convolutions in two parts, depthwise and pointwise, with nothing between them.

``depthwise → pointwise → norm``, as Xception's separable convolutions are, or the other way round:
the kernel of the two together is the product of theirs, so that one link leads through both.
"""

from math import prod

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.belonging.structure.module_step import ModuleStep
from normcheck.saved.tensors import TensorRef


@lazy_dataclass(eq=False)
class Depthwise:
    """The depthwise part of a convolution in two parts; the pointwise one is the link's weights."""

    path: str
    weights: TensorRef
    """Of shape (inputs × multiplier, 1, taps) where it is the first part, (outputs, 1, taps) where
    it is the second."""
    bias: TensorRef | None
    """Of the part that comes first."""
    ahead: bool
    """Whether it is the first part."""


@lazy_dataclass(eq=False)
class Separable:
    """A convolution in two parts."""

    pointwise: ModuleStep
    depthwise: Depthwise
    bias: TensorRef | None
    """Of the part that comes last."""


def separable(first: ModuleStep, second: ModuleStep, made_of: int) -> Separable | None:
    """Two weights as one convolution; None where they are none, or something may stand between.

    Args:
        first: Weights, in the order of the model.
        second: Those right behind them.
        made_of: Channels that reach the first.
    """
    one, other = first.shape or (), second.shape or ()
    if len(one) < 3 or len(one) != len(other) or _between(first.path, second.path):
        return None
    bias = first.leaf("bias")
    if bias is not None and (bias.numel != one[0] or not bias.readable):
        return None
    if one[1] == 1 and not one[0] % made_of and other[1] == one[0] and prod(other[2:]) == 1:
        parts = first, second
    elif one[1] == made_of > 1 == prod(one[2:]) and other[:2] == (one[0], 1) != one[:2]:
        parts = second, first
    else:
        return None
    deep, point = parts
    if not (deep.weight.readable and point.weight.readable):
        return None
    part = Depthwise(deep.path, deep.weight, bias, ahead=deep is first)
    return Separable(point, part, second.leaf("bias"))


def _between(first: str, second: str) -> bool:
    """Whether two weights are of different blocks, or their numbers leave a place between."""
    block, _, here = first.rpartition(".")
    other, _, there = second.rpartition(".")
    if block != other:
        return True
    return here.isdecimal() and there.isdecimal() and int(there) - int(here) != 1
