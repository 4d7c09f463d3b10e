"""Checks of modes: eval mode while the optimizer steps, train mode where nothing is learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from normcheck.integrations.guard.loop import Loop, Silent
from normcheck.integrations.guard.user_line import CHECKPOINTING, named, user_frame, within
from normcheck.live.training_record import EvalSteps, IdleForwards

if TYPE_CHECKING:
    from normcheck.integrations.guard.entries import WatchedModule
    from normcheck.integrations.guard.watched_norms import WatchedNorm

PATIENCE = 3
"""Steps in eval mode in a row, or forwards without a step, that are no chance: a single one may be
a trial, three are a loop."""
_RARELY = 4
"""Steps for each validation of one or two batches; below that it is a part of the step, as
pseudo-labels are."""
_SETTLED = 8
"""Backward passes after which it is known how many forwards each takes."""
_REGULAR = 0.9
"""Share of the backward passes that must agree on it."""


class EvalModeSteps(Silent):
    """Norms in eval mode whose weights the optimizer changes."""

    def __init__(self, loop: Loop) -> None:
        """Nothing said yet."""
        super().__init__(loop)
        self._said: set[WatchedNorm] = set()

    def step(self, norms: Sequence[WatchedNorm]) -> None:
        """Count such steps of each norm; a healthy one costs a look at its flag."""
        certain = False
        for norm in norms:
            if norm.module.training:
                norm.eval_steps = 0
            elif self._took_part(norm):
                norm.eval_steps += 1
                certain = certain or (norm.eval_steps == PATIENCE and norm not in self._said)
        if certain:
            self._tell([n for n in norms if n.eval_steps >= PATIENCE and n not in self._said])

    def _took_part(self, norm: WatchedNorm) -> bool:
        if norm.frozen or (norm.parent is not None and norm.parent.training):
            # In a parent in train mode: nobody forgets a norm alone.
            return False
        if norm.own and all(parameter.grad is None for parameter in norm.own):
            return False
        updates = norm.updates
        if updates != norm.version:
            # It ran in train mode as well since then, or this is the first look at it.
            first, norm.version = norm.version == -1, updates
            return first
        return True

    def _tell(self, norms: list[WatchedNorm]) -> None:
        self._said.update(norms)
        self.loop.tell(
            EvalSteps(
                tuple(norm.path for norm in norms),
                self.loop.steps,
                named(user_frame()),
                steps=PATIENCE,
                whole=not self.loop.model.training,
                never_updated=all(norm.never_updated for norm in norms),
            )
        )


class ForwardsWithoutLearning(Silent):
    """Forwards in train mode after which nobody learns."""

    def __init__(self, loop: Loop) -> None:
        """Nothing seen yet."""
        super().__init__(loop)
        self._done = False
        self._unanswered = 0
        """Forwards with gradients since the last backward pass."""
        self._usual: Counter[int] = Counter()
        """How many there were before each."""
        self._gaps = 0
        """Steps before which one or two forwards ran without gradients."""
        self._counted: set[WatchedModule] = set()

    def answered(self) -> None:
        """A backward pass has reached the model's parameters."""
        if self._unanswered:
            self._usual[self._unanswered] += 1
            self._unanswered = 0

    def before(self, entry: WatchedModule, *, gradients: bool) -> None:
        """Count it, and tell where it cannot belong to a step."""
        if gradients:
            entry.taught = True
            self._unanswered += 1
            if self._unanswered > 3 and not self._done and self._too_many(entry):
                self._tell(entry, self._unanswered, without_gradients=False)
            return
        if self._done or not entry.taught or not self.loop.steps or not _updates(entry):
            return
        if entry.burst == PATIENCE - 1 and within(CHECKPOINTING):
            entry.taught = False  # it is recomputed later, with gradients
            return
        entry.burst += 1
        self._counted.add(entry)
        if entry.burst == PATIENCE:
            self._tell(entry, entry.burst, without_gradients=True)

    def step(self, norms: Sequence[WatchedNorm]) -> None:
        """See whether one or two forwards without gradients come back again and again."""
        self.answered()
        for entry in self._counted:
            if entry.burst and not self._done:
                self._gaps += 1
                if self._gaps >= PATIENCE and self.loop.steps >= _RARELY * self._gaps:
                    self._tell(entry, entry.burst, without_gradients=True)
            entry.burst = 0
        self._counted.clear()

    def _too_many(self, entry: WatchedModule) -> bool:
        total = self._usual.total()
        if total < _SETTLED:
            return False
        usual, often = self._usual.most_common(1)[0]
        regular = often >= _REGULAR * total
        return regular and self._unanswered > 2 * usual + 2 and _updates(entry)

    def _tell(self, entry: WatchedModule, forwards: int, *, without_gradients: bool) -> None:
        self._done = True
        self.loop.tell(
            IdleForwards(
                tuple(norm.path for norm in entry.norms if norm.updating and not norm.frozen),
                self.loop.steps,
                named(user_frame()),
                forwards,
                without_gradients,
            )
        )


def _updates(entry: WatchedModule) -> bool:
    """Whether the forward updates statistics that are being trained."""
    return any(norm.updating and not norm.frozen for norm in entry.norms)
