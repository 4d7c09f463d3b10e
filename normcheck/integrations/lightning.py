"""A guard for Lightning, as a callback of its trainer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from normcheck.integrations.guard.guard import Guard, guard
from normcheck.integrations.saved_files import scan_saved

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    from pytorch_lightning.callbacks import Callback

if TYPE_CHECKING:
    from normcheck.report.report import Report


class GuardCallback(Callback):  # type: ignore[misc]  # its types are there only where it is
    """Watches ``trainer.fit``, and scans the checkpoints that it leaves.

    Lightning keeps the mode of each part of a model: what is in eval mode when the fit begins, as
    pretrained models are, is trained in eval mode.

    Args:
        frozen: Patterns of norms that stay in eval mode on purpose.
        select: Rules to watch by; by default all of ``NC7``.
        ignore: Rules to leave out.
        strict: Raise instead of warning.
        scan_saved: Scan the best and the last checkpoint when the fit ends.
    """

    def __init__(
        self,
        *,
        frozen: Iterable[str] = (),
        select: Iterable[str] = (),
        ignore: Iterable[str] = (),
        strict: bool = False,
        scan_saved: bool = True,
    ) -> None:
        """See the class."""
        super().__init__()
        self._words: dict[str, Any] = {
            "frozen": frozen,
            "select": select,
            "ignore": ignore,
            "strict": strict,
        }
        self._strict = strict
        self._scan = scan_saved
        self.guard: Guard | None = None
        """The guard of the last fit; ``guard.report()`` says what it saw."""
        self.saved: Report | None = None
        """The scan of what the last fit saved; None where it saved nothing."""

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Begin, after the sanity check of the validation."""
        self.guard = guard(pl_module, list(trainer.optimizers) or None, **self._words)

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        """Close the guard."""
        if self.guard is not None:
            self.guard.close()

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        """Close the guard, and say nothing over the error."""
        if self.guard is not None:
            self.guard.__exit__(type(exception), exception, None)

    def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
        """Scan what was saved, in one process."""
        if not self._scan or not trainer.is_global_zero:
            return
        files = [
            path
            for callback in trainer.checkpoint_callbacks
            for name in ("best_model_path", "last_model_path")
            if (path := getattr(callback, name, ""))
        ]
        self.saved = scan_saved(files, strict=self._strict)
