"""One file's share of a report: what every output counts is there, its models when asked for.

In a run over many thousands of files most are healthy, and of those nearly every output wants
a number or a ready line. Their layers are unpacked only for who shows them.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import cached_property

from normcheck.report.certificate import certificate_for
from normcheck.report.report import ModelReport, Report


class Part:
    """A report about one file, or about what only a whole run can tell.

    Args:
        rest: The report, its models aside.
        heads: Target and place within the file of each model.
        load: Gives the models.
        line: The file's line of JSON Lines, if somebody has made it already.
        files: All that was read for it.
        vouched: Whether enough of each model is vouched for, as long as nothing accuses it.
    """

    def __init__(
        self,
        rest: Report,
        heads: tuple[tuple[str, str], ...],
        load: Callable[[], tuple[ModelReport, ...]],
        line: str = "",
        files: tuple[str, ...] = (),
        vouched: tuple[bool, ...] = (),
    ) -> None:
        """See the class."""
        self.rest = rest
        self.heads = heads
        self.line = line
        self.files = files
        self.vouched = vouched
        self._load = load

    @classmethod
    def of(cls, report: Report) -> "Part":
        """A report whose models are there."""
        models = report.models
        heads = tuple((model.target, model.where) for model in models)
        vouched = tuple(certificate_for(model).earned for model in models)
        return cls(replace(report, models=()), heads, lambda: models, vouched=vouched)

    @cached_property
    def report(self) -> Report:
        """The whole of it, models included."""
        return replace(self.rest, models=self._load())
