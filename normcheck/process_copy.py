"""A copy of this process as it stands, where the system can make one: on Linux.

Starting a process anew takes ten times as long, as it has to import everything again.
"""

import contextlib
import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

_LOOK_SECONDS = 0.005
"""Between two looks whether a copy has ended."""
_FIRST_OPENED = 3
"""Descriptor after stdin, stdout and stderr."""


def can_copy() -> bool:
    """Whether this process can be copied as it stands: on Linux, where it has a single thread.

    What another thread has locked would stay locked in the copy for ever, and libraries of macOS
    refuse to work in one.
    """
    with contextlib.suppress(OSError):
        threads = os.listdir("/proc/self/task") if hasattr(os, "fork") else ()
        return sys.platform == "linux" and len(threads) == 1
    return False


def copied(work: "Callable[[str], object]") -> "tuple[Copy, socket.socket]":
    """As ``started``, but a copy of this process: what is imported here need not be there.

    Nothing else is shared: its files are closed there, and what it prints goes to stderr.

    Args:
        work: What it does, given the word for ``linked``; with its end the copy ends.

    Raises:
        OSError: There can be no further process.
    """
    import socket

    if sys.platform != "win32":
        ours, theirs = socket.socketpair()
        # Ctrl-C waits until it is known whom it is for: the copy has a session of its own then.
        heeded = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            with theirs:
                process = os.fork()
                if not process:
                    _be_copy(work, theirs.fileno(), heeded)
            ours.recv(1)
            copy = Copy(process)
        except BaseException:
            ours.close()
            signal.pthread_sigmask(signal.SIG_SETMASK, heeded)
            raise
        try:
            signal.pthread_sigmask(signal.SIG_SETMASK, heeded)
        except BaseException:  # it came meanwhile
            copy.terminate()
            ours.close()
            raise
        return copy, ours
    raise OSError("this system makes no copies of processes")


def _be_copy(work: "Callable[[str], object]", link: int, heeded: "set[Any]") -> NoReturn:
    """Work, and end without a step back into what the process was doing that was copied."""
    import gc
    import traceback

    code = 1
    try:
        if sys.platform != "win32":
            # What came before this moment was for the process that was copied.
            heeding = signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.setsid()
            signal.signal(signal.SIGINT, heeding)
            signal.pthread_sigmask(signal.SIG_SETMASK, heeded)
        os.closerange(_FIRST_OPENED, link)
        os.closerange(link + 1, 1 + max(map(int, os.listdir("/proc/self/fd"))))
        # Objects that had these files must not be found dead: they would close others' numbers.
        gc.freeze()
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, 0)
        os.close(nowhere)
        os.dup2(2, 1)
        # Not the old ones: what waits in their buffers is written by the process that was copied.
        sys.stdout, sys.stderr = (
            os.fdopen(number, "w", 1, errors="backslashreplace", closefd=False) for number in (1, 2)
        )
        os.write(link, b"\0")
        work(str(link))
        code = 0
    except BrokenPipeError:
        pass  # the other process is gone, and with it all that this one was for
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


class Copy:
    """A process of ``copied``, with as much of ``Popen`` as is asked here."""

    def __init__(self, pid: int) -> None:
        """Of a child of this process."""
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """How it ended, as ``Popen.returncode`` has it; None while it goes on."""
        return self._ended(waits=False)

    def wait(self, timeout: float | None = None) -> int:
        """The same when it has ended.

        Raises:
            subprocess.TimeoutExpired: It goes on for so many seconds.
        """
        import subprocess

        until = time.monotonic() + timeout if timeout is not None else 0.0
        while (code := self._ended(waits=timeout is None)) is None:
            if timeout is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("a copy", timeout)
            time.sleep(_LOOK_SECONDS)
        return code

    def _ended(self, *, waits: bool) -> int | None:
        if sys.platform != "win32" and self.returncode is None:
            pid, status = os.waitpid(self.pid, 0 if waits else os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def terminate(self) -> None:
        """Ask it to end."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGTERM)

    kill = terminate  # on Windows alone ``end`` asks for it, and there are no copies there
