"""What besides its bytes decides on the result of a file, as one hash."""

import sys
from dataclasses import astuple
from hashlib import blake2b
from pathlib import Path

from normcheck.config.settings import Settings
from normcheck.sources.place import Place
from normcheck.version import VERSION

_LENGTH = 16
"""Bytes of a hash: no two of a billion are the same by chance."""


def code_digest() -> bytes:
    """A hash of normcheck's own code, and of what computes for it.

    The version alone would not do: while a rule is being written it says something else
    every hour.
    """
    import numpy as np

    digest = blake2b(digest_size=_LENGTH)
    digest.update(repr((VERSION, sys.version_info[:3], np.__version__)).encode())
    package = Path(__file__).resolve().parent.parent
    # As texts: to sort a hundred Paths takes longer than to hash the files.
    for file in sorted(map(str, package.rglob("*.py"))):
        digest.update(file.removeprefix(str(package)).encode() + b"\0")
        digest.update(Path(file).read_bytes())
    return digest.digest()


class Scopes:
    """Hashes of all that a scan of a file follows from, its bytes and its name aside."""

    def __init__(self, settings: Settings, code: bytes) -> None:
        """Hash what is the same for all files.

        Args:
            settings: Of the run.
            code: ``code_digest()``.
        """
        self._settings = settings
        self._common = (
            code
            + repr(
                (astuple(settings.limits), settings.keep_predictions, settings.weights_budget)
            ).encode()
        )
        self._by_rules: dict[tuple[tuple[int, ...], bool], bytes] = {}

    def of(self, path: Place, *, explicit: bool) -> bytes:
        """The scope of one file, for which the rules may be narrowed.

        Args:
            path: The file.
            explicit: Whether the user named the very file.
        """
        rules = (
            self._settings.rules_of(Path(str(path)))
            if self._settings.models
            else self._settings.rules
        )
        # Narrowing leaves rules out and changes none.
        key = (tuple(map(id, rules)), explicit)
        if key not in self._by_rules:
            said = [(r.code, sorted(r.chosen.items()), r.forced_severity) for r in rules]
            text = repr((said, explicit)).encode()
            self._by_rules[key] = blake2b(self._common + text, digest_size=_LENGTH).digest()
        return self._by_rules[key]
