"""Regular expressions that nothing is compiled for until they are asked.

The standard library compiles them in Python, a tenth of a millisecond for a short one: of the
hundred that a scan imports, the scan of a small file uses a few.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import AnyStr


def lazy_pattern(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Like ``re.compile(text, flags)``, which is called with the first use.

    What is wrong with the expression shows then, too: each has a test that uses it.
    """
    return _Lazy(text, flags)  # type: ignore[return-value]  # a pattern to all who use it


class _Lazy:
    """Hands over the methods of its pattern, from the second time on without a call between."""

    def __init__(self, text: Any, flags: int) -> None:
        self._words = (text, flags)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        method = getattr(re.compile(*self._words), name)
        setattr(self, name, method)
        return method
