"""What a form of the report is: its name, what it needs, and what writes it.

Each form is the ``FORM`` of a file in ``people/`` or ``machines/``; ``forms.py`` finds it by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from normcheck.lazy_dataclass import lazy_dataclass
from normcheck.report.people.text_style import TextStyle
from normcheck.report.report import Report, joined

if TYPE_CHECKING:
    from normcheck.repair.repair_result import Repair
    from normcheck.report.diff_report import Diff
    from normcheck.report.part import Part
    from normcheck.report.tally import Tally


class Wish(StrEnum):
    """What has to be made of each file while it is read, and costs too much to be made always."""

    LINES = "lines"
    """The file's line of JSON Lines, made in the process that reads the file."""
    LINES_ALONE = "lines alone"
    """That line, and nothing else of the models: nobody is going to ask for one."""
    PREDICTIONS = "predictions"
    """Predicted and stored means of every channel."""


@lazy_dataclass()
class View:
    """How a report is to look at the place where it goes."""

    style: TextStyle = field(default_factory=TextStyle)
    """Of text; no form for machines heeds it."""
    root: Path = field(default_factory=Path)
    """The folder to which file names are relative, for programs that show findings beside files."""
    statistics: bool = False
    """Counts instead of findings, in text."""
    repeated: tuple[str, ...] = ()
    """The command and its words, but for those of outputs; empty where none was given."""


class GrowingForm(Protocol):
    """A form of the report that grows with its parts."""

    def part(self, part: Part) -> str:
        """What is to be written now."""
        ...

    def end(self, tally: Tally) -> Iterator[str]:
        """The rest, with the counts of all parts, piece by piece."""
        ...


@lazy_dataclass()
class ReportForm:
    """One form of the report, with a renderer for each thing that there is to tell."""

    name: str
    """As ``--format`` takes it."""
    suffix: str
    """What files of it are called: ``.json``."""
    scan: Callable[[View], GrowingForm]
    diff: Callable[[Diff, View], str] | None = None
    """None where a comparison of several files has no place in it."""
    fix: Callable[[Repair, View], str] | None = None
    """None where nothing is said of a repair."""
    needs: frozenset[Wish] = frozenset()
    shows_models: bool = True
    """Whether it asks for the models of a part that has its line of JSON Lines."""
    check: Callable[[], None] | None = None
    """Raises UsageError where what it takes is not installed; None where it takes nothing."""


def of_findings(name: str, suffix: str, render: Callable[[Report, Path], str]) -> ReportForm:
    """A form that shows findings, skipped rules and errors, which every report has.

    Args:
        name: As ``--format`` takes it.
        suffix: What files of it are called.
        render: Writes a whole report, with file names relative to a folder.
    """
    return ReportForm(
        name,
        suffix,
        scan=lambda view: Whole(render, view.root),
        diff=lambda diff, view: render(diff.report, view.root),
    )


class Whole:
    """A form that needs the whole report before its first byte, and shows no layers."""

    def __init__(self, render: Callable[[Report, Path], str], root: Path) -> None:
        """Start with nothing said.

        Args:
            render: Writes a whole report.
            root: The folder to which file names are relative.
        """
        self._render = render
        self._root = root
        self._parts: list[Report] = []

    def part(self, part: Part) -> str:
        """Nothing yet."""
        report = part.report
        # Of a healthy model little is left without them.
        models = tuple(replace(m, layers=(), agreement=None, run=None) for m in report.models)
        self._parts.append(replace(report, models=models))
        return ""

    def end(self, _tally: Tally) -> Iterator[str]:
        """All of it."""
        yield self._render(joined(self._parts[-1], self._parts), self._root)
