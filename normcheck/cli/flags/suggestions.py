"""What somebody may have meant by words that are no command or flag of ours."""

from pathlib import Path

from normcheck.cli.flags.command_flags import NAMES
from normcheck.errors import UsageError
from normcheck.sources.place import shown
from normcheck.wording import nearest

_NAMES = (*NAMES, "rule", "kinds")
_RENAMED = {"--at": "--where"}
"""What flags were called before, or are called in other linters."""


def check_command(word: str) -> None:
    """See that a word that stands where a command should is one.

    Raises:
        UsageError: It is none; the hint has what may have been meant.
    """
    if word.startswith("-") or word in _NAMES:
        return
    near = nearest(word, _NAMES)
    hint = "see 'normcheck --help'"
    if _names_a_model(word):
        hint = f"to scan it: normcheck scan {shown(word)}"
    elif near:
        hint = f"did you mean normcheck {near}?"
    raise UsageError(f"{shown(word):.200}: no such command", hint)


def _names_a_model(word: str) -> bool:
    """Whether a word can be a file, a folder, a pattern or an address."""
    return any(sign in word for sign in "./\\*?") or Path(word).exists()


def renamed(flag: str) -> str:
    """A hint for a flag that there is under another name; empty for any other."""
    return f"did you mean {_RENAMED[flag]}?" if flag in _RENAMED else ""
