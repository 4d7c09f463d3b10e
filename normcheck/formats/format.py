"""What a format is: how its files are called and begin, and who reads them."""

from collections.abc import Callable
from dataclasses import dataclass

from normcheck.errors import NoModelError
from normcheck.pickles.locate_models import Found
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.limits import Limits
from normcheck.sources.source import Source


class NoModelFoundError(NoModelError):
    """A file was read, and holds no model, but perhaps what bears on one in another file."""

    def __init__(self, message: str, hint: str, found: Found) -> None:
        """Carry what else was found, an optimizer's state for example."""
        super().__init__(message, hint)
        self.found = found


@dataclass(frozen=True, slots=True)
class Format:
    """One format of files; its reader is imported when a file of it is met."""

    name: str
    """What messages call a file of it: ``an ONNX model``."""
    suffixes: tuple[str, ...]
    """Of files that a folder is searched for; one named outright is read whatever it is called."""
    sign: Callable[[bytes], object]
    """Tells from the first bytes of a file, 512 where there are so many, whether it is one."""
    read: Callable[[Source, Limits], Checkpoint]
    export: bool = False
    """Whether an exporter writes it, so that a file may be held against its source."""
    extra: str = ""
    """The package that it takes to read one, which the extra of the same name installs."""
