"""What a guard saw of a training loop: plain values, on which rules judge. No torch."""

from __future__ import annotations

from typing import TypeVar

from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Incident:
    """Something that a healthy loop does not do, at the moment at which it was certain."""

    layers: tuple[str, ...]
    """Paths of the norms."""
    step: int
    """Steps of the optimizer before it was seen."""
    line: str
    """``train.py:42``, of the user's code that called; empty where no such code did."""


@lazy_dataclass()
class EvalSteps(Incident):
    """Norms that took part in steps of the optimizer in eval mode."""

    steps: int
    """Such steps in a row."""
    whole: bool
    """Whether the model itself was in eval mode, and not a part of it."""
    never_updated: bool
    """Whether the statistics are still the initial 0 and 1."""


@lazy_dataclass()
class IdleForwards(Incident):
    """Forwards in train mode from which nothing was learned."""

    forwards: int
    without_gradients: bool
    """Whether they ran under ``no_grad``; otherwise nobody called ``backward``."""


@lazy_dataclass()
class StoodStill(Incident):
    """Norms in train mode whose statistics did not move while weights did."""

    steps: int
    """Steps in which no bit of them changed."""
    zero_momentum: bool
    """Whether all of them have a momentum of 0."""


@lazy_dataclass()
class SmallBatches(Incident):
    """Norms that were given few samples a batch, again and again."""

    samples: int
    """In the largest of these batches, over all processes that share statistics."""
    forwards: int
    """Forwards that were looked at, all of them as small."""


@lazy_dataclass()
class NonFiniteBatch(Incident):
    """The batch after which running statistics were not finite."""

    forward: int
    """Number of the forward, from 1."""
    earliest: int
    """The earliest forward that it can have been; equal to ``forward`` where that is certain."""
    input_was: str
    """What was seen of the model's input: ``3 NaN in 1x3x8x8``; empty where it was finite or
    is not known."""
    input_known: bool
    """Whether the input was still there to be looked at."""


@lazy_dataclass()
class RanksApart(Incident):
    """Statistics that are not the same in all processes."""

    ranks: int
    apart: float
    """Largest distance of a layer's average mean between processes, in standard deviations."""


@lazy_dataclass()
class CountedTwice(Incident):
    """Norms that were updated again after the forward, before the step."""

    updates: int
    """In all, for a forward that makes ``expected`` of them."""
    expected: int


Kind = TypeVar("Kind", bound=Incident)


@lazy_dataclass()
class TrainingRecord:
    """All that a guard saw so far."""

    incidents: tuple[Incident, ...] = ()
    steps: int = 0
    """Of the optimizer."""
    forwards: int = 0
    watched: tuple[str, ...] = ()
    """Norms with running statistics."""
    frozen: tuple[str, ...] = ()
    """Those of them that are frozen on purpose, and not judged."""
    ranks: int = 1
    """Processes of the run."""

    def of(self, kind: type[Kind]) -> tuple[Kind, ...]:
        """The incidents of one kind, in their order."""
        return tuple(entry for entry in self.incidents if isinstance(entry, kind))
