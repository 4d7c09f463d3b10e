"""What the system says where something cannot be written, in words that tell what to do."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from normcheck.errors import UsageError

_HINTS = {
    errno.ENOENT: "make its folder first: mkdir -p FOLDER",
    errno.ENOTDIR: "a part of the path is a file, not a folder",
    errno.EACCES: "name a file that you may write, in a folder that you may write to",
    errno.EPERM: "name a file that you may write, in a folder that you may write to",
    errno.EROFS: "its file system can only be read: name a file elsewhere",
    errno.ENOSPC: "make room there, or name a file on another disk",
    errno.EDQUOT: "make room within your quota, or name a file on another disk",
    errno.EFBIG: "a limit on the size of files ends it: look at ulimit -f, or name another disk",
    errno.ENAMETOOLONG: "give it a shorter name",
    errno.ELOOP: "its links lead to each other: name the file itself",
    errno.EBUSY: "it is mounted by itself and cannot be replaced: mount its folder instead",
    errno.EPIPE: "whoever read it has stopped: it must read to the end",
    errno.ECONNRESET: "whoever read it has stopped: it must read to the end",
    errno.ECONNREFUSED: "start the program that listens there, then run it again",
    errno.EPROTOTYPE: "only sockets of streams can be written into, not those of datagrams",
}
_ELSE = "name a file in a folder that exists and is writable"


def cannot(said: str, error: OSError) -> UsageError:
    """What became of writing, as an error of the command line.

    Args:
        said: What was to be written, as the user named it.
        error: What the system says.
    """
    what = error.strerror or str(error) or type(error).__name__
    return UsageError(f"{said}: cannot be written ({what})", _HINTS.get(error.errno or 0, _ELSE))


@contextmanager
def told(said: str) -> Iterator[None]:
    """Errors of the system become those of the command line.

    Raises:
        UsageError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise cannot(said, error) from error
