"""JSON as every output writes it."""

import json
import re
from typing import Any

_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


def json_text(value: Any) -> str:
    """``value`` as indented JSON that any parser reads and any encoding of Unicode holds.

    A name in a pickle can hold half of a surrogate pair, which UTF-8 has no bytes for: it is
    written as its escape, spelt out.

    Raises:
        ValueError: A number is NaN or infinite; whoever calls this turns those into strings.
    """
    text = json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False)
    return _LONE_SURROGATE.sub(lambda half: f"\\\\u{ord(half.group()):04x}", text) + "\n"
