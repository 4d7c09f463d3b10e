"""What a process that examines files tells the one that started it."""

from dataclasses import replace

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.live.process.child_messages import Progress
from normcheck.pipeline.results import FileResult


@lazy_dataclass()
class Ready:
    """It takes files."""


@lazy_dataclass()
class Announcement:
    """Words for the user that no report holds."""

    text: str


@lazy_dataclass()
class Result:
    """What came of the next file; its line, the most of it, comes as the text beside."""

    result: FileResult

    def with_text(self, text: str) -> "Result":
        """The same, with the line that came beside it."""
        return Result(replace(self.result, line=text))


MESSAGES = {kind.__name__: kind for kind in (Ready, Progress, Announcement, Result)}
