"""Checks of what is in the statistics, and of what norms are given."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from normcheck.integrations.guard.entries import Quiet
from normcheck.integrations.guard.loop import Loop, Silent
from normcheck.integrations.guard.user_line import named, user_frame
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.training_record import CountedTwice, NonFiniteBatch, SmallBatches, StoodStill
from normcheck.rules.training.few_samples_per_batch import FEW

if TYPE_CHECKING:
    from normcheck.integrations.guard.entries import WatchedModule
    from normcheck.integrations.guard.watched_norms import WatchedNorm

_SIGHTINGS = 3
"""Forwards in a row with a small batch; a single one is the rest at the end of an epoch."""
_STILL = 8
"""Fewest steps in which not a bit of a statistic changes, where a single batch changes all."""
_ACCELERATOR_EVERY = 32
"""Steps between looks at values on a device: each waits for it."""


class CloserLook(Silent):
    """Sizes of batches, and updates that the forward did not make, in forwards that are sampled."""

    def __init__(self, loop: Loop) -> None:
        """Nothing seen yet."""
        super().__init__(loop)
        self.order: list[WatchedNorm] = []
        """The norms in the order in which they ran last, in train mode."""
        self._handles: list[RemovableHandle] = []
        self._now: WatchedModule | None = None
        self._started: dict[WatchedNorm, int] = {}
        self._made: dict[WatchedModule, dict[WatchedNorm, tuple[int, int]]] = {}
        """Updates of each norm by the forward, and its number of updates after it."""
        self._said: set[WatchedNorm] = set()
        self._twice = 0

    def before(self, entry: WatchedModule, *, gradients: bool) -> None:
        """Look at the norms of this forward, where it is one of those that are sampled."""
        if not self.loop.sampled or not gradients or entry in self._made:
            return
        norms = [norm for norm in entry.norms if norm.module.training and not norm.frozen]
        if not norms:
            return
        if not self._made:
            self.order = []
        self._now = entry
        self._started = {norm: norm.updates for norm in norms}
        for norm in norms:
            hook = Quiet(self._noting(norm))
            self._handles.append(norm.module.register_forward_pre_hook(hook))

    def after(self, entry: WatchedModule) -> None:
        """Take the hooks away, and judge what the norms were given."""
        if self._now is not entry:
            return
        self._now = None
        self.close()
        self._made[entry] = {
            norm: (norm.updates - before, norm.updates) for norm, before in self._started.items()
        }
        self._judge_sizes()

    def step(self, norms: Sequence[WatchedNorm]) -> None:
        """See whether anything was updated after its forward."""
        again = {
            norm: (made, norm.updates - then)
            for entry, counts in self._made.items()
            if entry.forwards == 1  # of several nobody knows which updated what
            for norm, (made, then) in counts.items()
            if 0 < made <= norm.updates - then
        }
        self._made = {}
        if not again:
            return
        self._twice += 1
        if self._twice == _SIGHTINGS - 1:
            made, more = next(iter(again.values()))
            paths = tuple(norm.path for norm in again)
            line = named(user_frame())
            self.loop.tell(CountedTwice(paths, self.loop.steps, line, made + more, made))

    def close(self) -> None:
        """Take all hooks away."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _noting(self, norm: WatchedNorm) -> Any:
        def note(module: nn.Module, inputs: tuple[Any, ...]) -> None:
            given = inputs[0] if inputs else None
            if isinstance(given, Tensor) and given.dim() > 1:
                norm.samples = given.shape[0] * _processes(module)
                self.order.append(norm)

        return note

    def _judge_sizes(self) -> None:
        for norm in dict.fromkeys(self.order):
            norm.small = norm.small + 1 if norm.per_batch and norm.samples < FEW else 0
        small = [n for n in dict.fromkeys(self.order) if n.small >= _SIGHTINGS]
        if new := [norm for norm in small if norm not in self._said]:
            self._said.update(new)
            most = max(norm.samples for norm in new)
            paths = tuple(norm.path for norm in new)
            line = named(user_frame())
            self.loop.tell(SmallBatches(paths, self.loop.steps, line, most, _SIGHTINGS))


def _processes(module: nn.Module) -> int:
    """How many processes share their batches in this norm."""
    group = torch.distributed
    if not isinstance(module, nn.SyncBatchNorm) or not group.is_available():
        return 1
    return group.get_world_size(module.process_group) if group.is_initialized() else 1


@lazy_dataclass(eq=False)
class _Then:
    """A norm as it was some steps before."""

    step: int
    mean: Tensor
    variance: Tensor
    weights: tuple[Tensor, ...]
    updates: int


class StandingStill(Silent):
    """Statistics in train mode of which no bit changes while weights do."""

    def __init__(self, loop: Loop) -> None:
        """Nothing seen yet."""
        super().__init__(loop)
        self._then: dict[WatchedNorm, _Then] = {}
        self._said: set[WatchedNorm] = set()

    def before(self, entry: WatchedModule, *, gradients: bool) -> None:
        """A norm that is not in train mode now has no statistics that should move."""
        if self.loop.sampled and gradients:
            for norm in entry.norms:
                if not norm.module.training:
                    self._then.pop(norm, None)

    def step(self, norms: Sequence[WatchedNorm]) -> None:
        """Compare with some steps before."""
        if not self.loop.sampled:
            return
        steps = self.loop.steps
        due = [
            norm
            for norm in norms
            if norm.ready and (norm not in self._then or steps - self._then[norm].step >= _STILL)
        ]
        still = [norm for norm in due if norm not in self._said and self._stood(norm)]
        if still:
            self._said.update(still)
            self.loop.tell(
                StoodStill(
                    tuple(norm.path for norm in still),
                    steps,
                    named(user_frame()),
                    steps=steps - self._then[still[0]].step,
                    zero_momentum=all(norm.momentum == 0 for norm in still),
                )
            )
        for norm in due:
            if norm.module.training and not norm.frozen:
                self._then[norm] = _Then(
                    steps,
                    norm.mean.detach().clone(),
                    norm.variance.detach().clone(),
                    tuple(parameter.detach().clone() for parameter in norm.own),
                    norm.updates,
                )

    def _stood(self, norm: WatchedNorm) -> bool:
        then = self._then.get(norm)
        if then is None or not norm.module.training:
            return False
        moved = any(not torch.equal(a, b) for a, b in zip(then.weights, norm.own, strict=True))
        if not moved and norm.updates == then.updates:
            return False  # it did not run
        same = torch.equal(then.mean, norm.mean) and torch.equal(then.variance, norm.variance)
        # A NaN equals nothing, and infinity stays: those are another finding.
        return same and bool(torch.isfinite(then.mean).all())


class FiniteValues(Silent):
    """The batch after which statistics are not finite: NaN stays, and spreads to later norms."""

    def __init__(self, loop: Loop, look: CloserLook) -> None:
        """Everything finite so far.

        Args:
            loop: Where it stands.
            look: Knows the order in which norms run.
        """
        super().__init__(loop)
        self._look = look
        self._done = False
        self._good = 0
        """Forwards after which all was finite."""

    def step(self, norms: Sequence[WatchedNorm]) -> None:
        """Look at the norm that ran last; on an accelerator only now and then."""
        if self._done:
            return
        order = self._look.order or norms
        if not order or not order[-1].ready:
            return
        witness = order[-1].variance
        if witness.device.type != "cpu" and self.loop.steps % _ACCELERATOR_EVERY:
            return
        # Only a sum that is not finite is looked into: it may be one of huge values.
        if not self.loop.sampled and _finite(float(witness.sum())):
            self._good = self.loop.forwards
            return
        self.look(norms)

    def look(self, norms: Sequence[WatchedNorm]) -> None:
        """Look at all norms."""
        if self._done:
            return
        rank = {norm: number for number, norm in enumerate(self._look.order)}
        there = [norm for norm in norms if norm.ready]
        ordered = sorted(there, key=lambda norm: rank.get(norm, len(rank)))
        bad = [
            norm
            for norm in ordered
            if not (_finite(float(norm.mean.sum())) and _finite(float(norm.variance.sum())))
            and not bool(torch.isfinite(torch.stack([norm.mean, norm.variance])).all())
        ]
        if not bad:
            self._good = self.loop.forwards
            return
        self._done = True
        earliest = min(self._good + 1, self.loop.forwards)
        inputs = [ref() for ref in self.loop.input]
        known = [tensor for tensor in inputs if tensor is not None]
        certain = earliest == self.loop.forwards
        self.loop.tell(
            NonFiniteBatch(
                tuple(norm.path for norm in bad),
                self.loop.steps,
                named(user_frame()),
                forward=self.loop.forwards,
                earliest=earliest,
                input_was=next(filter(None, map(_not_finite, known)), "") if certain else "",
                input_known=bool(known) and certain,
            )
        )


def _finite(value: float) -> bool:
    return value - value == 0


def _not_finite(tensor: Tensor) -> str:
    """What of a tensor is not finite, in words; empty for nothing."""
    shape = "x".join(map(str, tensor.shape))
    nan, infinite = int(torch.isnan(tensor).sum()), int(torch.isinf(tensor).sum())
    words = [f"{count:,} {name}" for count, name in ((nan, "NaN"), (infinite, "infinite values"))
             if count]  # fmt: skip
    return f"{' and '.join(words)} in {shape}" if words else ""
