"""The work on one file, the same whoever does it."""

import pickle
from dataclasses import field

from normcheck.config.examination import Examination
from normcheck.errors import NormcheckError
from normcheck.formats.targets import Target
from normcheck.lazy_dataclass import lazy_dataclass, replace
from normcheck.pipeline.examine import examine
from normcheck.pipeline.report_parts import with_line
from normcheck.pipeline.results import FileResult
from normcheck.report.form import Wish


@lazy_dataclass()
class FileTask:
    """What is done with each file of a run: sent whole to workers, hashed whole for the cache.

    What is applied to results afterwards is no part of it, and stays where the run is.
    """

    examination: Examination = field(default_factory=Examination)
    wishes: frozenset[Wish] = frozenset()
    """What the outputs of the run want made of a file while it is read."""

    def result_of(self, target: Target) -> FileResult:
        """What comes of a file, with its line of JSON Lines where an output wants that.

        To write the line takes as long as much of the reading, and whoever collects the results
        of several processes would write all of them alone.
        """
        result = examine(target, self.examination, self.wishes)
        if Wish.LINES in self.wishes:
            result = with_line(result)
        return replace(result, models=()) if Wish.LINES_ALONE in self.wishes else result

    def sent(self) -> bytes:
        """The whole task as another process takes it.

        Raises:
            NormcheckError: It holds something that cannot leave this process.
        """
        running = self.examination.running
        if running is not None:
            running = running.unheard()
        away = replace(self, examination=replace(self.examination, running=running))
        try:
            return pickle.dumps(away)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise NormcheckError(
                f"the examination cannot be handed to another process: {error}",
                "name data and factories as strings (package.module:function), or use one job",
            ) from error
