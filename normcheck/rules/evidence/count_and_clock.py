"""Batches that norms counted against how far a file says that the model was trained.

Measured: plain training gives as many batches as steps; accumulation over four batches 40 to 10;
two views or gradient checkpointing 80 to 40; a validation in train mode 82 to 40; training in
eval mode 0. So more batches than steps say nothing of the statistics, and far fewer say that most
steps did not update them, or that the count is not that of this training: it was reset
(``torch.optim.swa_utils.update_bn``) or copied (an EMA).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.clocks import OPTIMIZER, Clock, Unit, epochs, telling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from normcheck.norms.layer import NormLayer
    from normcheck.rules.rule import Subject

BEHIND = 0.5
"""Batches for each step below which most steps did not update a layer."""
FEWEST = 10
"""Steps below which a ratio says nothing."""


@lazy_dataclass()
class Lag:
    """A count that is far behind the training."""

    counted: int
    """The most that one of the layers counted."""
    clock: Clock
    one_epoch: bool
    """Whether it is exactly the number of steps of one of several epochs."""

    @property
    def sentence(self) -> str:
        """The two numbers, in a sentence."""
        most = f"{self.counted:,} of them" if self.counted else "None of them"
        return f"{who_counted(self.clock)}; {most} at most updated these layers."


def who_counted(clock: Clock) -> str:
    """What a clock has counted, as the beginning of a sentence."""
    value = f"{clock.value:,}"
    if clock.name == OPTIMIZER:
        return f"The optimizer saved with it counted {value} steps"
    if clock.unit is Unit.BATCHES:
        return f"The training loop saved with it went through {value} batches"
    return f"The training loop saved with it counted {value} {clock.what} ({clock.name})"


def lag(subject: Subject, layers: Sequence[NormLayer]) -> Lag | None:
    """How far the counts of some layers are behind the training; None where they are not.

    None, too, where the file holds several optimizers, or a copy of the model whose layers of the
    same names did count: then the counts of this one are a matter of how it was copied.
    """
    counts = [int(n.batches.value) for n in layers if n.batches is not None and n.batches.whole]
    clock = telling(subject.clocks)
    if clock is None or not counts or clock.value < FEWEST:
        return None
    if max(counts) >= BEHIND * clock.value or _copied(subject, layers, max(counts)):
        return None
    return Lag(max(counts), clock, _one_epoch(subject, max(counts), clock))


def _copied(subject: Subject, layers: Sequence[NormLayer], counted: int) -> bool:
    features = {n.features for n in layers}
    return any(
        other.batches is not None
        and other.batches.value > counted / BEHIND
        and other.features in features
        for sibling in subject.siblings
        for other in sibling.layers
    )


def _one_epoch(subject: Subject, counted: int, clock: Clock) -> bool:
    """Whether as many batches were counted as one epoch has.

    Loops store the number of the epoch they are in, from 0, or how many are complete.
    """
    known = epochs(subject.clocks)
    if known is None or clock.unit not in (Unit.BATCHES, Unit.STEPS):
        return False
    return any(e > 1 and counted * e == clock.value for e in (known, known + 1))
