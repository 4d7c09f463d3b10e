"""What callbacks of trainers have in common: what they are told, and what they keep of a fit."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from normcheck.integrations.guard.guard import Guard
    from normcheck.report.report import Report


class GuardedFit:
    """To be inherited before the trainer's own class of callbacks, where it has one.

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
