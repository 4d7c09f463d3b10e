"""JSON as every output writes it."""

import json
import re
from typing import Any

from normcheck.wording import ANYWHERE, HINTS, visible

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_COMMAND = re.compile(ANYWHERE)
"""In JSON no text begins a line."""
_LINES = json.JSONEncoder(ensure_ascii=False, allow_nan=False, check_circular=False)
"""Without a look for what contains itself, which nothing does that is written here: the look takes
a tenth of the time."""
_DELETE = "\x7f"
"""The one ASCII character without a shape that JSON writes as it is."""


def spelt(text: str) -> str:
    """``text`` with each half of a surrogate pair spelt out, which UTF-8 has no bytes for.

    A name in a pickle can hold one.
    """
    return _LONE_SURROGATE.sub(lambda half: f"\\u{ord(half.group()):04x}", text)


def json_text(value: Any) -> str:
    """``value`` as indented JSON that any parser reads and any encoding of Unicode holds.

    Raises:
        ValueError: A number is NaN or infinite; whoever calls this turns those into strings.
    """
    return _harmless(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def json_line(value: Any) -> str:
    """``value`` as JSON in one line, for readers that take a line for a document.

    Raises:
        ValueError: As ``json_text``.
    """
    return _harmless(_LINES.encode(value))


def _harmless(text: str) -> str:
    """JSON that may be shown in a log: a parser finds the same in it.

    Characters without a shape, and what a CI service would take for a command, are written as
    numbers.
    """
    # Advice has an ellipsis, which alone would make every character of a line be looked at.
    plain = text.replace("…", "")
    # To look for one sign takes a tenth of what a look for two of it does.
    if any(hint[0] in plain and hint in plain for hint in HINTS):
        text = _COMMAND.sub(lambda sign: f"{sign[0][:-1]}\\u{ord(sign[0][-1]):04x}", text)
    if _DELETE not in plain if plain.isascii() else visible(plain.replace("\n", "")):
        return f"{text}\n"
    # UTF-8 has no bytes for half a pair; within JSON a backslash is written twice.
    text = _LONE_SURROGATE.sub(lambda half: f"\\\\u{ord(half.group()):04x}", text)
    return "".join(c if visible(c) or c == "\n" else _number(c) for c in text) + "\n"


def _number(character: str) -> str:
    return json.dumps(character)[1:-1] if character != "\x7f" else "\\u007f"
