"""A guard for an engine of PyTorch Ignite, as a handler."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ignite.engine import Engine, Events

from normcheck.integrations.guard.guard import guard
from normcheck.integrations.guarded_fit import GuardedFit
from normcheck.integrations.saved_files import scan_saved

if TYPE_CHECKING:
    from torch import nn


class GuardHandler(GuardedFit):
    """Watches the runs of a trainer, and scans the checkpoint that they leave.

    Args:
        model: That is trained.
        optimizer: Whose steps count, or several; by default all that hold the model's parameters.
        checkpoint: The handler that saves, an ``ignite.handlers.Checkpoint``; its last file is
            scanned when the run ends.
        frozen: Patterns of norms that stay in eval mode on purpose.
        select: Rules to watch by; by default all of ``NC7``.
        ignore: Rules to leave out.
        strict: Raise instead of warning.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        checkpoint: Any = None,
        frozen: Iterable[str] = (),
        select: Iterable[str] = (),
        ignore: Iterable[str] = (),
        strict: bool = False,
    ) -> None:
        """See the class."""
        super().__init__(frozen=frozen, select=select, ignore=ignore, strict=strict)
        self._model = model
        self._optimizer = optimizer
        self._checkpoint = checkpoint

    def attach(self, trainer: Engine) -> GuardHandler:
        """Watch a trainer.

        Args:
            trainer: Its runs are watched from their start to their end.

        Returns:
            Itself.
        """
        trainer.add_event_handler(Events.STARTED, self._started)
        trainer.add_event_handler(Events.COMPLETED | Events.TERMINATE, self._ended)
        trainer.add_event_handler(Events.EXCEPTION_RAISED, self._broke)
        return self

    def _started(self, _engine: Engine) -> None:
        self.guard = guard(self._model, self._optimizer, **self._words)

    def _broke(self, _engine: Engine, error: BaseException) -> None:
        if self.guard is not None:
            self.guard.__exit__(type(error), error, None)
        # Ignite hands an error to its handlers instead of raising it.
        raise error

    def _ended(self, _engine: Engine) -> None:
        if self.guard is None:
            return
        self.guard.close()
        last = getattr(self._checkpoint, "last_checkpoint", None)
        if last is not None:
            self.saved = scan_saved([last], strict=self._strict)
