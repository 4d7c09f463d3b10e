"""Where a checkpoint lies: a path of this machine, or an address elsewhere.

An address may carry secrets, in front of its host or behind a question mark. They are kept for
the file system that opens it, and never shown.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

_SCHEME = re.compile(r"([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
"""Two letters at least: one letter is a drive."""
_WEB = ("http", "https")
_NAMES_BEFORE_AT = frozenset({"hf", "abfs", "abfss", "az", "adl"})
"""Schemes that write a revision or a container in front of an @, not a user."""
_USER = re.compile(r"://([^/@]*)@")
_VALUE = re.compile(r"=[^&#]*")
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class RemotePath:
    """A file or folder that fsspec can open; used where a ``Path`` would be."""

    uri: str = field(repr=False)
    """As the user wrote it, with whatever secrets it carries."""

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
        return RemotePath(path.rstrip("/").rpartition("/")[0] + query)

    def __truediv__(self, name: str) -> "RemotePath":
        """What is called ``name`` in this folder."""
        path, query = self._split()
        return RemotePath(f"{path.rstrip('/')}/{name}{query}")

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


def place_of(word: str) -> Place:
    """The place that a word of the command line, or a report's target, means."""
    if is_remote(word):
        return RemotePath(word)
    if _SCHEME.match(word):
        return Path(unquote(urlsplit(word).path))
    return Path(word)


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
