"""JSON as every output writes it."""

import json
import re
from typing import Any

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_LINE_END = re.compile("[\u0085\u2028\u2029]")
"""Signs beside the newline that some readers take for the end of a line."""


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
    return _encodable(json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False))


def json_line(value: Any) -> str:
    """``value`` as JSON in one line, for readers that take a line for a document.

    Raises:
        ValueError: As ``json_text``.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    if text.isascii():  # most are: two searches less in each line
        return f"{text}\n"
    text = _encodable(text)
    return _LINE_END.sub(lambda sign: f"\\u{ord(sign.group()):04x}", text)


def _encodable(text: str) -> str:
    # Within JSON a backslash is written twice.
    return _LONE_SURROGATE.sub(lambda half: f"\\\\u{ord(half.group()):04x}", text) + "\n"
