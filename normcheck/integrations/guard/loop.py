"""A training loop as its checks see it: where it stands, and where their findings go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field
from typing import TYPE_CHECKING, Any, Protocol

from normcheck.lazy_dataclass import lazy_dataclass

if TYPE_CHECKING:
    from torch import nn

    from normcheck.integrations.guard.entries import WatchedModule
    from normcheck.integrations.guard.watched_norms import WatchedNorm
    from normcheck.live.training_record import Incident


@lazy_dataclass(frozen=False, eq=False)
class Loop:
    """Where the loop stands."""

    model: nn.Module
    norms: Sequence[WatchedNorm]
    tell: Callable[[Incident], None]
    """Takes an incident, at the moment at which it is certain."""
    steps: int = 0
    """Of the optimizer."""
    forwards: int = 0
    """Outside of backward passes."""
    sampled: bool = True
    """Whether the forwards from here to the next step are looked at more closely."""
    input: Sequence[Any] = field(default=())
    """Weak references to the tensors that the last forward was given."""


class Check(Protocol):
    """One thing that a healthy loop does not do."""

    def before(self, entry: WatchedModule, *, gradients: bool) -> None:
        """A forward begins, outside of a backward pass.

        Args:
            entry: Where it enters the model.
            gradients: Whether it records what ``backward`` needs.
        """

    def after(self, entry: WatchedModule) -> None:
        """It ended."""

    def step(self, norms: Sequence[WatchedNorm]) -> None:
        """The optimizer made a step.

        Args:
            norms: Those that it concerns.
        """


class Silent:
    """A check that looks at nothing: others override what they need."""

    def __init__(self, loop: Loop) -> None:
        """Watch a loop.

        Args:
            loop: Where it stands, kept up to date by the guard.
        """
        self.loop = loop

    def before(self, entry: WatchedModule, *, gradients: bool) -> None:
        """Nothing."""

    def after(self, entry: WatchedModule) -> None:
        """Nothing."""

    def step(self, norms: Sequence[WatchedNorm]) -> None:
        """Nothing."""


_ALWAYS = 4
"""First steps that are all looked at closely."""


def is_sampled(steps: int) -> bool:
    """Whether what follows so many steps is looked at closely: ever more rarely."""
    return steps < _ALWAYS or steps & (steps - 1) == 0
