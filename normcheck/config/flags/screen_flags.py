"""How much is said on the terminal, and how it looks."""

from typing import Annotated

from normcheck.config.flags.flag import Flag
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Screen:
    """What the terminal shows; nothing of it changes what is found."""

    color: Annotated[
        str,
        Flag(
            "Colour; auto looks at the terminal, NO_COLOR, FORCE_COLOR.",
            choices=("auto", "always", "never"),
        ),
    ] = "auto"
    quiet: Annotated[
        bool, Flag("Print only warnings and errors; nothing if there are none.", short="-q")
    ] = False
    verbose: Annotated[
        int,
        Flag("Show every layer and skipped rule; -vv adds tracebacks.", short="-v", counts=True),
    ] = 0
