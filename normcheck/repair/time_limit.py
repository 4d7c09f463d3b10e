"""An end for what takes too long in this very process."""

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from normcheck import platforms
from normcheck.errors import NormcheckError


class _TimeUp(BaseException):
    """Raised wherever the work is when its time is up."""


@contextmanager
def stopped_after(seconds: float) -> Iterator[None]:
    """Ends the block where it takes longer.

    What the block does in its ``finally`` is done. A single call of native code is not interrupted
    before it returns.

    Args:
        seconds: 0 for no limit.

    Raises:
        NormcheckError: It was ended.
    """
    if not seconds:
        yield
        return
    try:
        disarm = _armed(seconds)
        try:
            yield
        finally:
            disarm()
    except _TimeUp:
        raise NormcheckError(
            f"the run was stopped after {seconds:,.6g} seconds; nothing was written",
            "if it is only slow, raise --time-limit (0 for none), or lower --samples",
        ) from None


def _armed(seconds: float) -> Callable[[], None]:
    """Sets the clock, and gives what stops it."""
    # Where there is an alarm, it also ends a wait, as for a worker that never answers.
    disarm = platforms.alarm(seconds, _ring)
    if disarm is not None:
        return disarm
    thread = ctypes.c_ulong(threading.get_ident())
    timer = threading.Timer(
        seconds,
        lambda: ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_TimeUp)),
    )
    timer.daemon = True
    timer.start()
    return timer.cancel


def _ring() -> None:
    raise _TimeUp
