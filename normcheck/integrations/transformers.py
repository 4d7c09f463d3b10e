"""A guard for the trainer of Hugging Face Transformers, as a callback."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback

from normcheck.integrations.guard.guard import Guard, guard
from normcheck.integrations.saved_files import scan_saved

if TYPE_CHECKING:
    from normcheck.report.report import Report


class GuardCallback(TrainerCallback):  # type: ignore[misc]  # its types are there only where it is
    """Watches ``trainer.train()``, and scans the checkpoint that it leaves.

    Args:
        frozen: Patterns of norms that stay in eval mode on purpose.
        select: Rules to watch by; by default all of ``NC7``.
        ignore: Rules to leave out.
        strict: Raise instead of warning.
        scan_saved: Scan the best and the last checkpoint when the training ends.
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
        """The guard of the last training; ``guard.report()`` says what it saw."""
        self.saved: Report | None = None
        """The scan of what the last training saved; None where it saved nothing."""

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, **_words: Any
    ) -> None:
        """Begin."""
        if model is not None:
            self.guard = guard(model, **self._words)

    def on_train_end(self, args: Any, state: Any, control: Any, **_words: Any) -> None:
        """Close the guard, and scan what was saved, in one process."""
        if self.guard is not None:
            self.guard.close()
        if not self._scan or not state.is_world_process_zero:
            return
        folders = [Path(args.output_dir, f"checkpoint-{state.global_step}")]
        if state.best_model_checkpoint:
            folders.append(Path(state.best_model_checkpoint))
        # Beside the weights lie the optimizer's state and the arguments, which are pickles.
        files = [file for folder in folders for file in sorted(folder.glob("*.safetensors"))]
        self.saved = scan_saved(files, strict=self._strict)
