"""Where text for people is put together: as wide and as coloured as wanted, and reproducible."""

import io

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

PROSE = 100
"""Columns beyond which running text is hard to read; tables may be wider."""


def console_for(out: io.StringIO, width: int, *, color: bool) -> Console:
    """A console that draws into ``out`` and never takes a name from a file as markup."""
    return Console(
        file=out,
        width=max(40, width),
        force_terminal=color,
        no_color=not color,
        color_system="standard" if color else None,
        highlight=False,
        markup=False,
        emoji=False,
        legacy_windows=False,
    )


def finished(out: io.StringIO) -> str:
    """The text; Rich pads lines to the width, and nobody wants those spaces in a log."""
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def hanging(console: Console, text: Text, indent: int, first: int = 0) -> None:
    """A paragraph whose lines after the first begin ``indent`` columns in."""
    width = min(console.width, PROSE)
    lines = text.wrap(console, width - indent)
    for number, line in enumerate(lines):
        line.rstrip()
        pad = first if number == 0 else indent
        console.print(Padding(line, (0, 0, 0, pad)), width=width + indent)
