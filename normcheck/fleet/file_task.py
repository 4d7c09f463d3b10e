"""The work on one file, the same whoever does it."""

from normcheck.config.settings import Settings
from normcheck.pipeline.examine import examine
from normcheck.pipeline.report_parts import lined
from normcheck.pipeline.results import FileResult
from normcheck.sources.targets import Target


def done(target: Target, settings: Settings) -> FileResult:
    """What comes of a file, with its line of JSON Lines where the run wants that.

    To write the line takes as long as much of the reading, and whoever collects the results of
    several processes would write all of them alone.
    """
    result = examine(target, settings)
    return lined(result) if settings.lines else result
