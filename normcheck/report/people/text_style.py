"""How text for people is to look."""

from normcheck.lazy_dataclass import lazy_dataclass


@lazy_dataclass()
class TextStyle:
    """How the text is to look; nothing of it changes what is said."""

    width: int = 80
    color: bool = False
    verbose: bool = False
    quiet: bool = False
    """Only findings that are no info, and nothing where there are none."""
    errors: bool = False
    """List what could not be done, for readers of a file, who do not see stderr."""
