"""What training loops, optimizers and schedulers count beside a model, as values."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from normcheck.lazy_dataclass import lazy_dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable


class Unit(IntEnum):
    """What a clock counts, what tells most of a norm's batches first."""

    BATCHES = 1
    """Batches that a training loop went through: as many forward passes, one after another."""
    STEPS = 2
    """Steps of an optimizer, fewer than batches where gradients are accumulated."""
    AT_LEAST = 3
    """Steps of a learning rate's schedule, once a step or once an epoch; never more than steps."""
    EPOCHS = 4


@lazy_dataclass()
class Clock:
    """One count of a file."""

    name: str
    """Where it lies: ``global_step``, ``lr_schedulers[0].last_epoch``."""
    value: int
    unit: Unit

    @property
    def what(self) -> str:
        """What is counted, in a word or three."""
        units = {Unit.BATCHES: "batches", Unit.STEPS: "steps", Unit.EPOCHS: "epochs"}
        return units.get(self.unit, "steps or epochs")


OPTIMIZER = "the optimizer's step"
"""The name of the clock that an optimizer keeps of its parameters."""


def of_optimizer(steps: int | None) -> tuple[Clock, ...]:
    """The clock of a file's only optimizer; empty where it counted nothing."""
    return (Clock(OPTIMIZER, steps, Unit.STEPS),) if steps else ()


def merged(clocks: Iterable[Clock]) -> tuple[Clock, ...]:
    """Clocks of several files that are one checkpoint: of each name the furthest."""
    furthest: dict[str, Clock] = {}
    for clock in clocks:
        known = furthest.get(clock.name)
        if known is None or known.value < clock.value:
            furthest[clock.name] = clock
    return tuple(furthest.values())


def telling(clocks: Iterable[Clock]) -> Clock | None:
    """The clock that tells most of how many batches a norm should have counted.

    Of those of the best unit the furthest: a loop that was resumed may begin anew, while the
    optimizer's state goes on. None where there is none.
    """
    return min(clocks, key=lambda clock: (clock.unit, -clock.value), default=None)


def epochs(clocks: Iterable[Clock]) -> int | None:
    """Epochs that a file says are complete or begun; None where it says nothing of them."""
    return max((clock.value for clock in clocks if clock.unit is Unit.EPOCHS), default=None)
