"""Every way in which the command writes something, and every kind of thing to write to."""

import os
import resource
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import SAMPLES

SICK = SAMPLES / "saved-in-train-mode-module.pt"
HEALTHY = SAMPLES / "digits-healthy.pt"
LOST = SAMPLES / "statistics-lost.pt"
DESCRIPTORS = "/proc/self/fd" if Path("/proc/self/fd").is_dir() else "/dev/fd"
"""Where the system names the descriptors of a process."""


@dataclass(frozen=True, slots=True)
class Writer:
    """One flag that makes the command write something."""

    name: str
    words: Callable[[str], list[str]]
    """The words of a run that writes to a place."""
    replaces: bool = True
    """Whether it replaces a file that is there."""


def _report(form: str) -> Callable[[str], list[str]]:
    return lambda place: ["scan", str(SICK), "-q", "-f", form, "-o", place]


WRITERS = (
    Writer("text", _report("text")),
    Writer("json", _report("json")),
    Writer("json-lines", _report("json-lines")),
    Writer("sarif", _report("sarif")),
    Writer("diff", lambda p: ["diff", str(HEALTHY), str(LOST), "-q", "-f", "json", "-o", p]),
    Writer(
        "baseline",
        lambda p: ["scan", str(SICK), "-q", "--write-baseline", "--baseline", p],
    ),
    Writer("plot", lambda p: ["scan", str(HEALTHY), "-q", "--plot", p]),
    Writer("fix", lambda p: ["fix", str(SICK), "-q", "--modes", "eval", "-o", p], replaces=False),
)
EACH = pytest.mark.parametrize("writer", WRITERS, ids=lambda writer: writer.name)
REPLACING = pytest.mark.parametrize(
    "writer", [w for w in WRITERS if w.replaces], ids=lambda writer: writer.name
)


def make_device(path: Path, name: str) -> None:
    """A character device of its own, like ``/dev/null``: never that of the machine."""
    number = {"null": 3, "full": 7}[name]
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, number))
        path.open("wb").close()
    except (AttributeError, PermissionError, OSError) as error:
        pytest.skip(f"no device can be made here: {error}")


def listing(folder: Path) -> dict[str, tuple[object, ...]]:
    """All that a folder holds: kinds, modes, owners, inodes, times, links and bytes."""
    found = {}
    for path in sorted((folder, *folder.rglob("*"))):
        status = path.lstat()
        content: object = None
        if path.is_symlink():
            content = str(path.readlink())
        elif path.is_file():
            content = path.read_bytes()
        found[str(path.relative_to(folder))] = (
            status.st_mode, status.st_uid, status.st_gid, status.st_ino, status.st_nlink,
            status.st_mtime_ns, status.st_size, content,
        )  # fmt: skip
    return found


class Reader:
    """Reads a FIFO or what comes through a socket, until that ends."""

    def __init__(self, read: Callable[[], bytes]) -> None:
        self.got = b""
        self._read = read
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.got = self._read()

    def end(self) -> bytes:
        """All that came."""
        self._thread.join(30)
        assert not self._thread.is_alive()
        return self.got


def fifo_reader(path: Path) -> Reader:
    """Waits for who writes into a FIFO."""
    return Reader(path.read_bytes)


@contextmanager
def listening(path: Path) -> Iterator[Reader]:
    """A socket of the file system that takes one connection."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen(1)
        server.settimeout(30)

        def read() -> bytes:
            link, _ = server.accept()
            with link, link.makefile("rb") as file:
                return file.read()

        yield Reader(read)


@contextmanager
def files_up_to(size: int) -> Iterator[None]:
    """Files cannot grow beyond so many bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
