"""A guard for Lightning, as a callback of its trainer."""

from __future__ import annotations

from typing import Any

from normcheck.integrations.guard.guard import guard
from normcheck.integrations.guarded_fit import GuardedFit
from normcheck.integrations.saved_files import scan_saved

try:
    from lightning.pytorch.callbacks import Callback
except ImportError:
    from pytorch_lightning.callbacks import Callback


class GuardCallback(GuardedFit, Callback):  # type: ignore[misc]  # typed only where it is installed
    """Watches ``trainer.fit``, and scans the checkpoints that it leaves.

    Lightning keeps the mode of each part of a model: what is in eval mode when the fit begins, as
    pretrained models are, is trained in eval mode.

    Its arguments are those of ``GuardedFit``.
    """

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
