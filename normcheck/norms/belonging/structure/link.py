"""A chain norm → activation → weights → norm, and what may be one."""

from enum import StrEnum
from math import prod
from typing import TYPE_CHECKING

from normcheck.norms.belonging.structure.grown import Grown
from normcheck.norms.belonging.structure.module_step import NUMBER
from normcheck.norms.belonging.structure.separable import Depthwise
from normcheck.norms.kinds import Family
from normcheck.norms.layer import NormLayer, Recognition
from normcheck.norms.weight_layout import Layout
from normcheck.often_made import often_made
from normcheck.saved.tensors import TensorRef

# Links of a model that was run travel between processes, and never have an inflow: its types, of
# which a reader could not tell one from another, stay unknown there.
if TYPE_CHECKING:
    from normcheck.norms.belonging.structure.inflow import Inflow


class WeightStructure(StrEnum):
    """How the weights between two norms combine their inputs."""

    LINEAR = "linear"
    CONVOLUTION = "convolution"
    DEPTHWISE = "depthwise convolution"
    GROUPED = "grouped convolution"
    TRANSPOSED = "transposed convolution"
    SEPARABLE = "depthwise and pointwise convolution"


@often_made(eq=False)
class Before:
    """The weights right before a norm."""

    weights: TensorRef
    """Outputs first."""
    groups: int


@often_made(eq=False)
class Link:
    """Norm ``source`` → activation → ``weights`` → norm ``target``."""

    source: NormLayer
    weights_path: str
    weights: TensorRef
    bias: TensorRef | None
    target: NormLayer
    kind: WeightStructure
    role: str
    """What links at the same place of other blocks share: their names without numbers."""
    recognition: Recognition
    """How sure it is that the two norms are connected in this way, and why."""
    slopes: TensorRef | None = None
    """Of a PReLU that stands between source and weights."""
    inflow: "Inflow | None" = None
    """What reaches the weights, where a graph shows it."""
    either_way: bool = False
    """Whether the weights are square and nothing tells a convolution from a transposed one."""
    groups: int = 1
    """Of a transposed convolution; of the others the shape tells."""
    seen: float | None = None
    """Share of a transposed convolution's taps that an output position sees, 1 over the product
    of its strides; None where a file does not tell."""
    among: tuple[str, ...] = ()
    """Activations of which one stands between, by names of ``ACTIVATIONS``, where a module tree
    tells; empty where any may."""
    max_pooled: int = 1
    """Values that a max pooling between chooses from, where a module tree shows one; 1 is none."""
    rectified: bool = False
    """Whether the target stands behind a ReLU; its statistics are then those before it."""
    grown: Grown | None = None
    """Where the target's channels grew by concatenation: what the others of them show. The target
    is then a norm over the new ones alone."""
    depthwise: Depthwise | None = None
    """The other part of a convolution in two parts, of which the weights are the pointwise one."""
    before: Before | None = None
    """The weights right before the source, where one block or Sequential holds both."""

    @property
    def taps(self) -> int:
        """Of the kernel; 1 where no border of the image shows."""
        weights = self.weights if self.depthwise is None else self.depthwise.weights
        return prod(weights.shape[2:])


def usable(source: NormLayer, target: NormLayer) -> bool:
    """Whether the source fixes each channel's distribution, and the target stores one."""
    return (
        source.kind.family in (Family.BATCH, Family.FROZEN_BATCH)
        and source.kind.name != "fused conv-BatchNorm"
        and target.kind.family in (Family.BATCH, Family.FROZEN_BATCH)
        and target.has_statistics
        and not target.at_initial_values
        and (source.weight is None or source.weight.size == source.features)
    )


def weights_kind(
    weights: TensorRef, made_of: int, makes: int, layout: Layout | None
) -> WeightStructure | None:
    """How ``weights`` leads from so many channels to so many; None where it cannot.

    Args:
        weights: As stored.
        made_of: Channels before.
        makes: Channels behind.
        layout: Where a file tells it; a shape alone shows an ungrouped transposed convolution
            only where it makes another number of channels than it takes.
    """
    if not weights.readable or not made_of or not makes or not all(weights.shape):
        return None
    out, inner = weights.shape[:2]
    if weights.ndim == 2:
        usual = layout is None or not layout.inputs_first
        return WeightStructure.LINEAR if (out, inner) == (makes, made_of) and usual else None
    if layout is not None and layout.inputs_first:
        fits = out == made_of and layout.outputs(weights.shape) == makes
        return WeightStructure.TRANSPOSED if fits and layout.fits(weights.shape) else None
    if out == makes:
        if inner == made_of:
            return WeightStructure.CONVOLUTION
        if inner == 1 and out == made_of:
            return WeightStructure.DEPTHWISE
        if made_of % inner == 0 and out % (made_of // inner) == 0:
            return WeightStructure.GROUPED
    if (out, inner) == (made_of, makes) and layout is None:
        return WeightStructure.TRANSPOSED
    return None


def role_of(source: str, weights: str, target: str) -> str:
    """The names without block numbers; within a Sequential the distance stays in it."""
    gap = ""
    first, last = source.rpartition("."), weights.rpartition(".")
    if first[0] == last[0] and first[2].isdecimal() and last[2].isdecimal():
        gap = f" +{int(last[2]) - int(first[2])}"
    return " > ".join(NUMBER.sub("#", path) for path in (source, weights, target)) + gap


def place_in_block(weights: str) -> str:
    """The last word of a name that has a number, as ``ghost2``: what a block numbers within it.

    Links of one role differ in it where a block holds alike parts of which one has an activation
    and the other has none.
    """
    words = reversed(weights.split("."))
    return next((word for word in words if word[-1:].isdecimal() and not word.isdecimal()), "")
