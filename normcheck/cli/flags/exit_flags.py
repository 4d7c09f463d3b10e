"""What the exit code says, of a command that judges."""

from typing import Annotated

from normcheck.config.flags.flag import Flag
from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class Exit:
    """What the exit code says."""

    exit_zero: Annotated[bool, Flag("Exit with 0 even if there are findings.", short="-e")] = False
