"""The key that says of a row of a cache that this user's normcheck wrote it.

A cache is a file that is copied, restored and downloaded, and whoever writes to it decides what
a later run says of files that it does not read again. So each row carries a keyed hash, and the
key lies beside the user's configuration, not beside the cache. Without a key there is no cache.
"""

import contextlib
import hashlib
import os
import stat
from pathlib import Path

from normcheck import platforms
from normcheck.errors import NormcheckError

VARIABLE = "NORMCHECK_CACHE_KEY"
"""A text instead of the file, for machines that start empty each time and restore a cache."""
_SHORTEST = 16
"""Characters of that text: fewer can be tried out."""
_BYTES = 32
_OTHERS = 0o077
"""Permissions of anybody but the owner."""


class Seal:
    """Seals rows, and knows its own.

    Args:
        key: Whoever has it can write rows that are believed.
    """

    def __init__(self, key: bytes) -> None:
        """See the class."""
        self._key = key

    def of(self, *parts: bytes) -> bytes:
        """The seal of a row, which holds for these parts in this order."""
        digest = hashlib.blake2b(key=self._key, digest_size=_BYTES)
        for part in parts:
            digest.update(len(part).to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()

    def is_of(self, seal: bytes, *parts: bytes) -> bool:
        """Whether a row was sealed with this key and is as it was."""
        # Nobody asks us often enough to learn a seal from how long the answer takes: that would
        # be a run for each guess. To import hmac takes as long as to read a hundred rows.
        return seal == self.of(*parts)


def users_seal() -> Seal:
    """The seal of whoever runs this; the key is made when it is first asked for.

    Raises:
        NormcheckError: There is no place for it, or others could know it.
    """
    text = os.environ.get(VARIABLE)
    if text is not None:
        if len(text) < _SHORTEST:
            raise NormcheckError(
                f"{VARIABLE} has fewer than {_SHORTEST} characters",
                f"make one: export {VARIABLE}=$(openssl rand -hex 32)",
            )
        return Seal(hashlib.blake2b(text.encode("utf-8", "surrogateescape")).digest())
    file = _place()
    try:
        key = _read(file)
        if key is None:
            _make(file)
            key = _read(file)
    except OSError as error:
        raise NormcheckError(
            f"its key {file} cannot be read: {error.strerror}", _INSTEAD
        ) from error
    if key is None or len(key) != _BYTES:
        raise NormcheckError(f"its key {file} is damaged", "delete it: another one is made")
    return Seal(key)


_INSTEAD = f"set {VARIABLE} to a secret of your own, or XDG_CONFIG_HOME to a folder of yours"


def _place() -> Path:
    """Where the key lies, whether it is there or not."""
    given = os.environ.get("XDG_CONFIG_HOME") or os.environ.get("APPDATA") or ""
    if given and Path(given).is_absolute():
        return Path(given) / "normcheck" / "cache-key"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise NormcheckError("there is no home folder for its key", _INSTEAD) from error
    return home / ".config" / "normcheck" / "cache-key"


def _read(file: Path) -> bytes | None:
    """The key; None where there is none.

    Raises:
        OSError: It cannot be read.
        NormcheckError: Others can read or replace it.
    """
    try:
        # Neither a link, which another may have laid, nor a pipe that waits for a writer.
        descriptor = os.open(file, os.O_RDONLY | platforms.NO_LINK | platforms.NO_WAIT)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as opened:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise NormcheckError(f"its key {file} is not a file", "delete it: another one is made")
        user = platforms.user()
        if user is not None:
            if status.st_uid != user:
                raise NormcheckError(f"its key {file} belongs to another user", _INSTEAD)
            if status.st_mode & _OTHERS:
                raise NormcheckError(
                    f"its key {file} can be read by others", f"chmod 600 {file}, or delete it"
                )
        return opened.read(_BYTES + 1)


def _make(file: Path) -> None:
    """Make a key, whole or not at all; where another process made one meanwhile, that stays."""
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_name(f"{file.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as opened:
            opened.write(os.urandom(_BYTES))
        try:
            os.link(fresh, file)
        except FileExistsError:
            return
        except OSError:
            # No hard links here. Of two that are made at once the later one stays.
            fresh.replace(file)
    finally:
        with contextlib.suppress(OSError):
            fresh.unlink()
