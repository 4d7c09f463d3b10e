"""What a process that examines files tells the one that started it."""

from dataclasses import dataclass

from normcheck.live.process.child_messages import Progress
from normcheck.pipeline.results import FileResult


@dataclass(frozen=True, slots=True)
class Ready:
    """It takes files."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """Words for the user that no report holds."""

    text: str


@dataclass(frozen=True, slots=True)
class Result:
    """What came of the next file."""

    result: FileResult


MESSAGES = {kind.__name__: kind for kind in (Ready, Progress, Announcement, Result)}
