"""A guard for the trainer of Hugging Face Transformers, as a callback."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from normcheck.integrations.guard.guard import guard
from normcheck.integrations.guarded_fit import GuardedFit
from normcheck.integrations.saved_files import scan_saved


class GuardCallback(GuardedFit, TrainerCallback):  # type: ignore[misc]  # typed only where it is installed
    """Watches ``trainer.train()``, and scans the checkpoint that it leaves.

    Its arguments are those of ``GuardedFit``.
    """

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
