"""What a file or a model may take, from the words of the flags."""

import os
import re
from collections.abc import Sequence
from dataclasses import fields, replace

from normcheck.errors import UsageError
from normcheck.live.run_request import Isolation
from normcheck.sources.limits import DEFAULT_LIMITS, Limits

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4}
_SHARE = 0.75
"""Of the machine's memory that a run may take where nobody says how much."""


def size_in_bytes(text: str, flag: str) -> int:
    """``8G`` as bytes; a number without a letter is bytes.

    Raises:
        UsageError: It is no size.
    """
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise UsageError(f"{flag} {text:.40}: not a size", "a number, or 500M, 8G")
    return int(float(found[1]) * 1024 ** _POWERS[found[2].lower()])


def read_limits(words: Sequence[str], limits: Limits = DEFAULT_LIMITS) -> Limits:
    """The limits with those of ``--limit`` in place.

    Raises:
        UsageError: An unknown limit, or no number.
    """
    names = [field.name.replace("_", "-") for field in fields(Limits)]
    for word in words:
        name, equals, value = word.partition("=")
        if not equals or name not in names:
            raise UsageError(f"--limit {word:.60}: no such limit", f"NAME=N, of {', '.join(names)}")
        limits = replace(
            limits, **{name.replace("-", "_"): size_in_bytes(value, f"--limit {name}")}
        )
    return limits


def isolation(seconds: float, memory: str, *, jobs: int = 1, off: bool) -> Isolation | None:
    """The bounds of the process that runs models; None where it is to be this one.

    Args:
        seconds: Of one run.
        memory: Of one run, as the user wrote it; empty for a share of the machine's.
        jobs: How many runs share that.
        off: Whether there is to be no such process.

    Raises:
        UsageError: The memory is no size.
    """
    if off:
        return None
    most = size_in_bytes(memory, "--memory-limit") if memory else _machine_share() // jobs
    return Isolation(seconds, most)


def _machine_share() -> int:
    try:
        whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return 0
    return int(whole * _SHARE)
