"""Where a checkpoint lies: a path of this machine, or an address elsewhere.

An address may carry secrets, in front of its host or behind a question mark. They are kept for
the file system that opens it, and never shown.
"""

import re
from dataclasses import field
from fnmatch import fnmatchcase
from pathlib import Path
from urllib.parse import unquote, urlsplit

from normcheck.errors import UsageError
from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.platforms import local_path

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
"""Two letters at least: one letter is a drive."""
_WEB = ("http", "https")
_NAMES_BEFORE_AT = frozenset({"hf", "abfs", "abfss", "az", "adl"})
"""Schemes that write a revision or a container in front of an @, not a user."""
_USER = re.compile(r"://([^/@]*)@")
_VALUE = re.compile(r"=[^&#]*")
HIDDEN = "***"


@lazy_dataclass()
class RemotePath:
    """A file or folder that fsspec can open; used where a ``Path`` would be."""

    uri: str = field(repr=False)
    """As the user wrote it, with whatever secrets it carries."""
    redirects: tuple[str, ...] = field(default=(), repr=False, compare=False)
    """Hosts that its own may redirect to."""

    def __str__(self) -> str:
        """As it may be shown."""
        return shown(self.uri)

    @property
    def scheme(self) -> str:
        """As ``s3`` or ``https``, in small letters."""
        return self.uri.partition("://")[0].lower()

    @property
    def on_the_web(self) -> bool:
        """Whether it is a web address, which may go on with a question mark."""
        return self.scheme in _WEB

    @property
    def name(self) -> str:
        """The last part of its path."""
        path = self._split()[0].rstrip("/")
        last = path.rpartition("/")[2]
        return unquote(last) if self.on_the_web else last

    @property
    def parent(self) -> "RemotePath":
        """The folder that it lies in, with the same query."""
        path, query = self._split()
        return self.at(path.rstrip("/").rpartition("/")[0] + query)

    def __truediv__(self, name: str) -> "RemotePath":
        """What is called ``name`` in this folder."""
        path, query = self._split()
        return self.at(f"{path.rstrip('/')}/{name}{query}")

    def at(self, uri: str) -> "RemotePath":
        """Another address of the same kind."""
        return RemotePath(uri, self.redirects)

    def _split(self) -> tuple[str, str]:
        if not self.on_the_web:
            return self.uri, ""  # a question mark is part of an object's name
        path, mark, query = self.uri.partition("?")
        return path, mark + query


Place = Path | RemotePath


def is_remote(word: str) -> bool:
    """Whether a word is an address elsewhere; ``file://`` is here."""
    found = _SCHEME.match(word)
    return found is not None and found[1].lower() != "file"


def place_of(word: str, redirects: tuple[str, ...] = ()) -> Place:
    """The place that a word of the command line, or a report's target, means.

    Args:
        word: A path or an address.
        redirects: Hosts that the server of an address may redirect to.
    """
    if is_remote(word):
        return RemotePath(word, redirects)
    if _SCHEME.match(word):
        return Path(local_path(unquote(urlsplit(word).path)))
    return Path(word)


def local(word: str, flag: str) -> Path:
    """The file of this machine that a flag names.

    Raises:
        UsageError: It is an address. Made a path of, it would lose a slash and mean a folder.
    """
    place = place_of(word)
    if isinstance(place, RemotePath):
        raise UsageError(
            f"{flag} {place}: an address, but a local file is needed",
            "name a local file; only checkpoints are read from addresses",
        )
    return place


def address_matches(address: str, pattern: str) -> bool:
    """Whether a shell's pattern means an address; ``*`` stands for slashes, too.

    Scheme and host are the same in capital letters. What is secret in an address is not held
    against the pattern, and what follows a question mark may be left out of it.
    """
    wanted, place = _with_small_host(pattern), RemotePath(address)
    if "/" not in pattern:
        return fnmatchcase(place.name, pattern)
    whole = _with_small_host(str(place))
    words = [whole, whole.partition("?")[0]] if place.on_the_web else [whole]
    return any(
        word == known or fnmatchcase(word, known)
        for word in words
        for known in (wanted, shown(wanted))
    )


def _with_small_host(word: str) -> str:
    scheme, separator, rest = word.partition("://")
    host, slash, path = rest.partition("/")
    if not separator:
        return word
    # A user and a password in front of the host have their own spelling.
    user, at, host = host.rpartition("@")
    return f"{scheme.lower()}://{user}{at}{host.lower()}{slash}{path}"


def shown(word: str) -> str:
    """A word as messages and reports show it: without passwords, keys and signatures.

    >>> shown("https://me:secret@host/model.pt?X-Amz-Signature=1234")
    'https://***@host/model.pt?X-Amz-Signature=***'
    """
    if not is_remote(word):
        return word
    scheme = word.partition("://")[0].lower()
    user = _USER.search(word)
    if user and (":" in user[1] or scheme not in _NAMES_BEFORE_AT):
        word = word.replace(user[0], f"://{HIDDEN}@", 1)
    if scheme in _WEB and "?" in word:
        path, _, query = word.partition("?")
        # Without an equals sign the whole of it may be a token.
        parts = [_VALUE.sub(f"={HIDDEN}", part) if "=" in part else HIDDEN
                 for part in query.split("&")]  # fmt: skip
        word = f"{path}?{'&'.join(parts)}"
    return word


def without_secrets(text: str, place: RemotePath) -> str:
    """``text`` of another program's error, without what ``place`` must not show."""
    text = text.replace(place.uri, str(place))
    secrets = [user[1] for user in [_USER.search(place.uri)] if user]
    secrets += [part.partition("=")[2] or part for part in place.uri.partition("?")[2].split("&")]
    for secret in filter(None, (*secrets, *(s for pair in secrets for s in pair.split(":")))):
        if len(secret) > 3:
            text = text.replace(secret, HIDDEN)
    return " ".join(text.split())[:300]
