"""What a trainer has saved, scanned when the training ends."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING

from normcheck.api.scan import scan
from normcheck.errors import GuardError, GuardWarning

if TYPE_CHECKING:
    from normcheck.report.report import Report


def scan_saved(files: Iterable[str | os.PathLike[str]], *, strict: bool) -> Report | None:
    """Scan checkpoints that were just written, and say what is wrong with them.

    Args:
        files: Files and folders; those that are not there are left out.
        strict: Raise where there is a finding that fails a run.

    Returns:
        The report; None where nothing was saved.

    Raises:
        GuardError: ``strict`` is set, and there is such a finding.

    Warns:
        GuardWarning: There is such a finding; once for all files.
    """
    there = [os.fspath(file) for file in dict.fromkeys(files) if os.path.exists(file)]  # noqa: PTH110
    if not there:
        return None
    report = scan(there)
    failing = report.fails()
    if failing:
        first = failing[0]
        more = f" and {len(failing) - 1} more" if len(failing) > 1 else ""
        text = f"what was saved is not healthy: {first.model}: {first.message} ({first.rule}){more}"
        if strict:
            raise GuardError(text, first.fix)
        warnings.warn(f"{text}. Fix: {first.fix}", GuardWarning, stacklevel=2)
    return report
