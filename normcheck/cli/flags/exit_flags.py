"""What the exit code says, of a command that judges."""

from dataclasses import dataclass
from typing import Annotated

from normcheck.config.flags.flag import Flag


@dataclass(frozen=True, slots=True)
class Exit:
    """What the exit code says."""

    exit_zero: Annotated[bool, Flag("Exit with 0 even if there are findings.", short="-e")] = False
