"""A normalization layer that was found, with what is known of it and its numbers."""

from __future__ import annotations

from dataclasses import field
from enum import StrEnum
from math import isfinite, isnan, nan
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.norms.kinds import Family, NormKind
from normcheck.often_made import often_made

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from normcheck.saved.dtypes import DType

Floats = npt.NDArray[np.float64]

DEFAULT_EPS = 1e-5
"""Of torch's batch norms."""
ROUNDING = 1e-6
"""Share of eps by which the variance of a constant channel may lie below 0: exporters that keep
1/sqrt(var + eps) in float32 make it anew by taking eps away, and are off by a few roundings of
1.2e-7 each."""


class Confidence(StrEnum):
    """How sure something is; the order is high, medium, low."""

    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


@often_made()
class Recognition:
    """Why something is taken for a normalization layer."""

    confidence: Confidence
    reason: str


class Momentum(StrEnum):
    """The momentum that is no number."""

    CUMULATIVE = "cumulative average"
    """``momentum=None``: a plain average over all batches."""


@often_made(eq=False)
class Values:
    """The numbers of one small tensor, in float64, and the type they are stored in."""

    numbers: Floats
    dtype: DType
    requires_grad: bool | None = None
    _ordered: Floats | None = field(default=None, init=False, repr=False)
    _ends: tuple[float, float] | None = field(default=None, init=False, repr=False)

    @property
    def size(self) -> int:
        """How many there are."""
        return self.numbers.size

    @property
    def ordered(self) -> Floats:
        """The numbers in ascending order, NaN last.

        Sorted once: of a few dozen numbers that takes as long as any other call of numpy, and both
        ends answer what rule after rule asks.
        """
        if self._ordered is None:
            ordered = self.numbers.copy()
            ordered.sort()  # np.sort looks at its arguments first, which takes as long
            object.__setattr__(self, "_ordered", ordered)
        assert self._ordered is not None  # noqa: S101  # set above
        return self._ordered

    @property
    def ends(self) -> tuple[float, float]:
        """The first and the last of them in order; NaN where there is none."""
        if self._ends is None:
            ordered = self.ordered
            ends = (float(ordered[0]), float(ordered[-1])) if ordered.size else (nan, nan)
            object.__setattr__(self, "_ends", ends)
        assert self._ends is not None  # noqa: S101  # set above
        return self._ends

    @property
    def finite(self) -> bool:
        """Whether there is neither NaN nor infinity."""
        first, last = self._ends or self.ends
        return (isfinite(first) and isfinite(last)) or not self.numbers.size

    @property
    def lowest(self) -> float:
        """The smallest of at least one number; NaN where one is NaN."""
        first, last = self.ends
        return last if isnan(last) else first

    def all_are(self, value: float) -> bool:
        """Whether there is no other number."""
        first, last = self._ends or self.ends
        return first == value == last or not self.numbers.size

    @property
    def constant(self) -> bool:
        """Whether all of at least one number are the same."""
        first, last = self.ends
        return first == last


@often_made(eq=False)
class BatchCount:
    """``num_batches_tracked`` as stored."""

    value: float
    dtype: DType

    @property
    def whole(self) -> bool:
        """Whether it is a count: an integer type, finite, not negative."""
        return not self.dtype.floating and self.value >= 0


@often_made(eq=False)
class NormLayer:
    """One normalization layer. What the file does not tell is None.

    A state dict gives names and numbers; a module tree adds class, mode and configuration.
    """

    path: str
    """Dotted path within its model, empty where the model is the layer."""
    kind: NormKind
    recognition: Recognition
    features: int | None = None
    """Channels or features that are normalised apart, or the size of a LayerNorm's shape."""
    running_mean: Values | None = None
    running_var: Values | None = None
    batches: BatchCount | None = None
    weight: Values | None = None
    bias: Values | None = None
    class_path: str | None = None
    training: bool | None = None
    eps: float | None = None
    momentum: float | Momentum | None = None
    momentum_of: str = ""
    """The library whose default the momentum is; empty where the file itself has it."""
    affine: bool | None = None
    track_running_stats: bool | None = None
    absent_buffers: frozenset[str] = frozenset()
    """Buffers that are registered as None, so that they are known not to exist."""
    unregistered: tuple[str, ...] = ()
    """Statistics that lie in plain attributes instead of buffers."""
    uninitialised: bool = False
    """A lazy layer that never saw an input."""
    unread: Mapping[str, str] = field(default_factory=dict)
    """Tensors whose values could not be had, with the reason (meta, quantised)."""
    reached: bool = True
    """False for a module in a plain list or dict, which ``eval()`` does not reach."""
    aliases: tuple[str, ...] = ()
    norm_base: bool | None = None
    """Whether a state dict's metadata says that this is a BatchNorm or InstanceNorm; None
    where it has no metadata."""
    unit_offset: bool = False
    """Whether the kind adds 1 to its stored weight."""

    unknown_buffers: tuple[str, ...] = ()
    """Buffers of a module tree that no norm known here has."""

    @property
    def has_statistics(self) -> bool:
        """Whether both running statistics are stored, with values."""
        return self.running_mean is not None and self.running_var is not None

    @property
    def uses_statistics(self) -> bool:
        """Whether eval mode of this layer applies stored statistics."""
        return self.kind.family in (Family.BATCH, Family.FROZEN_BATCH) or self.has_statistics

    @property
    def assumed_eps(self) -> float:
        """What it adds to its variances; torch's default where the file does not tell."""
        return DEFAULT_EPS if self.eps is None else self.eps

    @property
    def negative_below(self) -> float:
        """The variance below which it is negative, and no constant channel's 0 after rounding."""
        return -ROUNDING * self.assumed_eps

    @property
    def any_negative_variance(self) -> bool:
        """Whether a running variance is below 0 by more than rounding, whatever the others are."""
        variance = self.running_var
        return variance is not None and variance.ends[0] < self.negative_below

    @property
    def at_initial_values(self) -> bool:
        """Whether every mean is exactly 0 and every variance exactly 1.

        Equality without a tolerance: an update with any real data moves every channel, if
        only in the last bit.
        """
        return (
            self.running_mean is not None
            and self.running_var is not None
            and self.running_mean.all_are(0.0)
            and self.running_var.all_are(1.0)
            and self.running_mean.size > 0
        )

    @property
    def affine_at_initial_values(self) -> bool:
        """Whether γ is exactly 1 and β exactly 0 in every channel; False without affine."""
        if self.weight is None:
            return False
        start = 0.0 if self.unit_offset else 1.0
        return self.weight.all_are(start) and (self.bias is None or self.bias.all_are(0.0))


def untouched_beside_others(layers: Sequence[NormLayer]) -> list[NormLayer]:
    """Layers whose γ and β were never trained, while those of others of their family were.

    In a model whose γ and β were all left alone, that says nothing; nor does it of a layer whose
    statistics are as they were built, too.
    """
    affine = [n for n in layers if n.weight is not None]
    # Looked at once for each layer: a model may have many thousands.
    still = [n for n in affine if n.affine_at_initial_values]
    kept = set(map(id, still))
    moved = {n.kind.family for n in affine if id(n) not in kept}
    return [n for n in still if n.kind.family in moved and not n.at_initial_values]


@lazy_dataclass(eq=False)
class PowerIteration:
    """The vectors that spectral normalization keeps of one weight."""

    path: str
    """Of the module whose weight it is."""
    vectors: Mapping[str, Values]
    follows: float | None = None
    """Cosine between u and the weight times v: 1 behind an iteration, next to 0 for vectors as they
    were drawn or of other weights; None where it was not computed."""
