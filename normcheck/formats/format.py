"""What a format is: how its files are named, how they begin, and what reads them."""

from collections.abc import Callable

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.saved.checkpoint import Checkpoint
from normcheck.sources.limits import Limits
from normcheck.sources.source import Source


@lazy_dataclass()
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
