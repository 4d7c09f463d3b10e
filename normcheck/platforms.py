"""Where systems differ: reading at an offset, processes and their ends, memory, paths.

Whatever Linux, macOS and Windows do not have in common is asked for here and nowhere else; a
test sees to that. What a system lacks has a way around it, and where there is none, the answer
says so (0 bytes, False, None), for whoever asks to tell the user.
"""

import contextlib
import os
import re
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import Callable
    from typing import TypeAlias

    from normcheck.process_copy import Copy

    Process: TypeAlias = "subprocess.Popen[bytes] | Copy"

WINDOWS = os.name == "nt"
_AT_A_TIME = 1 << 30
"""One read gives at most 2 GiB on Linux and macOS."""
_DRIVE = re.compile(r"^/+(?=[A-Za-z]:)")
_ROOT = re.compile(r"^[A-Za-z]:(?=[\\/])")
_CRASHES = 0xC000_0000
"""Windows: exit codes from here on are the system's, of a process that did not end by itself."""
_HERE = "127.0.0.1"
_LINK = "NORMCHECK_LINK"
_ACCEPT_SECONDS = 0.2
NO_LINK = getattr(os, "O_NOFOLLOW", 0)
"""Flag of ``os.open``: a link in the last place is an error. 0 where a system has no such
flag, as of the others."""
NO_WAIT = getattr(os, "O_NONBLOCK", 0)
"""Flag of ``os.open``: a FIFO is opened, or refused, without waiting for its other end."""
NO_TERMINAL = getattr(os, "O_NOCTTY", 0)
"""Flag of ``os.open``: a terminal does not become that of this process."""
BINARY = getattr(os, "O_BINARY", 0)
"""Flag of ``os.open``: no line feed is another character to Windows."""
KEEPS_OWNERS = hasattr(os, "fchown")
"""Whether a file has an owner and permission bits of its own; on Windows its folder decides."""


class OpenFile:
    """A regular file that is read at offsets, by several threads if need be."""

    _descriptor = -1

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            OSError: It cannot be opened.
            ValueError: Its name has a NUL in it.
        """
        # Opening a FIFO without a writer would wait for ever; and Windows would take ^Z for the
        # end of the file.
        self._descriptor = os.open(path, os.O_RDONLY | NO_WAIT | BINARY)
        self._turn: Any = None
        if not hasattr(os, "pread"):
            from threading import Lock

            self._turn = Lock()

    def status(self) -> os.stat_result:
        """What the system says of it now."""
        return os.fstat(self._descriptor)

    def read_at(self, offset: int, length: int) -> bytes:
        """Bytes from ``offset`` on: ``length`` of them or fewer, none at the end."""
        length = min(length, _AT_A_TIME)
        if sys.platform != "win32" and self._turn is None:
            return os.pread(self._descriptor, length, offset)
        with self._turn:  # the place in the file is everybody's
            os.lseek(self._descriptor, offset, os.SEEK_SET)
            return os.read(self._descriptor, length)

    def close(self) -> None:
        """Give it back; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __del__(self) -> None:
        """Give it back where nobody did: a process has a thousand, and may read many files."""
        with contextlib.suppress(OSError):
            self.close()


def user() -> int | None:
    """The user ID of this process, comparable to a file's owner; None where there are none."""
    if sys.platform != "win32" and hasattr(os, "geteuid"):
        return os.geteuid()
    return None


def give(descriptor: int, owner: int, group: int) -> None:
    """Make an open file another user's or group's; -1 leaves one as it is.

    Raises:
        OSError: This user may not.
    """
    if sys.platform != "win32":
        os.fchown(descriptor, owner, group)


def permit(descriptor: int, bits: int) -> None:
    """Set the permission bits of an open file, where it has some."""
    if sys.platform != "win32":
        os.fchmod(descriptor, bits)


def lock(descriptor: int) -> bool:
    """Lock an open file for this process alone, until it is closed or the process ends.

    Returns:
        Whether no other process has it. True on a system without such locks.

    Raises:
        OSError: The file system has no locks.
    """
    if sys.platform != "win32":
        with contextlib.suppress(ImportError):
            import fcntl

            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
    return True


def wait_from_now(descriptor: int) -> None:
    """Let an open FIFO wait for its other end again, after ``NO_WAIT``."""
    if sys.platform != "win32":
        os.set_blocking(descriptor, True)


def is_descriptor_folder(folder: str) -> bool:
    """Whether a real path is where this process' open files have their numbers for names."""
    own = folder.startswith(f"/proc/{os.getpid()}/") and folder.endswith("/fd")
    return own or folder == "/dev/fd"


def local_path(path: str) -> str:
    """The path of a ``file:`` address as this system has it: on Windows ``/C:/x`` is ``C:/x``."""
    return _DRIVE.sub("", path) if WINDOWS else path


def names_object(word: str) -> bool:
    r"""Whether a word is ``module:name`` or ``file.py:name``; a drive's colon does not count.

    >>> names_object("net:build"), names_object(r"C:\net.py:build"), names_object(r"C:\val.npz")
    (True, True, False)
    """
    return ":" in _ROOT.sub("", word)


def processors() -> int:
    """How many processors this process may use."""
    if sys.platform != "win32" and sys.platform != "darwin" and hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1


def memory_of_machine() -> int:
    """Bytes of memory; 0 where the system does not tell."""
    if sys.platform != "win32" and hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError):
            return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return 0


def memory_of(process: int) -> int:
    """Resident bytes of a process; 0 where the system does not tell, or it is gone."""
    if sys.platform != "win32" and hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            pages = Path(f"/proc/{process}/statm").read_text(encoding="ascii").split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        return _memory_by_ps(process)
    return 0


def _memory_by_ps(process: int) -> int:
    """The same where there is no /proc, as on macOS and BSD."""
    import subprocess

    with contextlib.suppress(OSError, ValueError):
        words = ["ps", "-o", "rss=", "-p", str(process)]
        said = subprocess.run(words, capture_output=True, check=False)  # noqa: S603
        return int(said.stdout or 0) * 1024  # POSIX: in units of 1024 bytes
    return 0


def watches_memory() -> bool:
    """Whether ``memory_of`` has an answer here."""
    return memory_of(os.getpid()) > 0


def limit_memory(most: int) -> bool:
    """Bound the memory that this process may take, in bytes; False where that cannot be."""
    if sys.platform != "win32":
        with contextlib.suppress(ImportError, OSError, ValueError):
            import resource

            _, hard = resource.getrlimit(resource.RLIMIT_DATA)
            if hard == resource.RLIM_INFINITY or most < hard:
                resource.setrlimit(resource.RLIMIT_DATA, (most, hard))
            return True
    return False


def alarm(seconds: float, ring: "Callable[[], None]") -> "Callable[[], None] | None":
    """Call something in the main thread after some time, whatever it does or waits for.

    Returns:
        What switches the alarm off; None where there is no such alarm.
    """
    if sys.platform != "win32" and threading.current_thread() is threading.main_thread():
        before = signal.signal(signal.SIGALRM, lambda *_: ring())
        signal.setitimer(signal.ITIMER_REAL, seconds)

        def disarm() -> None:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

        return disarm
    return None


def started(line: Sequence[str], **how: Any) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """A process, and a two-way link to it, which it gets by giving its last word to ``linked``.

    Ctrl-C is for the process that the user started, which ends this one in its own way.

    Args:
        line: Its command line, to which that word is added.
        how: ``stdin``, ``stdout`` and ``env`` of ``Popen``.

    Raises:
        OSError: There can be no further process.
    """
    import socket
    import subprocess

    if not hasattr(os, "fork"):
        return _started_and_met(line, **how)
    ours, theirs = socket.socketpair()
    with theirs:
        word = theirs.fileno()
        try:
            process = subprocess.Popen(  # noqa: S603  (ourselves)
                [*line, str(word)], pass_fds=(word,), start_new_session=True, **how
            )
        except BaseException:
            ours.close()
            raise
    return process, ours


def _started_and_met(
    line: Sequence[str], **how: Any
) -> "tuple[subprocess.Popen[bytes], socket.socket]":
    """The same where no descriptor can be handed down: the process calls back on this machine."""
    import secrets
    import socket
    import subprocess

    secret = secrets.token_hex(32)
    # Not in the command line, which other users of the machine may see.
    how["env"] = {**(how.get("env") or os.environ), _LINK: secret}
    how["creationflags"] = getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0)
    with socket.create_server((_HERE, 0)) as server:
        server.settimeout(_ACCEPT_SECONDS)
        words = [*line, f":{server.getsockname()[1]}"]
        process = subprocess.Popen(words, start_new_session=True, **how)  # noqa: S603  (ourselves)
        while process.poll() is None:
            with contextlib.suppress(OSError):
                link, _ = server.accept()
                if _knows(link, secret):
                    return process, link
    # Dead before it called: reading from it says so.
    ours, theirs = socket.socketpair()
    theirs.close()
    return process, ours


def _knows(link: "socket.socket", secret: str) -> bool:
    """Whether the caller is the process that we started: any process of the machine could call."""
    import hmac

    link.settimeout(10 * _ACCEPT_SECONDS)
    said = b""
    with contextlib.suppress(OSError):
        while len(said) < len(secret) and (part := link.recv(len(secret) - len(said))):
            said += part
    if not hmac.compare_digest(said, secret.encode()):
        link.close()
        return False
    link.settimeout(None)
    return True


def linked(word: str) -> "socket.socket":
    """The other end of the link, in the process that ``started`` started.

    Args:
        word: The last of its command line.
    """
    import socket

    if not word.startswith(":"):
        return socket.socket(fileno=int(word))
    link = socket.create_connection((_HERE, int(word[1:])))
    link.sendall(os.environ.pop(_LINK).encode())
    return link


def end(process: "Process") -> None:
    """End a process of ours at once, with whatever it started, and wait for its end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if sys.platform != "win32" and hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            _end_with_children(process)
    process.wait()


def _end_with_children(process: "Process") -> None:
    import shutil
    import subprocess

    if process.poll() is None and (taskkill := shutil.which("taskkill")):
        words = [taskkill, "/T", "/F", "/PID", str(process.pid)]
        subprocess.run(words, capture_output=True, check=False)  # noqa: S603
    if process.poll() is None:
        process.kill()


def ask_to_end(process: "Process") -> None:
    """Ask a process to end in its own way; where no process can be asked, it and its own end."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        if not WINDOWS:
            process.terminate()
        else:
            _end_with_children(process)


def ended_by(code: int) -> str:
    """What ended a process from without or made it crash; empty where it ended by itself.

    Args:
        code: As ``Popen.returncode`` has it.

    >>> ended_by(-9), ended_by(3), ended_by(0xC0000005)
    ('SIGKILL', '', 'status 0xC0000005')
    """
    if code >= _CRASHES:
        return f"status 0x{code:08X}"
    if code >= 0:
        return ""
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
