"""A guard for a loop with Accelerate, around what ``prepare`` returned."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from normcheck.integrations.guard.guard import Guard, guard
from normcheck.integrations.saved_files import scan_saved as scanned

if TYPE_CHECKING:
    from accelerate import Accelerator


@contextmanager
def guarded(
    accelerator: Accelerator,
    model: Any,
    optimizer: Any = None,
    *,
    frozen: Iterable[str] = (),
    select: Iterable[str] = (),
    ignore: Iterable[str] = (),
    strict: bool = False,
    scan_saved: bool = True,
) -> Iterator[Guard]:
    """Watch a loop, and scan what ``accelerator.save_state`` wrote in it.

    Args:
        accelerator: Of the loop.
        model: As ``prepare`` returned it.
        optimizer: As ``prepare`` returned it, or several.
        frozen: Patterns of norms that stay in eval mode on purpose.
        select: Rules to watch by; by default all of ``NC7``.
        ignore: Rules to leave out.
        strict: Raise instead of warning.
        scan_saved: Scan the last state that was saved, when the loop ends without an error.

    Yields:
        The guard.

    Raises:
        GuardError: In the loop or at its end, where ``strict`` is set.
    """
    folders: list[str] = []

    def noted(_models: Any, _weights: Any, folder: str) -> None:
        folders.append(folder)

    handle = accelerator.register_save_state_pre_hook(noted)
    words: dict[str, Any] = {"frozen": frozen, "select": select, "ignore": ignore}
    try:
        with guard(accelerator.unwrap_model(model), optimizer, strict=strict, **words) as watching:
            yield watching
    finally:
        handle.remove()
    if scan_saved and folders and accelerator.is_main_process:
        last = Path(folders[-1])
        names = ("*.safetensors", "pytorch_model*.bin")
        scanned([file for name in names for file in sorted(last.glob(name))], strict=strict)
