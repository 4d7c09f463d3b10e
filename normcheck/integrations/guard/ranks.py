"""The check of statistics between processes, over the group's store: nobody waits for anybody."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from normcheck.integrations.guard.loop import Loop, Silent
from normcheck.live.training_record import RanksApart

if TYPE_CHECKING:
    from normcheck.integrations.guard.entries import WatchedModule
    from normcheck.integrations.guard.watched_norms import WatchedNorm

_FIRST = 8
"""Steps before the first comparison; each later one comes after eight times as many."""
_APART = 0.01
"""Standard deviations between averages that rounding cannot explain."""
_KEY = "normcheck-guard"
_TRIES = 64
"""Steps in which the first process looks whether the others have written."""


class AllRanks(Silent):
    """Statistics before a forward, as each process has them."""

    def __init__(self, loop: Loop) -> None:
        """Find the group, where there is one."""
        super().__init__(loop)
        self._store: Any = None
        self._next = _FIRST
        self._open = ""
        self._tries = 0
        self._mine: list[list[float]] = []
        self._done = False
        self.ranks = 1

    def before(self, entry: WatchedModule, *, gradients: bool) -> None:
        """Write what this process has, where it is time."""
        if self.loop.steps < self._next or not gradients or self._done:
            return
        self._next *= 8
        group = torch.distributed
        if not (group.is_available() and group.is_initialized()):
            return
        self.ranks = group.get_world_size()
        if self.ranks < 2:
            return
        if self._store is None:
            # The only way to a value that waits for nobody: collectives do.
            self._store = group.distributed_c10d._get_default_store()  # noqa: SLF001
        if not all(norm.ready for norm in self.loop.norms):
            return
        self._mine = [_numbers(norm) for norm in self.loop.norms]
        self._open, self._tries = f"{_KEY}/{self.loop.steps}", 0
        self._store.set(f"{self._open}/{group.get_rank()}", json.dumps(self._mine))

    def step(self, norms: Sequence[WatchedNorm]) -> None:
        """Compare, once all have written. Only the first process does."""
        if self._open:
            self.look()

    def look(self) -> None:
        """Compare if all have written."""
        if not self._open or self._done or torch.distributed.get_rank() != 0:
            return
        self._tries += 1
        keys = [f"{self._open}/{rank}" for rank in range(1, self.ranks)]
        if not self._store.check(keys):
            if self._tries >= _TRIES:
                self._open = ""
            return
        others = [json.loads(self._store.get(key)) for key in keys]
        self._open = ""
        if any(len(other) != len(self._mine) for other in others):
            return
        gaps = [
            max(_gap(mine, other[number]) for other in others)
            for number, mine in enumerate(self._mine)
        ]
        apart = [norm.path for norm, gap in zip(self.loop.norms, gaps, strict=True) if gap > _APART]
        if apart:
            self._done = True
            self.loop.tell(RanksApart(tuple(apart), self.loop.steps, "", self.ranks, max(gaps)))


def _numbers(norm: WatchedNorm) -> list[float]:
    """What tells statistics apart: their averages, and two sums that no exchange leaves alike."""
    mean, variance = norm.mean.detach().double(), norm.variance.detach().double()
    tilt = torch.linspace(-1.0, 1.0, mean.numel(), dtype=torch.float64, device=mean.device)
    found = torch.stack([mean.mean(), (mean * tilt).mean(), variance.mean()])
    return [float(value) for value in found]


def _gap(mine: list[float], other: list[float]) -> float:
    deviation = math.sqrt(max(mine[2], other[2], 1e-12))
    found = max(abs(mine[0] - other[0]), abs(mine[1] - other[1])) / deviation
    spread = abs(mine[2] - other[2]) / max(mine[2], other[2], 1e-12)
    return max(found, spread)
