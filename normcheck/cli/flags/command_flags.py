"""The commands that have many flags: each is made of groups, and of what it alone has.

Each is declared in a file of its own, and imported where it is asked for: to make the classes of
all takes as long as to read a small file.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from normcheck.cli.flags.diff_flags import Diff
    from normcheck.cli.flags.fix_flags import Fix
    from normcheck.cli.flags.scan_flags import Scan

_CLASSES = {"scan": "Scan", "diff": "Diff", "fix": "Fix"}
NAMES = tuple(_CLASSES)


def command(name: str) -> "type[Scan | Diff | Fix]":
    """What declares a command's flags.

    Raises:
        KeyError: It is none of ``NAMES``.
    """
    module = import_module(f"normcheck.cli.flags.{name}_flags")
    kind: type[Scan | Diff | Fix] = getattr(module, _CLASSES[name])
    return kind
